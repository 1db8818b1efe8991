"""Ranges of addresses, written as a router's page shows them (`FIRST-LAST`) or as a network."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Annotated

from pydantic import PlainSerializer

from .kinds import as_text, kind
from .problems import quoted, wrong

_FIX = "write FIRST-LAST, such as 192.168.1.200-192.168.1.250, or a network such as 192.168.1.224/28"


@dataclass(frozen=True)
class AddressRange:
    """All addresses from the first to the last, both included."""

    first: IPv4Address
    last: IPv4Address

    def __contains__(self, address: object) -> bool:
        return isinstance(address, IPv4Address) and self.first <= address <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def overlaps(self, other: "AddressRange") -> bool:
        """Whether any address is in both."""
        return self.first <= other.last and other.first <= self.last

    def inside(self, network: IPv4Network) -> bool:
        """Whether every address is in the network."""
        return self.first in network and self.last in network

    def without(self, addresses: Iterable[IPv4Address]) -> Iterator["AddressRange"]:
        """What is left of the range when some of its addresses are taken out."""
        first = self.first
        for taken in sorted(addresses):
            if first < taken:
                yield AddressRange(first, taken - 1)
            first = max(first, taken + 1)
        if first <= self.last:
            yield AddressRange(first, self.last)


def _range(value: object) -> AddressRange:
    if isinstance(value, AddressRange):
        return value
    text = as_text(value, "192.168.1.200-192.168.1.250")
    try:
        found = _network(text) if "/" in text else _first_to_last(text)
    except (AddressValueError, ValueError):
        raise wrong(f"{quoted(text)} is not a range of addresses", _FIX) from None
    if found.first > found.last:
        raise wrong(f"{quoted(text)} ends before it begins", "write the lower address first")
    return found


def _network(text: str) -> AddressRange:
    network = IPv4Network(text)
    return AddressRange(network.network_address, network.broadcast_address)


def _first_to_last(text: str) -> AddressRange:
    first, _, last = text.partition("-")
    return AddressRange(IPv4Address(first.strip()), IPv4Address(last.strip()))


_SCHEMA = {"type": "string", "pattern": "^[0-9.]+ *(-|/) *[0-9.]+$"}

Range = Annotated[AddressRange, *kind(_range, _SCHEMA), PlainSerializer(str, return_type=str, when_used="json")]
