"""Which module becomes which node: the sections of a first settings file. Nothing is asked of a device here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from cli.asking import Asked, known_names
from providers.discovery import modules
from providers.discovery.boards import Board, Slot
from providers.errors import UserError
from providers.talos.client import Mode
from settings import kinds
from settings.written import EXAMPLE

COUNTS = (1, 3, 5)  # of control planes: an even number survives no more losses than one less
Place = tuple[str, Slot]


@dataclass(frozen=True)
class Answers:
    """What the options said; None and empty are left to questions and defaults."""

    vip: str = ""
    name: str = ""
    lan: str = ""
    control_planes: int | None = None
    slots: Mapping[str, str] = field(default_factory=dict)
    address: Mapping[str, str] = field(default_factory=dict)
    mac: Mapping[str, str] = field(default_factory=dict)
    install: bool | None = None
    talos: str = ""
    kubernetes: str = ""
    factory: str = ""


def sections(
    boards: Mapping[str, Board], answers: Answers, asked: Asked, username: str = "root"
) -> dict[str, dict[str, Any]]:
    """The sections of a settings file, from what was found and what is answered.

    Raises:
        UserError: an answer is wrong, or missing with nobody to ask.
    """
    places = {f"node{number}": place for number, place in enumerate(_places(boards, answers), 1)}
    known_names("--address", answers.address, places)
    known_names("--mac", answers.mac, places)
    vip = asked.text("a free address that the control planes will share", "--vip", answers.vip, kind=kinds.Address)
    leaders = _leaders(list(places.values()), answers)
    nodes = {name: _node(name, place, answers, asked, leads=place in leaders) for name, place in places.items()}
    asked.finish()
    generation = {"generation": 1} if _installs(places, answers, asked) else {}
    return {
        "cluster": _cluster(answers, vip),
        "boards": {name: board_section(board.address, username) for name, board in boards.items()},
        "nodes": {name: {**node, **generation} for name, node in nodes.items()},
    }


def board_section(address: str, username: str) -> dict[str, Any]:
    """A board as the settings have it; its password is stored afterwards."""
    return {"address": address, **({"username": username} if username != "root" else {})}


def _places(boards: Mapping[str, Board], answers: Answers) -> Iterator[Place]:
    """Board and slot of every module that becomes a node; a board on which nothing was seen is taken to be full."""
    known_names("--slots", answers.slots, boards)
    for name, board in boards.items():
        seen = [slot for slot in board.slots.values() if slot.occupied] or list(board.slots.values())
        if name in answers.slots:
            seen = [board.slots[number] for number in _numbers(name, answers.slots[name])]
        yield from ((name, slot) for slot in seen)


def _numbers(board: str, text: str) -> list[int]:
    numbers = {int(part) if part.strip().isdecimal() else 0 for part in text.split(",")}
    if not numbers <= {1, 2, 3, 4}:
        raise UserError(f"--slots {board}={text}: slots are 1 to 4, with commas between them")
    return sorted(numbers)


def _leaders(places: list[Place], answers: Answers) -> list[Place]:
    """The control planes: each on a board of its own, as far as there are boards."""
    count = answers.control_planes or (3 if len(places) >= 3 else 1)
    if count not in COUNTS or count > len(places):
        raise UserError(f"--control-planes {count}: 1, 3 or 5, and there are {len(places)} modules")
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, int]] = []
    for index, (board, _) in enumerate(places):
        ranked.append((seen[board], index))
        seen[board] += 1
    return [places[index] for _, index in sorted(ranked)[:count]]


def _node(name: str, place: Place, answers: Answers, asked: Asked, *, leads: bool) -> dict[str, Any]:
    board, slot = place
    known = slot.evidence
    where = f"{name} ({board}, slot {slot.number})"
    # What a module said of itself is not asked again.
    address = answers.address.get(name, "") or known.address
    address = asked.text(f"address of {where}", f"--address {name}=...", address, kind=kinds.Address)
    mac = answers.mac.get(name, "") or (known.mac if address == known.address else "")
    guess = modules.neighbour(address) if asked.interactive else ""
    mac = asked.text(f"MAC address of {where}", f"--mac {name}=...", mac, guess, kinds.Mac)
    return {
        "role": "controlplane" if leads else "worker",
        "address": address,
        "mac": mac.lower().replace("-", ":"),
        "machine": {"board": board, "slot": slot.number},
        **({"module": known.kind} if known.kind == "cm4" else {}),
    }


def _installs(places: Mapping[str, Place], answers: Answers, asked: Asked) -> bool:
    """Whether the first `up` may write the modules' disks; never those of a cluster that runs."""
    taken = [name for name, (_, slot) in places.items() if slot.evidence.state is Mode.FOREIGN]
    if taken and answers.install:
        raise UserError(f"--install: {', '.join(taken)} already run Talos with a config; `homelab adopt` takes it over")
    question = f"install Talos on these {len(places)} modules at the first `up`, which erases their disks"
    return False if taken else asked.yes(question, answers.install, default=False)


def _cluster(answers: Answers, vip: str) -> dict[str, Any]:
    shipped = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["config"]["homelab:cluster"]
    return {
        **({"name": answers.name} if answers.name else {}),
        "endpoint": {"vip": vip},
        "talos": {
            "version": answers.talos or shipped["talos"]["version"],
            **({"factory": answers.factory} if answers.factory else {}),
        },
        "kubernetes": {"version": answers.kubernetes or shipped["kubernetes"]["version"]},
        "network": {"subnet": answers.lan or around(vip)},
    }


def around(vip: str) -> str:
    """The /24 around an address, which most houses have."""
    return f"{vip.rpartition('.')[0]}.0/24"
