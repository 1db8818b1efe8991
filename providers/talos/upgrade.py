"""One node to another version of Talos, and back when it does not take it.

Protocol source: https://github.com/siderolabs/talos (api/machine/machine.proto; internal/app/machined, 1.9 to 1.13).

It is asked with MachineService.Upgrade, for all versions from 1.9 to 1.13. That call is deprecated from 1.13 and served
until 1.17; its successor, LifecycleService, is there from 1.13 only, and leaves draining, etcd's checks and the reboot
to the caller. One way that works everywhere is tested everywhere. Neither `force` nor `preserve` is ever sent: both
leave out the checks of etcd (`preserve` from late patches of 1.12 on), and data is kept without them since 1.8.

Talos calls an upgrade that came back on the old version a success, and goes back by itself only when its own `machined`
ends. So the version is compared here, and whoever is not ready on the new one is sent back to the other slot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import DeadlineError, HomelabError, UnreachableError, UpgradeError
from providers.talos.client import Talos, TalosError
from providers.talos.pki import ClientCert
from providers.talos.skew import RUNS

# Pulling, draining (Talos allows five minutes), writing the other slot to a slow eMMC, and a first boot.
BACK_S = 1800.0
BOOT_S = 420.0
READY_S = 600.0
LOOK_S = 5.0
_UNPROVED = "0x06"  # META's tag of an upgrade that has not been running and ready yet
_ON_ITS_WAY = ("upgrading", "rebooting")


@dataclass(frozen=True)
class Running:
    """What a node says of itself.

    Attributes:
        version: Talos' (`v1.13.9`).
        schematic: of the image it was made from; "" when that names none.
        boot: the kernel's id of this boot.
        stage: Talos' word (`running`).
        unmet: why it is not ready; empty when it is.
        unproved: an upgrade has not been confirmed yet, the way back is open.
    """

    version: str
    schematic: str
    boot: str
    stage: str
    unmet: tuple[str, ...] = ()
    unproved: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether the boot came to its end and nothing is missing."""
        return self.stage == "running" and not self.unmet

    @property
    def lack(self) -> str:
        """What is missing, in Talos' words."""
        return ", ".join(self.unmet) or f"its stage is {self.stage}"


@dataclass(frozen=True)
class Target:
    """What a node is to run.

    Attributes:
        version: Talos'.
        schematic: the image's; "" when it is not known, because the owner built it.
        installer: the image that is asked for.
    """

    version: str
    schematic: str
    installer: str

    def differs(self, seen: Running) -> str:
        """How a node differs from this; "" when it doesn't."""
        if seen.version != self.version:
            return f"{RUNS}Talos {seen.version}, not {self.version}"
        if self.schematic and seen.schematic != self.schematic:
            made = f"from schematic {seen.schematic[:12]}" if seen.schematic else "without a schematic"
            return f"{RUNS}an image that was made {made}, not from {self.schematic[:12]}"
        return ""


class Device(Protocol):
    """A node, as far as an upgrade goes."""

    def look(self) -> Running | None:
        """What it says of itself; None when it does not answer."""

    def upgrade(self, installer: str) -> None:
        """Ask it to install another version and reboot."""

    def roll_back(self) -> None:
        """Ask it to boot from its other slot."""

    def power_cycle(self) -> None:
        """Have its board take its power and give it back."""


@dataclass(frozen=True)
class Node:
    """Whom it is about. `name` and `address` are for messages, `slot` for what to type."""

    name: str
    address: str
    slot: int
    device: Device

    def __str__(self) -> str:
        return f"{self.name} ({self.address})"


@dataclass(frozen=True)
class TalosDevice:
    """A node over its own API; `cycle` asks its board."""

    address: str
    cert: ClientCert
    cycle: Callable[[], None]

    def look(self) -> Running | None:
        """What it says of itself; None when it does not answer."""
        try:
            with Talos.secure(self.address, self.cert) as talos:
                boot, seen = talos.boot_id(timeout_s=LOOK_S), _running(talos)
        except HomelabError:
            return None
        return seen if seen.boot == boot else None  # else it rebooted between two of the answers

    def upgrade(self, installer: str) -> None:
        """Ask it to install another version and reboot."""
        with Talos.secure(self.address, self.cert) as talos:
            talos.upgrade(installer)

    def roll_back(self) -> None:
        """Ask it to boot from its other slot."""
        with Talos.secure(self.address, self.cert) as talos:
            talos.rollback(timeout_s=pace.limit(30))

    def power_cycle(self) -> None:
        """Have its board take its power and give it back."""
        self.cycle()


def _running(talos: Talos) -> Running:
    stage = talos.machine_stage(timeout_s=LOOK_S)
    return Running(
        version=talos.version(timeout_s=LOOK_S).tag,
        schematic=talos.schematic(timeout_s=LOOK_S) or "",
        stage=stage.name,
        unmet=stage.unmet or (() if stage.ready else ("not ready",)),
        unproved=_UNPROVED in talos.meta(timeout_s=LOOK_S),
        boot=talos.boot_id(timeout_s=LOOK_S),
    )


Wait = Callable[[float], Deadline]


def _real(device_seconds: float) -> Deadline:
    return Deadline(pace.limit(device_seconds))


