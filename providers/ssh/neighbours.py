"""Finds a host in the LAN by the MAC address of its card: the kernel's own table, filled by knocking everywhere."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from pathlib import Path

from providers import pace
from providers.deadline import Deadline
from providers.errors import UnreachableError

TABLE = Path("/proc/net/arp")
FIND_S = 30.0
_LARGEST = 4096  # addresses that are knocked at
_COMPLETE = 0x2  # flag of an entry that an answer made (linux/if_arp.h, ATF_COM)
_DISCARD = 9


def find(name: str, mac: str, subnet: str, deadline: Deadline | None = None, table: Path = TABLE) -> str:
    """The address of the card with this MAC.

    Args:
        name: the host, for the error.
        mac: six pairs of hex.
        subnet: the LAN to look in; this machine has to be in it.
        deadline: how long to look.
        table: the kernel's table.

    Raises:
        UnreachableError: nobody there has it, or several do.
    """
    deadline = deadline or Deadline(pace.limit(FIND_S))
    network = ipaddress.IPv4Network(subnet)
    while True:
        knock(network)
        deadline.sleep(pace.interval(1))
        found = sorted({address for address, seen in entries(table.read_text()) if seen == mac.lower()})
        if len(found) == 1:
            return found[0]
        if deadline.expired:
            seen = f"{' and '.join(found)} have it" if found else f"nobody in {network} has it"
            raise UnreachableError(
                f"{name} ({mac}): {seen}; see that it is on and in this LAN, or write hosts.{name}.address"
            )


def entries(text: str) -> list[tuple[str, str]]:
    """Address and MAC of every complete entry of the kernel's table."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return [(row[0], row[3].lower()) for row in rows if len(row) >= 6 and int(row[2], 16) & _COMPLETE]


def knock(network: ipaddress.IPv4Network) -> None:
    """One datagram to every address, so that the kernel asks who has it. Nobody has to answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knocker:
        for number, address in enumerate(network.hosts()):
            if number >= _LARGEST:
                return
            with contextlib.suppress(OSError):
                knocker.sendto(b"", (str(address), _DISCARD))
