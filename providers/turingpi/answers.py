"""What a BMC's answers mean, in every shape that a firmware was seen to give them (facts A4 to A6, line 4a.8)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from providers.errors import ProtocolError, RefusedError
from providers.turingpi.wire import Answer

SLOTS = (1, 2, 3, 4)
_DEPTH = 8  # the deepest real answer is four levels down
_BLOCKED = re.compile(r"blocked for\s+([0-9a-z\s]+)", re.IGNORECASE)
_UNIT_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class State(Enum):
    """The transfer slot of a BMC; there is one for the whole board."""

    READY = "Ready"
    TRANSFERRING = "Transferring"
    DONE = "Done"
    ERROR = "Error"


@dataclass(frozen=True)
class Status:
    """A flash's status. `Done` and `Error` don't say whose they are (4a.1)."""

    state: State
    id: int | None = None
    written: int = 0
    size: int = 0
    text: str = ""


@dataclass(frozen=True)
class NodeInfo:
    """What the board has been told about a module, and for how long it has had power (seconds)."""

    slot: int
    name: str = ""
    module: str = ""
    power_on_s: int | None = None


def document(where: str, answer: Answer) -> Any:
    """The JSON of a good answer. `where` is the error's subject: board and question.

    Raises:
        RefusedError: the BMC said no; its words are in the message.
        ProtocolError: not a BMC's API, or a broken body.
    """
    if answer.status in (301, 302, 307, 308):
        raise ProtocolError(
            f"{where}: sent on to {answer.location or 'elsewhere'}; write that address into the settings"
        )
    if answer.status in (400, 409, 411, 500, 501, 503):
        raise RefusedError(f"{where}: {complaint(answer)}")
    if answer.status != 200:
        raise ProtocolError(f"{where}: unexpected HTTP status {answer.status} ({_excerpt(answer.text)})")
    if "html" in answer.content_type or answer.body.lstrip()[:1] == b"<":
        raise ProtocolError(f"{where}: got a web page and no answer; this firmware lacks the call, or it is no BMC")
    return parsed(where, answer.text)


def parsed(where: str, text: str) -> Any:
    """A JSON text, whatever is inside.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError(f"{where}: not JSON ({_excerpt(text)})") from None


def complaint(answer: Answer) -> str:
    """The words of a refusal: enveloped (`{"response":[{"result":..}]}`) or a bare text."""
    try:
        value = json.loads(answer.text)
    except (ValueError, RecursionError):
        return _excerpt(answer.text)
    found = next((d["result"] for d in _dicts(value) if isinstance(d.get("result"), str)), None)
    return _excerpt(found or answer.text)


def blocked_s(text: str) -> float | None:
    """How long a ban lasts, in seconds; None when the text tells of none."""
    match = _BLOCKED.search(text)
    if match is None:
        return None
    spans = re.findall(r"(\d+)\s*(ms|d|h|m|s)[a-z]*", match[1], re.IGNORECASE)
    return sum(int(number[:9]) * _UNIT_S[unit.lower()] for number, unit in spans)


def power(where: str, value: Any) -> dict[int, bool]:
    """Power by slot; a slot whose state the BMC does not know is left out.

    Raises:
        ProtocolError: no power state anywhere in the answer.
    """
    words = {"1": True, "on": True, "true": True, "0": False, "off": False, "false": False}
    states = next((d for d in _dicts(value) if any(f"node{slot}" in d for slot in SLOTS)), None)
    if states is None:
        raise ProtocolError(f"{where}: no power states in the answer ({_excerpt(json.dumps(value))})")
    known = {slot: words.get(str(states.get(f"node{slot}")).lower()) for slot in SLOTS}
    return {slot: on for slot, on in known.items() if on is not None}


def is_version_1(value: Any) -> bool:
    """Whether a power answer is firmware 1.x's: numbers, and no `result` around them."""
    dicts = list(_dicts(value))
    return not any("result" in d for d in dicts) and any(type(d.get("node1")) is int for d in dicts)


