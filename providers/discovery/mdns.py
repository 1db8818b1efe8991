"""Boards that announce themselves by multicast DNS (RFC 6762).

Firmware 2.0 and later runs Avahi with its stock configuration under the host name `turingpi`: the BMC answers for
`turingpi.local`, the second board of a LAN for `turingpi-2.local`, and so on. It announces no service, so the names
are asked for; 1.x announces nothing. Source: `tp2bmc_defconfig` (BR2_TARGET_GENERIC_HOSTNAME, BR2_PACKAGE_AVAHI_DAEMON)
in https://github.com/turing-machines/BMC-Firmware and https://docs.turingpi.com/docs/turing-pi2-bmc-ui.

A board whose API is not on port 443 can only be found if somebody has it announce `_https._tcp` (RFC 6763).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import ifaddr
from zeroconf import (  # type: ignore[attr-defined]  # the resolver is public, but not in its __all__
    AddressResolverIPv4,
    BadTypeInNameException,
    IPVersion,
    ServiceStateChange,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from providers.errors import UserError

HOST = "turingpi"
MOST_BOARDS = 12  # of which each is asked for by name
WAIT_S = 3.0
_WEB = "_https._tcp.local."


@dataclass(frozen=True)
class Announced:
    """A board's name, its address, and the port of its API where it tells one."""

    name: str
    address: str
    port: int | None = None

    @property
    def url(self) -> str:
        """The address as settings take it."""
        return self.address if self.port in (None, 443) else f"{self.address}:{self.port}"


def own_addresses() -> list[str]:
    """This machine's IPv4 addresses in its LANs; loopback is none."""
    found = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    return [address for address in found if not ipaddress.ip_address(address).is_loopback]


def announced(interfaces: Sequence[str], wait_s: float = WAIT_S) -> list[Announced]:
    """The boards that answer to their name within `wait_s` seconds, in the order of their names.

    Args:
        interfaces: this machine's addresses in the LANs to ask in; a loopback address keeps the question here.
        wait_s: seconds for all of it.

    Raises:
        UserError: an address is not this machine's, or multicast is not possible there.
    """
    if not interfaces:
        return []
    try:
        for address in interfaces:  # before zeroconf, which leaves a socket open when it fails
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
                tried.bind((address, 0))
        return asyncio.run(_asked(list(interfaces), wait_s))
    except OSError as error:
        raise UserError(
            f"mDNS on {', '.join(interfaces)}: {error.strerror or error}; name the boards with --board"
        ) from None


async def _asked(interfaces: list[str], wait_s: float) -> list[Announced]:
    async with AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only) as lan:
        services = asyncio.create_task(_services(lan, wait_s))
        names = [HOST, *(f"{HOST}-{number}" for number in range(2, MOST_BOARDS + 1))]
        hosts = await asyncio.gather(*(_host(lan, name, wait_s) for name in names))
        ports = await services
    # A service tells the port; the name alone means 443.
    return [Announced(name, address, ports.get(address)) for found in hosts for name, address in found]


async def _host(lan: AsyncZeroconf, name: str, wait_s: float) -> list[tuple[str, str]]:
    resolver = AddressResolverIPv4(f"{name}.local.")
    await resolver.async_request(lan.zeroconf, wait_s * 1000)
    return [(name, address) for address in resolver.parsed_addresses(IPVersion.V4Only)]


async def _services(lan: AsyncZeroconf, wait_s: float) -> dict[str, int]:
    """Address -> port of the web services on hosts with a board's name."""
    seen: set[str] = set()

    def note(zeroconf: object, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        seen.add(name)

    browser = AsyncServiceBrowser(lan.zeroconf, _WEB, handlers=[note])
    await asyncio.sleep(wait_s / 2)
    await browser.async_cancel()
    found = await asyncio.gather(*(_service(lan, name, wait_s / 2) for name in seen))
    return {address: port for service in found for address, port in service}


async def _service(lan: AsyncZeroconf, name: str, wait_s: float) -> list[tuple[str, int]]:
    try:
        info = AsyncServiceInfo(_WEB, name)
    except BadTypeInNameException:
        return []  # somebody else's malformed announcement
    await info.async_request(lan.zeroconf, wait_s * 1000)
    server = (info.server or "").removesuffix(".local.")
    if not (server == HOST or server.startswith(f"{HOST}-")) or not info.port:
        return []
    return [(address, info.port) for address in info.parsed_addresses(IPVersion.V4Only)]
