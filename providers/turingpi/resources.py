"""A module's disk and its power, as Pulumi resources over the board's client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from providers import locks, pace
from providers.deadline import Deadline
from providers.dynamic import Props, Provider, is_known, packed
from providers.engine import Reporter
from providers.errors import HomelabError, UnreachableError
from providers.talos import leave
from providers.talos.client import Mode, probe
from providers.talos.schematic import register
from providers.talos.wire import admin
from providers.turingpi import marker, turns
from providers.turingpi.client import Bmc, Endpoint
from providers.turingpi.flash import Flashed, Pace, flash
from providers.turingpi.image import Image, fetch
from providers.turingpi.install import BOOT_S, Decision, Module, decide, look

FLASH_LIMIT_S = 3600.0
BOARD_LOCK_LIMIT_S = 4 * FLASH_LIMIT_S
BOARD_KEYS = ("board", "username", "password", "fingerprint")


def _connect(props: Props) -> Bmc:
    return Bmc.connect(Endpoint(props["board"], props["username"], props["password"], props.get("fingerprint") or None))


def _module(props: Props) -> Module:
    return Module(props["node"], props["address"], int(props["slot"]), props["version"], props["schematic"])


@contextmanager
def _board_lock(props: Props, what: str, report: Reporter, limit_s: float) -> Iterator[None]:
    with locks.held(f"board {props['board']}", what, Deadline(limit_s), report.progress):
        yield


class FlashProvider(Provider):
    """Sees to it that a module's disk carries the wished image; `generation` says how often it may be written."""

    inputs = ("node", "address", "slot", *BOARD_KEYS, "generation", "os_ca")
    memos = ("version", "schematic", "recipe", "factory", "image", "sha256", "rank")

    def problems(self, olds: Props, news: Props) -> list[tuple[str, str]]:
        """A module is never written because it was moved or because its number went down."""
        if not olds or not is_known(news.get("generation")):
            return []
        node, old, new = news["node"], int(olds.get("generation", 0)), int(news["generation"])
        if new < old:
            return [
                ("generation", f"nodes.{node}.generation: {new} is less than the {old} installs it had; it only grows")
            ]
        return []

    def create(self, props: Props) -> CreateResult:
        """Adopt the module when it already carries the image, else write it."""
        written = self._ensure(props, reinstall=False)
        return CreateResult(f"{props['node']}-{props['slot']}", self.stored(props, **written))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """Reinstall once when `generation` grew; find the module again when it was moved; else only store."""
        if int(news["generation"]) > int(olds["generation"]):
            return UpdateResult(self.stored(news, **self._ensure(news, reinstall=True)))
        if (olds["board"], olds["slot"]) != (news["board"], news["slot"]):
            self._ensure({**news, "generation": 0}, reinstall=False)
        return UpdateResult(self.stored(news, raw_sha256=olds.get("raw_sha256", "")))

    def read(self, id_: str, props: Props) -> ReadResult:
        """A disk can't be read back over a BMC; what the node itself says is the Machine's to read."""
        return ReadResult(id_, props)

    def _ensure(self, props: Props, *, reinstall: bool) -> Props:
        report, module, cert = Reporter(), _module(props), admin(props["os_ca"])
        rank = tuple(int(part) for part in props["rank"])
        with turns.ticket(props["board"], rank) as ticket, _connect(props) as bmc:
            if reinstall:
                leave.before_reinstall(module.node, module.address, cert, report)
            else:
                with _board_lock(props, f"looking at {module.node}", report, BOARD_LOCK_LIMIT_S):
                    pass  # another run's flash would block every answer of the board
                evidence = look(bmc, module, cert, report.progress)
                killed = marker.interrupted(bmc.name, module.slot)
                if decide(module, evidence, generation=int(props["generation"]), interrupted=killed) is Decision.ADOPT:
                    report.info(f"adopted: it {evidence.value}")
                    return {"raw_sha256": ""}
            image = _image(props, report)
            report.progress("waiting for its turn on the board")
            with ticket.turn(), _board_lock(props, f"flashing {module.node}", report, BOARD_LOCK_LIMIT_S):
                return {"raw_sha256": _write(bmc, module, image, report).sha256_raw}


