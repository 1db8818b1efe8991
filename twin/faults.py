"""Faults by name. The table below is what `python -m twin fault --list` prints.

A fault is armed once (control socket, or `faults:` of the lab file) and taken by the code that plays it:

- `taken`    the device code asks `lab.faults.take(name, node=...)` at the place where it would go wrong, which uses
             up one of its `times`;
- `standing` stays until `python -m twin fault --clear NAME`; the device code asks `lab.faults.active(name, node=...)`;
- `now`      happens as soon as it is armed, or with `--at EVENT` when that event is next emitted for that node or
             board; the handler was registered with `lab.faults.on_now(name, handler)`.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["taken", "standing", "now"]


@dataclass(frozen=True)
class Kind:
    """One row of the table: a fault that exists, and the line of the failure list that it plays."""

    name: str
    line: str
    mode: Mode
    meaning: str
    params: tuple[str, ...] = ()


@dataclass
class Fault:
    """An armed fault. Without `node` and `board` it fits everywhere; `params` are numbers and words of its kind."""

    name: str
    node: str | None = None
    board: str | None = None
    times: int = 1
    at: str | None = None
    params: dict[str, Any] = field(default_factory=dict)

    def fits(self, name: str, where: Mapping[str, str | None]) -> bool:
        """Whether it is this fault that goes off here: a place that it doesn't name doesn't matter."""
        return (
            self.name == name
            and self.node in (None, where.get("node"))
            and self.board in (None, where.get("board"))
            and self.params.get("type") in (None, where.get("type"))
        )

    def number(self, key: str, default: float) -> float:
        """A parameter as a number."""
        return float(self.params.get(key, default))


BMC: tuple[Kind, ...] = (
    Kind("flash-hijack", "4a.1", "taken", "somebody else starts a flash and cancels this one", ("after_bytes",)),
    Kind("flash-stale-done", "4a.1", "taken", "status shows the Done of an earlier flash for N polls", ("polls",)),
    Kind("flash-send-timeout", "4a.2", "taken", "the handle expires before the upload begins"),
    Kind("usb-boot-fails", "4a.4", "taken", "module not found on USB: power 1, USB in Flash, others' bits lost"),
    Kind("power-lies", "4a.4", "standing", "the power of all nodes is reported as Unknown"),
    Kind("bmc-oom", "4a.5", "taken", "bmcd is killed in a flash; back after for_s, if given", ("after_bytes", "for_s")),
    Kind("bmc-leak", "4a.5", "standing", "bmcd is killed by each COUNTth flash since its start", ("count", "for_s")),
    Kind("bmc-crash", "4a.5", "now", "bmcd is gone: connections are refused; back after for_s", ("for_s",)),
    Kind("bmc-start", "4a.5", "now", "somebody restarts a dead bmcd: tokens are lost"),
    Kind("bmc-reboot", "4a.5", "now", "the BMC reboots: v2.4 boards cut the power of all nodes"),
    Kind("bmc-tmp-full", "4a.6", "taken", "a flash from a local file finds no space", ()),
    Kind("bmc-password", "4a.7", "now", "the password becomes PASSWORD, or the firmware's default", ("password",)),
    Kind("bmc-certificate", "4a.7", "now", "the BMC makes itself a new certificate"),
    Kind("bmc-tokens-expired", "4a.7", "now", "all session tokens are past their three hours"),
    Kind("bmc-tokens-lost", "4a.7", "now", "all session tokens are forgotten"),
    Kind("bmc-shape", "4a.8", "standing", "answers in another firmware's shape: nested, bare or array", ("variant",)),
    Kind("disk-renamed", "4a.9", "taken", "the install disk has another name after the next boot"),
    Kind("flash-error", "4a.10", "taken", "writing fails", ("after_bytes",)),
    Kind("flash-stall", "4a.10", "taken", "no byte is written any more, no error either", ("after_bytes",)),
    Kind("flash-crc-error", "4a.10", "taken", "the read-back finds another checksum"),
    Kind("flash-corrupt", "4a.10", "taken", "a bit is flipped on the disk and the BMC says Done"),
    Kind("flash-done-early", "4a.10", "taken", "the BMC says Done and the end is not on the disk"),
)
ANSWERS: tuple[Kind, ...] = (
    Kind("answer-malformed", "4a.8", "taken", "half a JSON document with 200", ("type",)),
    Kind("answer-html", "4a.8", "taken", "the web UI with 200", ("type",)),
    Kind("answer-cut", "4a.8", "taken", "the connection is cut inside the body", ("type",)),
    Kind("answer-drop", "4a.8", "taken", "the connection is closed without an answer", ("type",)),
    Kind("answer-slow", "4a.8", "taken", "the body comes byte by byte, a second each", ("type", "byte_s")),
    Kind("answer-hang", "4a.8", "taken", "no answer for for_s real seconds", ("type", "for_s")),
    Kind("answer-500", "4a.8", "taken", "500 with a text", ("type", "text")),
)
FACTORY: tuple[Kind, ...] = (
    Kind("factory-cut", "download", "taken", "the connection is cut", ("after_bytes",)),
    Kind("factory-corrupt", "download", "taken", "one byte of the image is wrong"),
    Kind("factory-missing", "download", "taken", "404 for the image"),
    Kind("factory-error", "download", "taken", "500 for any request"),
    Kind("factory-slow", "download", "taken", "the image comes with this many bytes a second", ("rate",)),
    Kind("factory-no-range", "download", "standing", "Range is ignored: every answer starts at byte 0"),
)
NODE: tuple[Kind, ...] = (
    Kind("power-cut", "4c.22", "now", "the module loses power for for_s device seconds, then boots", ("for_s",)),
    Kind("node-dead", "4c.22", "now", "the module is broken: off, whatever the BMC says, until node-mended"),
    Kind("node-mended", "4c.22", "now", "ends node-dead"),
    Kind("half-open", "4b.18", "standing", "the node's connections stay open and nothing comes any more"),
    Kind("boot-hangs", "4a.10", "taken", "the bootloader prints its text and nothing follows"),
)


class UnknownFault(Exception):
    """No fault has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no fault is called {name!r}; `python -m twin fault --list` prints them all")


