"""What must hold between the settings of cards, and between cards and the rest of the lab."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING, Any

from . import cards, kinds
from .problems import Problem, Where
from .wellformed import read

if TYPE_CHECKING:
    from .draft import Draft

_NAMED_FOR_EVER = ("/dev/disk/", "/dev/loop")


@dataclass(frozen=True)
class CardDraft:
    """The well-formed values of one card; None is absent or malformed.

    Attributes:
        given: the card's keys as the file has them.
    """

    name: str
    disk: str | None
    serial: str | None
    kind: cards.CardKind | None
    hostname: str | None
    address: IPv4Interface | None
    gateway: IPv4Address | None
    given: Mapping[str, Any]

    @property
    def where(self) -> Where:
        """The card's place in the file."""
        return ("cards", self.name)

    @property
    def prepare(self) -> Mapping[str, Any] | None:
        """What the file says for the first boot."""
        found = self.given.get("prepare")
        return found if isinstance(found, Mapping) else None


def cards_draft(section: object) -> tuple[CardDraft, ...]:
    """Reads what can be read of the section `cards`."""
    found = section.items() if isinstance(section, Mapping) else ()
    return tuple(_one(name, item) for name, item in found if isinstance(name, str) and isinstance(item, Mapping))


def _one(name: str, given: Mapping[str, Any]) -> CardDraft:
    prepare = given.get("prepare")
    prepare = prepare if isinstance(prepare, Mapping) else {}
    network = prepare.get("network")
    network = network if isinstance(network, Mapping) else {}

    def one(kind: Any, raw: object) -> Any:
        return None if raw is None else read(kind, raw)

    return CardDraft(
        name=name,
        disk=one(cards.CardDisk, given.get("disk")),
        serial=one(cards.Serial, given.get("serial")),
        kind=one(cards.CardKind, given.get("kind")),
        hostname=one(kinds.Name, prepare.get("hostname")) or one(kinds.Name, name),
        address=one(cards.InterfaceAddress, network.get("address")),
        gateway=one(kinds.Address, network.get("gateway")),
        given=given,
    )


def disks(draft: "Draft") -> Iterator[Problem]:
    """Every card names one disk, in a way that still means it tomorrow."""
    for card in draft.cards:
        if "disk" not in card.given and "serial" not in card.given:
            yield Problem(card.where, "names no disk", "write disk or serial; `homelab cards` lists both")
        disk = card.disk or ""
        if disk.startswith("/dev/") and not disk.startswith(_NAMED_FOR_EVER) and "serial" not in card.given:
            fix = "take its name under /dev/disk/by-id, or write its serial too; `homelab cards` lists both"
            yield Problem((*card.where, "disk"), f"{disk} may be another disk after the next boot", fix)
    yield from _twice(((card.disk, card) for card in draft.cards), "disk", "give each card a reader of its own")
    serials = ((card.serial, card) for card in draft.cards if card.disk is None)
    yield from _twice(serials, "serial", "name the disks by their path too")


def _twice(found: Iterable[tuple[Hashable, CardDraft]], key: str, fix: str) -> Iterator[Problem]:
    seen: dict[Hashable, CardDraft] = {}
    for value, card in found:
        first = seen.setdefault(value, card) if value is not None else card
        if first is not card:
            yield Problem((*card.where, key), f"is also that of {first.name}", fix)


def sizes(draft: "Draft") -> Iterator[Problem]:
    """A range that a card can be in."""
    for card in draft.cards:
        low, high = card.given.get("min_gb", 1), card.given.get("max_gb")
        if isinstance(low, int) and isinstance(high, int) and low > high:
            yield Problem((*card.where, "max_gb"), f"{high} is less than min_gb, {low}", "swap them")


def preparation(draft: "Draft") -> Iterator[Problem]:
    """Who reads a preparation has one, with a key, and Talos has none."""
    for card in draft.cards:
        where = (*card.where, "prepare")
        if card.kind is cards.CardKind.TALOS and card.prepare is not None:
            yield Problem(where, "is never read by Talos", "remove it: Talos is configured over the network")
        if card.kind not in (None, cards.CardKind.TALOS) and "prepare" not in card.given:
            fix = "write for example `prepare: {keys: [ssh-ed25519 AAAA...]}`"
            yield Problem(where, f"is missing, and nobody could log in to {card.kind}", fix)
        if card.prepare is not None and card.prepare.get("keys") == []:
            yield Problem((*where, "keys"), "is empty, so nobody could log in", "write the line of a .pub file")


def networks(draft: "Draft") -> Iterator[Problem]:
    """Nobody shares an address, and a gateway goes with one."""
    owners = _owners(draft)
    for card in draft.cards:
        where = (*card.where, "prepare", "network")
        if card.gateway is not None and card.address is None:
            yield Problem((*where, "gateway"), "goes with an address only", "write address too, or leave both to DHCP")
        if card.address is None:
            continue
        if card.gateway is not None and card.gateway not in card.address.network:
            yield Problem(
                (*where, "gateway"), f"{card.gateway} is outside of {card.address.network}", "correct one of them"
            )
        if owner := owners.get(card.address.ip):
            yield Problem((*where, "address"), f"is also {owner}", "give it a free address")
        owners.setdefault(card.address.ip, f"the address of {card.name}")


def _owners(draft: "Draft") -> dict[IPv4Address, str]:
    owners = {node.address: f"the address of {node.name}" for node in draft.nodes if node.address is not None}
    owners |= {draft.vip: "the VIP"} if draft.vip is not None else {}
    return owners | ({draft.gateway: "the gateway"} if draft.gateway is not None else {})


def names(draft: "Draft") -> Iterator[Problem]:
    """One host name a machine; and `**::card-*`, a node's wildcard, hits no card."""
    nodes = {node.name for node in draft.nodes}
    seen: dict[str, str] = {}
    for card in draft.cards:
        if card.hostname in nodes:
            fix = "rename the card, or write another prepare.hostname"
            yield Problem(card.where, f"has the host name of the node {card.hostname}", fix)
        first = seen.setdefault(card.hostname, card.name) if card.hostname else card.name
        if first != card.name:
            yield Problem(card.where, f"has the host name of {first}", "write another prepare.hostname")
    if draft.cards and "card" in nodes:
        yield Problem(("nodes", "card"), "has a name that stands for cards", "rename the node")


CHECKS = (disks, sizes, preparation, networks, names)
"""In the order in which problems are found."""
