"""Turing Pi 2 boards by what their BMC answers: which addresses are boards, and what is in their slots.

Nothing is changed on a board. An address is looked at without credentials: firmware 2.0 and later refuses in words of
its own, 1.x answers (facts A1, A3). A whole subnet is looked at with one connection an address, a few at a time.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from providers.deadline import Deadline
from providers.discovery import modules
from providers.discovery.modules import Evidence
from providers.errors import HomelabError, ProtocolError, RefusedError, UnreachableError, UserError
from providers.turingpi import answers
from providers.turingpi.answers import SLOTS, NodeInfo
from providers.turingpi.client import Bmc, Endpoint
from providers.turingpi.wire import Answer, Wire

ANSWER_S = 5.0
KNOCK_S = 0.7
AT_ONCE = 16
MOST_ADDRESSES = 1024
_ASKS_FOR_LOGIN = "no authorization header provided"


@dataclass(frozen=True)
class Slot:
    """A slot: its power as the BMC has it stored, and what is known of its module; nothing is known of an empty one."""

    number: int
    powered: bool | None
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def occupied(self) -> bool:
        """Whether anything was ever seen of a module here. A BMC can't tell an empty slot from a silent one."""
        return bool(self.powered) or self.evidence.any


@dataclass(frozen=True)
class Board:
    """A board: its address as settings take it, what it tells of itself, and its slots where the login was taken."""

    address: str
    version: str = ""
    slots: Mapping[int, Slot] = field(default_factory=dict)


def identify(address: str, timeout_s: float = ANSWER_S) -> str | None:
    """The address as settings take it (`http://` added for firmware 1.x), or None where no board answers.

    Args:
        address: host, host:port, or a URL.
        timeout_s: seconds for each of two tries.
    """
    urls = [address] if "://" in address else [f"https://{address}", f"http://{address}"]
    return next((_as_given(url, address) for url in urls if _is_board(url, timeout_s)), None)


def sweep(network: IPv4Network, port: int = 443) -> list[str]:
    """The boards of a subnet, found by asking every address.

    Raises:
        UserError: the subnet has more than 1024 addresses.
    """
    if network.num_addresses > MOST_ADDRESSES:
        raise UserError(f"{network}: {network.num_addresses} addresses are too many to ask; write a /22 or smaller")
    addresses = [str(address) for address in network.hosts()]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda address: _swept(address, port), addresses)
        return [board for board in found if board is not None]


def look(endpoint: Endpoint, address: str) -> Board:
    """A board with its slots. Modules that run Talos are asked for their MAC address themselves.

    Raises:
        AuthError: the login is refused; it is not tried again.
        HomelabError: the board does not answer.
    """
    with Bmc.connect(endpoint, ANSWER_S) as bmc:
        power, told = bmc.power(), _node_info(bmc)
        about = bmc.info()
        consoles = {slot: _console(bmc, slot) for slot in SLOTS}
    with ThreadPoolExecutor(len(SLOTS)) as pool:
        evidence = pool.map(lambda slot: modules.evidence(consoles[slot], told.get(slot)), SLOTS)
        slots = {slot: Slot(slot, power.get(slot), seen) for slot, seen in zip(SLOTS, evidence, strict=True)}
    # 2.1 tells bmcd's version, and the firmware's beside it; later ones only the firmware's (facts A1)
    return Board(address, about.get("build_version") or about.get("version", ""), slots)


def blind(address: str) -> Board:
    """A board that nobody may log in to: four slots of which nothing is known."""
    return Board(address, slots={slot: Slot(slot, None) for slot in SLOTS})


def distinct(addresses: Iterable[str]) -> list[str]:
    """Each address once, in the order in which they came."""
    return list(dict.fromkeys(addresses))


def _swept(address: str, port: int) -> str | None:
    for number in dict.fromkeys((port, 80)):
        try:
            socket.create_connection((address, number), KNOCK_S).close()
        except OSError:
            continue
        named = address if number in (443, 80) else f"{address}:{number}"
        if found := identify(named if number != 80 else f"http://{address}"):
            return found
    return None


def _is_board(url: str, timeout_s: float) -> bool:
    """Whether a BMC answers here. Firmware 2 redirects plain http, and the question about power is harmless."""
    wire = Wire(url, None)
    try:
        answer = wire.request("GET", "/api/bmc?opt=get&type=power", Deadline(timeout_s))
        return _is_bmc(answer)
    except (UnreachableError, ProtocolError, RefusedError):
        return False
    finally:
        wire.close()


def _is_bmc(answer: Answer) -> bool:
    if answer.status == 401:
        return answer.text.strip().lower().startswith(_ASKS_FOR_LOGIN)
    return bool(answers.power("power", answers.document("power", answer)))


def _as_given(url: str, address: str) -> str:
    return url if url.startswith("http://") else address.removeprefix("https://")


def _node_info(bmc: Bmc) -> dict[int, NodeInfo]:
    try:
        return bmc.node_info()
    except (RefusedError, ProtocolError):
        return {}  # firmware before 2.1


def _console(bmc: Bmc, slot: int) -> str:
    try:
        return bmc.uart(slot)
    except (RefusedError, ProtocolError):
        return ""
    except HomelabError as error:
        raise UnreachableError(f"{bmc.name}: slot {slot}: its console can't be read ({error})") from error