def table() -> tuple[Kind, ...]:
    """All faults that exist, those of the operating system on the modules (`twin.talos.faults.TABLE`) included."""
    try:
        talos: tuple[Kind, ...] = importlib.import_module("twin.talos.faults").TABLE
    except ModuleNotFoundError:
        talos = ()
    return BMC + ANSWERS + FACTORY + NODE + talos


Handler = Callable[[Fault], None]


class Faults:
    """The armed faults of one lab."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []
        self._handlers: dict[str, list[Handler]] = {}
        self._kinds = {kind.name: kind for kind in table()}
        self.on_taken: Callable[[Fault], None] = lambda fault: None

    @property
    def armed(self) -> tuple[Fault, ...]:
        """What is armed and not used up."""
        return tuple(self._armed)

    def on_now(self, name: str, handler: Handler) -> None:
        """Have `handler` play a fault of mode `now`; it looks itself whether the fault's place is its own."""
        self._handlers.setdefault(name, []).append(handler)

    def arm(self, fault: Fault) -> None:
        """Arm a fault, or play it when it is one for now. Raises UnknownFault."""
        if fault.name not in self._kinds:
            raise UnknownFault(fault.name)
        if self._kinds[fault.name].mode == "now" and fault.at is None:
            self._play(fault)
        else:
            self._armed.append(fault)

    def clear(self, name: str | None = None) -> int:
        """Disarm all faults of a name, or all; says how many."""
        kept = [fault for fault in self._armed if name is not None and fault.name != name]
        gone = len(self._armed) - len(kept)
        self._armed = kept
        return gone

    def active(self, name: str, **where: str | None) -> Fault | None:
        """The fault that is armed for this place, without using it up."""
        return next((fault for fault in self._armed if fault.at is None and fault.fits(name, where)), None)

    def take(self, name: str, **where: str | None) -> Fault | None:
        """The fault that goes off here, once less from now on; None if there is none."""
        fault = self.active(name, **where)
        if fault is not None:
            self._use(fault)
            self.on_taken(fault)
        return fault

    def seen(self, event: Mapping[str, Any]) -> None:
        """Release what waits for this event (`--at`): play it, or let it be taken from now on."""
        for fault in [f for f in self._armed if f.at == event["kind"]]:
            if fault.fits(fault.name, {**event, "type": fault.params.get("type")}):
                fault.at = None
                if self._kinds[fault.name].mode == "now":
                    self._armed.remove(fault)
                    self._play(fault)

    def _use(self, fault: Fault) -> None:
        fault.times -= 1
        if fault.times <= 0 and self._kinds[fault.name].mode != "standing":
            self._armed.remove(fault)

    def _play(self, fault: Fault) -> None:
        self.on_taken(fault)
        for handler in self._handlers.get(fault.name, ()):
            handler(fault)
