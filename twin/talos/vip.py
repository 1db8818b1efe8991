"""The shared address: held by one control plane through an election in etcd, forwarded to its own API server (B8)."""

from __future__ import annotations

import asyncio
import fnmatch
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twin.talos.registry import lan
from twin.talos.relay import Relay

if TYPE_CHECKING:
    from twin.talos.os import Os


@dataclass
class Claim:
    """Who holds a shared address, and until when (monotonic seconds) nobody else may take it."""

    holder: Os
    until: float


class Vip:
    """Campaigns for the addresses of the node's own config; the links they name must exist on this machine."""

    def __init__(self, system: Os) -> None:
        self.system = system
        self._relays: dict[str, Relay] = {}

    def held(self) -> list[str]:
        """The shared addresses that this node holds now."""
        return list(self._relays)

    async def run(self) -> None:
        """Campaign for ever."""
        clock, vip_s = self.system.lab.clock, self.system.lab.times.vip_s
        # Real servers share the cores of one machine: who is busy for a second has not lost its lease.
        lease_s, round_s = clock.real_s(vip_s, floor_s=2.0), clock.real_s(vip_s, floor_s=0.6) / 3
        while True:
            wanted = wanted_addresses(self.system)
            for address in [held for held in self._relays if held not in wanted]:
                self._drop(address)
            if wanted:
                await self._campaign(wanted, lease_s)
            await asyncio.sleep(round_s)

    def cut(self) -> None:
        """Power is lost: connections end, the claim stays until its lease is over."""
        for relay in self._relays.values():
            relay.close()
        self._relays.clear()

    def release(self) -> None:
        """The node shuts down in order: another may take the addresses at once."""
        for address in list(self._relays):
            self._drop(address)

    async def _campaign(self, wanted: list[str], lease_s: float) -> None:
        etcd = self.system.etcd
        healthy = etcd is not None and await etcd.healthy()
        for address in wanted:
            if healthy:
                self._claim(address, lease_s)
            elif address in self._relays and self._lapsed(address):
                self._drop(address)

    def _lapsed(self, address: str) -> bool:
        claim = lan(self.system.lab).claims.get(address)
        return claim is None or claim.holder is not self.system or claim.until < time.monotonic()

    def _claim(self, address: str, lease_s: float) -> None:
        claims, now = lan(self.system.lab).claims, time.monotonic()
        claim = claims.get(address)
        if claim is not None and claim.holder is not self.system and claim.until > now:
            if address in self._relays:
                self._drop(address)
            return
        claims[address] = Claim(self.system, now + lease_s)
        if address not in self._relays:
            self._take(address)

    def _take(self, address: str) -> None:
        relay = Relay(lambda: [(self.system.address, 6443)])
        try:
            relay.listen(address, 6443)
        except OSError:
            return  # the last holder's socket is not gone yet; the next round tries again
        self._relays[address] = relay
        self.system.emit("vip_acquired", vip=address)

    def _drop(self, address: str) -> None:
        relay = self._relays.pop(address, None)
        if relay is not None:
            relay.close()
        claims = lan(self.system.lab).claims
        if address in claims and claims[address].holder is self.system:
            del claims[address]


def wanted_addresses(system: Os) -> list[str]:
    """The shared addresses whose link exists on this machine."""
    if system.config is None or system.standing("vip-nic-missing") is not None:
        return []
    spec = system.machine.spec
    wanted = []
    for interface in system.at("machine", "network", "interfaces", default=[]):
        vip = (interface.get("vip") or {}).get("ip")
        if vip and _names_link(interface, spec.link, spec.mac):
            wanted.append(str(vip))
    documents = system.config.kind("Layer2VIPConfig")
    return wanted + [str(found.get("name")) for found in documents if _link_of(system, str(found.get("link")))]


def _names_link(interface: dict[str, Any], link: str, mac: str) -> bool:
    if interface.get("interface"):
        return bool(interface["interface"] == link)
    selector = interface.get("deviceSelector") or {}
    addresses = [selector[key] for key in ("hardwareAddr", "permanentAddr") if selector.get(key)]
    return bool(selector) and all(_matches(str(address), mac) for address in addresses) and not selector.get("busPath")


def _link_of(system: Os, link: str) -> bool:
    """Whether a document's link is the machine's own, or an alias of it (LinkAliasConfig)."""
    if system.config is None or link == system.machine.spec.link:
        return link == system.machine.spec.link
    for document in system.config.kind("LinkAliasConfig"):
        if document.get("name") == link:
            match = str((document.get("selector") or {}).get("match", ""))
            return system.machine.spec.mac.lower() in match.lower() or "physical" in match or "link.type" in match
    return False


def _matches(pattern: str, mac: str) -> bool:
    """Talos matches hardware addresses as globs."""
    return fnmatch.fnmatch(mac.lower(), pattern.lower())