def _image(props: Props, report: Reporter) -> Image:
    """The image, downloaded and measured before anybody waits for it."""
    if props["recipe"]:
        register(props["factory"], props["recipe"])
    return fetch(props["image"], props.get("sha256") or None, lambda step: report.progress(str(step)))


def _write(bmc: Bmc, module: Module, image: Image, report: Reporter) -> Flashed:
    wished = {**bmc.power(), module.slot: True}
    deadline, speed = Deadline(pace.limit(FLASH_LIMIT_S)), Pace.scaled(pace.scale())
    with marker.writing(bmc.name, module.slot):
        done = flash(bmc, module.slot, image, lambda: wished, deadline, lambda step: report.progress(str(step)), speed)
    size, took = f"{done.bytes / 1e6:.0f} MB", f"{done.seconds:.0f} s"
    report.info(f"flashed {size} in {took}, sha256 {done.sha256_raw[:12]}…, seen booting")
    return done


class PowerProvider(Provider):
    """Keeps a slot powered while it is declared."""

    inputs = ("node", "address", "slot", *BOARD_KEYS, "on")

    def create(self, props: Props) -> CreateResult:
        """Power the slot on; a node that answers on the network is on, whatever the board says."""
        _power_on(props)
        return CreateResult(f"{props['node']}-power", self.stored(props))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Power on again after drift."""
        _power_on(news)
        return UpdateResult(self.stored(news))

    def read(self, id_: str, props: Props) -> ReadResult:
        """The live power; an unreachable board leaves what was known and says so."""
        try:
            with _connect(props) as bmc:
                live = {**props, "on": bmc.power().get(int(props["slot"]), False)}
        except HomelabError as error:
            Reporter().warn(f"{props['node']}: power not read: {error}")
            return ReadResult(id_, props)
        return ReadResult(id_, live)

    def delete(self, _id: str, props: Props) -> None:
        """Power the slot off."""
        report = Reporter()
        with _board_lock(props, f"powering {props['node']} off", report, BOARD_LOCK_LIMIT_S), _connect(props) as bmc:
            bmc.set_power({int(props["slot"]): False})


def _power_on(props: Props) -> None:
    """Wait until the node answers, asking the board only when nobody flashes on it: an upload blocks every answer."""
    report, deadline = Reporter(), Deadline(pace.limit(BOOT_S))

    def answers() -> bool | None:
        if probe(props["address"], timeout_s=2) not in (Mode.SILENT, Mode.REFUSED):
            return True
        _switch_on(props, report)
        return None

    report.progress("booting")
    try:
        deadline.poll(answers, props["node"], pace.interval(3))
    except HomelabError as error:
        raise UnreachableError(
            f"{props['node']} ({props['address']}): powered on in slot {int(props['slot'])} of {props['board']}, but "
            f"nothing answered within {deadline.seconds:.0f} s ({error}); `homelab doctor` shows what the board sees"
        ) from error


def _switch_on(props: Props, report: Reporter) -> None:
    try:
        with _board_lock(props, f"powering {props['node']} on", report, 0), _connect(props) as bmc:
            if not bmc.power().get(int(props["slot"]), False):
                bmc.set_power({int(props["slot"]): True})
    except HomelabError:
        report.progress("booting; its board is busy")


class Flash(Resource, module="turingpi", name="Flash"):
    """The image on a module's disk. Deleting it undoes nothing."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(FlashProvider(), name, packed(props), opts)


class Power(Resource, module="turingpi", name="Power"):
    """The power of a slot: on while declared, off when deleted."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(PowerProvider(), name, packed(props), opts)