def bring(node: Node, target: Target, report: Reporter, wait: Wait = _real) -> Running:
    """Have the node run what it should, ready and confirmed. It looks first: what was begun before is only waited for.

    Args:
        node: which.
        target: what it is to run.
        report: told what is waited for.
        wait: makes a deadline of device seconds.

    Raises:
        UnreachableError: it does not answer at all; nothing was done.
        UpgradeError: it did not come to the new version. It is back on the old one, or the message says what to type.
    """
    before = node.device.look()
    if before is None:
        raise UnreachableError(f"{node}: its Talos API gives no answer; it was not upgraded")
    if not target.differs(before):
        return _proved(node, target, before, before, report, wait)
    if before.stage not in _ON_ITS_WAY:
        _ask(node, target, report)
    report.progress(f"Talos {before.version} -> {target.version}: drains, installs, reboots")
    seen = _back(node, target, before, report, wait)
    if (seen.version, seen.schematic) == (before.version, before.schematic):
        raise UpgradeError(_stayed(node, target, before))
    return _proved(node, target, before, seen, report, wait)


def _ask(node: Node, target: Target, report: Reporter) -> None:
    report.progress(f"asking for {target.installer}")
    try:
        node.device.upgrade(target.installer)
    except TalosError as error:
        raise UpgradeError(f"{node}: refuses to go to Talos {target.version}, nothing was done: {error}") from error
    except UnreachableError:
        report.progress("the answer was lost; waiting whether it upgrades")


def _back(node: Node, target: Target, before: Running, report: Reporter, wait: Wait) -> Running:
    """Wait for another boot; a node that stays silent gets its power cut once."""
    try:
        return _another_boot(node, before, wait(BACK_S))
    except DeadlineError:
        if node.device.look() is not None:
            raise UpgradeError(_never_left(node, target, before)) from None
    report.warn(f"{node}: gives no answer {wait(BACK_S).seconds:.0f} s after its upgrade began; its power is cut once")
    try:
        node.device.power_cycle()
        return _another_boot(node, before, wait(BOOT_S))
    except HomelabError as error:
        raise UpgradeError(_silent(node, target, before, error)) from error


def _another_boot(node: Node, before: Running, deadline: Deadline) -> Running:
    def look() -> Running | None:
        seen = node.device.look()
        return None if seen is None or seen.boot == before.boot else seen

    return deadline.poll(look, f"{node}: another boot", pace.interval(3))


def _proved(node: Node, target: Target, before: Running, seen: Running, report: Reporter, wait: Wait) -> Running:
    """Wait until it is ready and has given up its way back; else send it back."""
    wrong = target.differs(seen)
    if wrong:
        _roll_back(node, target, before, wrong, report, wait)
    report.progress(f"on Talos {target.version}; waiting until it is ready")
    last = seen

    def look() -> Running | None:
        nonlocal last
        last = node.device.look() or last
        done = last.is_ready and not last.unproved
        return last if done or target.differs(last) else None

    deadline = wait(READY_S)
    try:
        found = deadline.poll(look, f"{node}: ready", pace.interval(2))
    except DeadlineError:
        if not last.unproved:
            raise UpgradeError(f"{node}: runs Talos {target.version} and is not ready: {last.lack}") from None
        why = f"was not ready within {deadline.seconds:.0f} s ({last.lack})"
        _roll_back(node, target, before, why, report, wait)
        raise
    if target.differs(found):
        raise UpgradeError(_stayed(node, target, found))
    return found


def _roll_back(node: Node, target: Target, before: Running, why: str, report: Reporter, wait: Wait) -> None:
    """Boot the other slot again, and say so: this never returns.

    Raises:
        UpgradeError: always.
    """
    report.warn(f"{node}: on Talos {target.version} it {why}; it is rolled back to its other slot")
    here = node.device.look()
    try:
        node.device.roll_back()
        seen = _another_boot(node, here or before, wait(BACK_S))
    except HomelabError as error:
        raise UpgradeError(
            f"{node}: on Talos {target.version} it {why}, and it could not be rolled back ({error}); type "
            f"`talosctl -n {node.address} rollback`, or reinstall it: raise nodes.{node.name}.generation by one"
        ) from error
    raise UpgradeError(
        f"{node}: rolled back to Talos {seen.version}{_there(node, wait(READY_S))}, because on {target.version} it "
        f"{why}; `talosctl -n {node.address} dmesg` tells more"
    )


def _there(node: Node, deadline: Deadline) -> str:
    """How it is doing on the version that it went back to."""
    last: Running | None = None

    def look() -> bool | None:
        nonlocal last
        last = node.device.look()
        return True if last is not None and last.is_ready else None

    try:
        deadline.poll(look, f"{node}: ready again", pace.interval(3))
    except DeadlineError:
        return f", where it is not ready either ({last.lack})" if last is not None else ", where it gives no answer"
    return ""


def _stayed(node: Node, target: Target, seen: Running) -> str:
    return (
        f"{node}: came back on Talos {seen.version} as it was: the installer of {target.version} failed, or that "
        f"version went back to the other slot by itself; `talosctl -n {node.address} dmesg` says which; then run "
        "this again"
    )


def _never_left(node: Node, target: Target, before: Running) -> str:
    return (
        f"{node}: answers, and has not left Talos {before.version} within {BACK_S / 60:.0f} minutes; its power was not "
        f"touched, for it may be writing {target.version}; `talosctl -n {node.address} dmesg` says what holds it"
    )


def _silent(node: Node, target: Target, before: Running, error: Exception) -> str:
    return (
        f"{node}: gave no answer after its upgrade to Talos {target.version}, not after a cut of its power either "
        f"({error}); its other slot still holds {before.version}: choose it in the boot menu on the serial console of "
        f"slot {node.slot}, or reinstall it: raise nodes.{node.name}.generation by one"
    )
