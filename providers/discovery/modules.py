"""What can be known of a module without touching it: from its console, from Talos on it, from this machine's ARP table.

Talos in maintenance mode prints its address on the serial console ("this machine is reachable at:"), which the BMC
keeps; whoever knows the address can ask Talos itself for the MAC address. Of others the ARP table is a hint at most.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from providers.errors import HomelabError
from providers.talos.client import Mode, Talos, probe
from providers.turingpi.answers import NodeInfo

PROBE_S = 2.0
ARP = Path("/proc/net/arp")
_NO_MAC = "00:00:00:00:00:00"
_IPV4 = r"(?:\d{1,3}\.){3}\d{1,3}"
_REACHABLE = re.compile(rf"reachable at:[^\n]*\n.{{0,300}}?\b({_IPV4})\b", re.DOTALL)  # IPv6 may be listed first
_KINDS = ((re.compile(r"RK3588|Turing RK1|rk1\b", re.IGNORECASE), "rk1"), (re.compile(r"CM4|Compute Module 4"), "cm4"))


@dataclass(frozen=True)
class Evidence:
    """What is known of a module; "" is unknown.

    Attributes:
        console: whether anything was ever on its serial console.
        kind: `rk1` or `cm4`.
        address: where its Talos said it answers.
        mac: of the network card that has that address.
        state: how its Talos API answers.
        name: what the owner had the board call it.
    """

    console: bool = False
    kind: str = ""
    address: str = ""
    mac: str = ""
    state: Mode | None = None
    name: str = ""

    @property
    def any(self) -> bool:
        """Whether there is a sign of a module."""
        return self.console or bool(self.name)


@dataclass(frozen=True)
class Card:
    """A network card; "" is unknown.

    Attributes:
        link: the kernel's name of it.
        mac: its MAC address.
        network: its own address with the prefix length. A VIP (a /32, here for a while) is none.
    """

    link: str
    mac: str
    network: str


def evidence(console: str, told: NodeInfo | None) -> Evidence:
    """What a module's console and its board's own notes tell, and what the module answers at the address in them."""
    address = printed_address(console)
    state = _state(address) if address else None
    return Evidence(
        console=bool(console.strip()),
        kind=_kind(f"{console}\n{told.module if told else ''}"),
        address=address,
        mac=_own_mac(address) if state is Mode.MAINTENANCE else "",
        state=state,
        name=told.name if told else "",
    )


def printed_address(console: str) -> str:
    """The last address under which Talos said, on its console, that it waits for a config; "" when it never did."""
    found = _REACHABLE.findall(console)
    return found[-1] if found else ""


def _own_mac(address: str) -> str:
    """The MAC address of the card with an address, asked of a Talos that lets everybody in; "" if it can't say."""
    try:
        with Talos.insecure(address) as talos:
            return card(talos, address).mac
    except HomelabError:
        return ""


def card(talos: Talos, address: str) -> Card:
    """The network card that has an address.

    Raises:
        HomelabError: the node does not answer.
    """
    placed = [
        (str(spec.get("address")), str(spec.get("linkName", "")))
        for _, spec in talos.listed("network", "AddressStatuses.net.talos.dev")
    ]
    link = next((link for cidr, link in placed if cidr.partition("/")[0] == address), "")
    mine = [cidr for cidr, other in placed if other == link and ":" not in cidr and not cidr.endswith("/32")]
    own = next((cidr for cidr in mine if cidr.partition("/")[0] == address), next(iter(mine), ""))
    for name, spec in talos.listed("network", "LinkStatuses.net.talos.dev"):
        if name == link:
            return Card(link, str(spec.get("permanentAddr") or spec.get("hardwareAddr") or "").lower(), own)
    return Card(link, "", own)


def neighbour(address: str, table: Path = ARP) -> str:
    """The MAC address that this machine last saw for an address; a hint, as a router may answer for others."""
    try:
        rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]]
    except OSError:
        return ""  # not Linux
    return next((row[3].lower() for row in rows if len(row) > 3 and row[0] == address and row[3] != _NO_MAC), "")


def _state(address: str) -> Mode | None:
    try:
        return probe(address, timeout_s=PROBE_S)
    except HomelabError:
        return None  # something else than Talos


def _kind(text: str) -> str:
    return next((kind for pattern, kind in _KINDS if pattern.search(text)), "")