def node_info(where: str, value: Any) -> dict[int, NodeInfo]:
    """The four modules by slot.

    Raises:
        ProtocolError: no list of modules in the answer.
    """
    keys = ("module_name", "power_on_time", "uart_baud")
    for found in _lists(value):
        if found and all(isinstance(item, dict) and any(key in item for key in keys) for item in found):
            return {slot: _node(slot, item) for slot, item in zip(SLOTS, found, strict=False)}
    raise ProtocolError(f"{where}: no modules in the answer ({_excerpt(json.dumps(value))})")


def info(value: Any) -> dict[str, str]:
    """About the board: the flat texts and numbers of the answer; every key is optional in some firmware."""
    flat: dict[str, str] = {}
    for found in _dicts(value):
        flat.update({k: str(v).strip('"') for k, v in found.items() if isinstance(v, (str, int)) and k != "result"})
    return flat


def uart(where: str, value: Any) -> str:
    """The text of a serial console.

    Raises:
        ProtocolError: none in the answer.
    """
    for found in _dicts(value):
        text = found.get("uart", found.get("result"))
        if isinstance(text, str):
            return text
    raise ProtocolError(f"{where}: no console text in the answer")


def handle(where: str, value: Any) -> int:
    """The id of a transfer that may be sent now.

    Raises:
        ProtocolError: none in the answer.
    """
    for found in _dicts(value):
        if type(found.get("handle")) is int:
            return int(found["handle"])
    raise ProtocolError(f"{where}: no handle in the answer ({_excerpt(json.dumps(value))})")


def status(where: str, value: Any) -> Status:
    """The state of the board's transfer slot.

    Raises:
        ProtocolError: none of the four states in the answer.
    """
    for found in _dicts(value):
        if "Transferring" in found:
            return _transferring(found["Transferring"])
        if "Done" in found:
            numbers = [n for n in _inside(found["Done"]) if type(n) is int]  # [{"secs": .., "nanos": ..}, bytes]
            return Status(State.DONE, size=numbers[-1] if numbers else 0)
        if "Error" in found:
            return Status(State.ERROR, text=_excerpt(str(found["Error"])))
    if "Ready" in list(_scalars(value)):
        return Status(State.READY)
    raise ProtocolError(f"{where}: no flash state in the answer ({_excerpt(json.dumps(value))})")


def _transferring(value: Any) -> Status:
    for found in _dicts(value):
        numbers = {k: v for k, v in found.items() if type(v) is int}
        if "id" in numbers:
            return Status(State.TRANSFERRING, numbers["id"], numbers.get("bytes_written", 0), numbers.get("size", 0))
    return Status(State.TRANSFERRING)


def _node(slot: int, item: dict[str, Any]) -> NodeInfo:
    seconds = item.get("power_on_time")
    return NodeInfo(
        slot, str(item.get("name") or ""), str(item.get("module_name") or ""), seconds if type(seconds) is int else None
    )


def _dicts(value: Any, depth: int = _DEPTH) -> Iterator[dict[str, Any]]:
    if depth == 0:
        return
    if isinstance(value, dict):
        yield value
    for inner in _inside(value):
        yield from _dicts(inner, depth - 1)


def _lists(value: Any, depth: int = _DEPTH) -> Iterator[list[Any]]:
    if depth == 0:
        return
    if isinstance(value, list):
        yield value
    for inner in _inside(value):
        yield from _lists(inner, depth - 1)


def _scalars(value: Any, depth: int = _DEPTH) -> Iterator[Any]:
    if not isinstance(value, (dict, list)):
        yield value
    elif depth:
        for inner in _inside(value):
            yield from _scalars(inner, depth - 1)


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _excerpt(text: str, most: int = 200) -> str:
    line = " ".join(text.split())
    return (line[:most] + "…") if len(line) > most else (line or "an empty body")
