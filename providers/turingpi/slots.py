"""What is done to a slot: its module's disk written, its power switched. The thin resources over it are beside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from providers import locks, pace
from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.errors import HomelabError, UnreachableError
from providers.longhorn import reinstall as replicas
from providers.talos import leave
from providers.talos.client import Mode, probe
from providers.talos.factory import register
from providers.talos.wire import admin
from providers.turingpi import login, marker, turns
from providers.turingpi.client import Bmc, Endpoint
from providers.turingpi.flash import Flashed, Pace, flash
from providers.turingpi.image import Image, fetch
from providers.turingpi.install import BOOT_S, Decision, Module, decide, look

FLASH_LIMIT_S = 3600.0
BOARD_LOCK_LIMIT_S = 4 * FLASH_LIMIT_S


def ensure_image(props: Props, *, reinstall: bool) -> Props:
    """See to it that the disk carries the image, written if it has to be; gives what was observed."""
    report, module, cert = Reporter(), _module(props), admin(props["os_ca"])
    rank = tuple(int(part) for part in props["rank"])
    with turns.ticket(props["board"], rank) as ticket, _connect(props) as bmc:
        if reinstall:
            planes = props.get("control_planes") or {}
            moved = partial(replicas.empty, module.node, planes, cert, report)
            leave.before_reinstall(module.node, module.address, cert, report, moved)
        else:
            with _board_lock(props, f"looking at {module.node}", report, BOARD_LOCK_LIMIT_S):
                pass  # another run's flash would block every answer of the board
            killed = marker.interrupted(bmc.name, module.slot)
            evidence = look(bmc, module, cert, report.progress, interrupted=killed)
            if decide(module, evidence, generation=int(props["generation"]), interrupted=killed) is Decision.ADOPT:
                marker.forget(bmc.name, module.slot)
                report.info(f"adopted: it {evidence.value}")
                return {"raw_sha256": ""}
        image = _image(props, report)
        report.progress("waiting for its turn on the board")
        with ticket.turn(), _board_lock(props, f"flashing {module.node}", report, BOARD_LOCK_LIMIT_S):
            return {"raw_sha256": _write(bmc, module, image, report).sha256_raw}


def power_on(props: Props) -> None:
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
        with locks.held(_lock(props), f"powering {props['node']} on", Deadline(0)), _connect(props) as bmc:
            if not bmc.power().get(int(props["slot"]), False):
                bmc.set_power({int(props["slot"]): True})
    except HomelabError:
        report.progress("booting; its board is busy")


def live_power(props: Props, boards: object = None) -> bool:
    """Whether the board gives the slot power now. For `boards`, see `login.reach`."""
    return login.reach(_endpoint(props), boards, lambda bmc: bmc.power().get(int(props["slot"]), False))


def power_off(props: Props, boards: object = None) -> None:
    """Take the slot's power. For `boards`, see `login.reach`."""
    off = {int(props["slot"]): False}
    with _board_lock(props, f"powering {props['node']} off", Reporter(), BOARD_LOCK_LIMIT_S):
        login.reach(_endpoint(props), boards, lambda bmc: bmc.set_power(off))


def _endpoint(props: Props) -> Endpoint:
    return Endpoint(props["board"], props["username"], props["password"], props.get("fingerprint") or None)


def _connect(props: Props) -> Bmc:
    return Bmc.connect(_endpoint(props))


def _module(props: Props) -> Module:
    return Module(props["node"], props["address"], int(props["slot"]), props["version"], props["schematic"])


@contextmanager
def _board_lock(props: Props, what: str, report: Reporter, limit_s: float) -> Iterator[None]:
    with locks.held(_lock(props), what, Deadline(limit_s), report.progress):
        yield


def _lock(props: Props) -> str:
    return f"board {props['board']}"


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
