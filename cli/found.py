"""Which boards there are, for the verbs that write a stack's first settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from cli import words
from cli.asking import Asked
from cli.stacks import Stack
from providers.discovery import boards as look
from providers.discovery.boards import Board, Slot
from providers.dynamic import lazily
from providers.errors import UserError
from providers.turingpi.client import Endpoint

if TYPE_CHECKING:
    from providers.discovery import mdns
else:
    mdns = lazily("providers.discovery.mdns")  # no other verb needs what it imports

Boards = Annotated[list[str] | None, typer.Option("--board", help="A BMC's address. Absent: asked for by mDNS.")]
Sweep = Annotated[str | None, typer.Option("--sweep", help="Look for boards at every address of this subnet.")]
Interfaces = Annotated[
    list[str] | None, typer.Option("--interface", help="This machine's address in the LAN to ask in by mDNS.")
]
Username = Annotated[str, typer.Option("--username", help="User of the BMCs.")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="The BMCs' password, in a file; `-` is standard input.")
]


@dataclass(frozen=True)
class Where:
    """Where boards are looked for, and with which login."""

    boards: list[str]
    sweep: str | None
    interfaces: list[str]
    username: str
    password_file: Path | None


@dataclass(frozen=True)
class Found:
    """The boards by the names that the settings will give them, and the passwords that they took."""

    boards: Mapping[str, Board]
    passwords: Mapping[str, str] = field(repr=False)


def find(stack: Stack, where: Where, asked: Asked) -> Found:
    """The boards of a lab, each looked at with a password if there is one.

    Raises:
        UserError: none was found, or an address is no board's.
        AuthError: a board refused the password.
    """
    addresses = _addresses(stack, where)
    if not addresses:
        given = asked.text("address of a board's BMC; none answered to its name", "--board")
        asked.finish()
        addresses = [_confirmed(given)]
    one = _password(where)
    boards: dict[str, Board] = {}
    passwords: dict[str, str] = {}
    for number, address in enumerate(addresses, 1):
        name = f"board{number}"
        password = one or asked.password(f"password of {where.username} on {address} (empty: later)")
        boards[name] = _looked(address, where.username, password)
        passwords |= {name: password} if password else {}
    return Found(boards, passwords)


def _addresses(stack: Stack, where: Where) -> list[str]:
    if where.boards:
        return look.distinct(_confirmed(address) for address in where.boards)
    if where.sweep is not None:
        return look.sweep(_network(where.sweep))
    words.say("asking for boards by mDNS")
    interfaces = where.interfaces or (["127.0.0.1"] if stack.is_twin else mdns.own_addresses())
    seen = [found for found in mdns.announced(interfaces) if _is_in(found.address, lan(stack))]
    known = [look.identify(found.url) for found in seen]
    return look.distinct(address for address in known if address is not None)


def lan(stack: Stack) -> IPv4Network | None:
    """A twin's simulated LAN; None for a real lab, whose LAN nobody has told yet.

    Several twins may share this machine's loopback, and each is a lab of its own.
    """
    if not stack.is_twin:
        return None
    spec: Any = yaml.safe_load(stack.lab_file.read_text(encoding="utf-8"))
    return IPv4Network(spec["subnet"])


def _is_in(address: str, network: IPv4Network | None) -> bool:
    return network is None or IPv4Address(address) in network


def _confirmed(address: str) -> str:
    found = look.identify(address)
    if found is None:
        raise UserError(f"{address}: no Turing Pi's BMC answers there; is it the BMC's address, and is the board on?")
    return found


def _network(text: str) -> IPv4Network:
    try:
        return IPv4Network(text, strict=False)
    except ValueError:
        raise UserError(f"--sweep {text!r}: write a subnet such as 192.168.1.0/24") from None


def _password(where: Where) -> str:
    if where.password_file is None:
        return ""
    if str(where.password_file) == "-":
        return sys.stdin.readline().rstrip("\n")
    try:
        return where.password_file.read_text(encoding="utf-8").strip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--password-file {where.password_file}: can't be read ({error})") from None


def _looked(address: str, username: str, password: str) -> Board:
    if not password and not address.startswith("http://"):  # firmware 1.x knows no login
        return look.blind(address)
    url = address if "://" in address else f"https://{address}"
    return look.look(Endpoint(url, username, password), address)


def as_json(boards: Mapping[str, Board]) -> dict[str, Any]:
    """What was found, for machines."""
    return {
        name: {
            "address": board.address,
            "version": board.version,
            "slots": {
                str(slot.number): {
                    "power": slot.powered,
                    "module": slot.evidence.kind or None,
                    "address": slot.evidence.address or None,
                    "mac": slot.evidence.mac or None,
                    "talos": slot.evidence.state.value if slot.evidence.state else None,
                }
                for slot in board.slots.values()
            },
        }
        for name, board in boards.items()
    }


def show(boards: Mapping[str, Board]) -> None:
    """What was found, for people."""
    for name, board in boards.items():
        words.say(f"{name}: {board.address}" + (f", firmware {board.version}" if board.version else ""))
    rows = [(name, *_row(slot)) for name, board in boards.items() for slot in board.slots.values()]
    headings = ("board", "slot", "power", "module", "address", "mac", "talos")
    words.console(stderr=True).print(words.table(headings, rows))


def _row(slot: Slot) -> tuple[str, ...]:
    known = slot.evidence
    power = {True: "on", False: "off", None: "unknown"}[slot.powered]
    state = known.state.value if known.state else "-"
    return str(slot.number), power, known.kind or "-", known.address or "-", known.mac or "-", state
