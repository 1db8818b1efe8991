"""Which disks this machine has, which cards the settings have in them, and what is on them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from cli import stacks, words
from cli.options import Json, StackName
from cli.stacks import Stack
from providers.disk import inventory, marker, proof, wish
from providers.disk.inventory import Disk, Kind
from providers.disk.wish import Wish
from providers.dynamic import lazily
from providers.errors import RefusedError
from settings import load

component = lazily("components.card")  # no other verb needs what it imports
NEVER = (Kind.OTHER,)


@dataclass(frozen=True)
class Reader:
    """A disk that a card may be in.

    Attributes:
        disk: as it is seen.
        written_as: whose card it holds, by the note on it; "" is none, or it can't be read.
        cards: the cards that the settings have in it.
        fits: whether it could be written as a card at all.
        reasons: why not.
    """

    disk: Disk
    written_as: str
    cards: tuple[str, ...]
    fits: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """A card of the settings.

    Attributes:
        card: its name.
        generation: how often it may have been written.
        disk: the path it is found at now; "" is nowhere.
        reasons: why it could not be written now.
    """

    card: str
    generation: int
    disk: str
    reasons: tuple[str, ...]


def wishes(stack: Stack) -> tuple[Wish, ...]:
    """The cards of a lab; none where the stack has no settings yet."""
    if not stack.settings_file.exists():
        return ()
    return tuple(wish.read(component.props(name, card)) for name, card in load(stack.settings_file).cards.items())


def wanted(one: Wish, disks: tuple[Disk, ...]) -> Wanted:
    """A card, and the disk that it is found in."""
    try:
        disk = proof.find(one, disks)
    except RefusedError as error:
        return Wanted(one.card, one.generation, "", (str(error),))
    return Wanted(one.card, one.generation, disk.path, tuple(proof.refusals(one, disk)))


def reader(disk: Disk, found: tuple[Wanted, ...]) -> Reader:
    """A disk with what the settings say of it."""
    anything = Wish("", disk.path, "", 0, disk.size_bytes, "", "", "", 0)
    reasons = tuple(proof.refusals(anything, disk))
    note = marker.on(disk.path)
    of = f"{note.card}, generation {note.generation}, {note.state}" if note is not None else ""
    return Reader(disk, of, tuple(one.card for one in found if one.disk == disk.path), not reasons, reasons)


def command(stack: StackName = "twin", as_json: Json = False) -> None:
    """List the disks of this machine, what to call them in the settings, and the cards that the settings have.

    It writes nothing, and asks nobody. A disk that could not be written as a card says why.
    Exit code: 0; 1 when the settings are wrong.
    """
    chosen = stacks.find(stack)
    disks = inventory.disks()
    found = tuple(wanted(one, disks) for one in wishes(chosen))
    readers = tuple(reader(disk, found) for disk in disks if _is_shown(disk, found))
    if as_json:
        print(
            json.dumps({"disks": [_plain(one) for one in readers], "cards": [asdict(one) for one in found]}, indent=2)
        )
        return
    show(readers, found)


def _is_shown(disk: Disk, found: tuple[Wanted, ...]) -> bool:
    """Loop devices without a file behind them, and parts of the kernel that call themselves disks, say nothing."""
    named = any(one.disk == disk.path for one in found)
    return named or (disk.kind not in NEVER and (disk.kind is not Kind.LOOP or disk.size_bytes > 0))


def _plain(one: Reader) -> dict[str, Any]:
    return {**asdict(one), "disk": {**asdict(one.disk), "kind": one.disk.kind.value}}


def show(readers: tuple[Reader, ...], found: tuple[Wanted, ...]) -> None:
    """Both for people, each disk with the name to write into the settings."""
    out = words.console()
    for one in readers:
        out.print(f"{one.disk}", soft_wrap=True, markup=False)
        for title, text in _lines(one):
            out.print(f"  {title:<12}{text}", soft_wrap=True, markup=False)
    for card in found:
        at = card.disk or "not here"
        why = f"; {'; '.join(card.reasons)}" if card.reasons else ""
        out.print(f"cards.{card.card}: generation {card.generation}, {at}{why}", soft_wrap=True, markup=False)


def _lines(one: Reader) -> list[tuple[str, str]]:
    lines = [("name", link) for link in one.disk.links]
    holds = one.disk.holds or inventory.probed(one.disk.path)
    lines += [("holds", "; ".join(holds))] if holds else []
    lines += [("written as", one.written_as)] if one.written_as else []
    lines += [("settings", f"cards.{card}") for card in one.cards]
    return lines + [("no card", reason) for reason in one.reasons]
