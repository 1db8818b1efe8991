"""Whether a module's disk has to be written: look at the module, then decide; nothing is written here.

The BMC's word on power says nothing about what is on a disk, so the evidence is the module's own: what its Talos API
answers, and whether anything at all speaks on its UART after power on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from providers import pace
from providers.deadline import Deadline
from providers.errors import DeadlineError, ForeignNodeError, RefusedError
from providers.talos import wipe
from providers.talos.client import Mode, Talos, probe
from providers.talos.pki import ClientCert
from providers.turingpi.boot import speaks_a_kernel
from providers.turingpi.busy import wait_until_free
from providers.turingpi.client import Bmc

LOOK_S = 20.0  # a module with anything bootable speaks on its UART within seconds
STALLED_S = 120.0  # a transfer whose worker died stays "Transferring" for ever (facts A6)
FLASH_S = 3600.0
BOOT_S = 420.0  # from power on to an answering API, first boot from eMMC included


class Evidence(Enum):
    """What a module was seen to be."""

    OURS = "runs Talos with this cluster's certificates"
    FOREIGN = "runs Talos with the certificates of another cluster"
    SAME_IMAGE = "waits in maintenance mode with the wished image"
    OTHER_IMAGE = "waits in maintenance mode with another image"
    BOOTS = "boots something that never answers as Talos"
    BLANK = "boots nothing"


class Decision(Enum):
    """What follows from the evidence."""

    ADOPT = "adopt"
    WRITE = "write"


@dataclass(frozen=True)
class Module:
    """A module in its slot, and the image it should carry."""

    node: str
    address: str
    slot: int
    version: str
    schematic: str


def decide(module: Module, evidence: Evidence, *, generation: int, interrupted: bool) -> Decision:
    """What to do with a module that was seen to be `evidence`.

    Args:
        module: the module.
        evidence: what it was seen to be.
        generation: the owner's word: 0 never writes; 1 writes a disk that nothing boots from, or whose Talos has no
            config; what boots but is not known to be Talos needs 2.
        interrupted: a flash of this very slot was begun here and killed, so its disk is already half written.

    Raises:
        ForeignNodeError: it belongs to another cluster; it is never overwritten.
        RefusedError: it would have to be written, and its `generation` does not say so.
    """
    if evidence in (Evidence.OURS, Evidence.SAME_IMAGE):
        return Decision.ADOPT
    if evidence is Evidence.FOREIGN:
        raise foreign(module.node, module.address)
    needed = 2 if evidence is Evidence.BOOTS and not interrupted else 1
    if generation < needed:
        raise RefusedError(
            f"{module.node} ({module.address}, slot {module.slot}): {evidence.value}, and would have to be "
            f"flashed, which its settings don't allow; if everything on its disk may be erased, set "
            f"nodes.{module.node}.generation to {needed}"
        )
    return Decision.WRITE


def foreign(node: str, address: str) -> ForeignNodeError:
    """The error for a node that answers with another cluster's certificates."""
    return ForeignNodeError(
        f"{node} ({address}): belongs to another cluster and was not touched. If this lab's own state was lost, put "
        f"its talosconfig to .homelab/talosconfig and run this again; to give the node up for good, wipe it with "
        f"`{wipe.command(address)}` and that cluster's talosconfig"
    )


def look(
    bmc: Bmc, module: Module, cert: ClientCert, say: Callable[[str], None], *, interrupted: bool = False
) -> Evidence:
    """Find out what is on a module, powering it on when it is off.

    Args:
        bmc: its board.
        module: which one, and what it should carry.
        cert: a client certificate of this cluster.
        say: told what is waited for.
        interrupted: a flash of it was killed here; then a console without a kernel's words is answer enough.

    Raises:
        HomelabError: the board does not answer.
    """
    seen = _answer(module, cert)
    if seen is not None:
        return seen
    _let_it_finish(bmc, say)
    if not bmc.power().get(module.slot, False):
        say("powering on to see what is on its disk")
        bmc.set_power({module.slot: True})
    speaks = _speaks(bmc, module.slot)
    if not speaks:
        return _answer(module, cert) or Evidence.BLANK
    if interrupted and not _kernel_starts(bmc, module.slot):
        return _answer(module, cert) or Evidence.BOOTS
    say("something boots; waiting for its API")
    try:
        return Deadline(pace.limit(BOOT_S)).poll(lambda: _answer(module, cert), module.node, pace.interval(3))
    except DeadlineError:
        return Evidence.BOOTS


def _let_it_finish(bmc: Bmc, say: Callable[[str], None]) -> None:
    """Wait for a transfer that a killed run, or somebody else, left behind; one that stands still is no obstacle."""
    words = "the board is still writing something that an earlier run began"
    wait_until_free(bmc, Deadline(pace.limit(FLASH_S)), pace.interval(STALLED_S), pace.interval(3), lambda: say(words))


def _speaks(bmc: Bmc, slot: int) -> bool:
    """Whether anything was ever written to the UART. Old text counts too: a disk is called blank only for silence."""
    deadline = Deadline(pace.interval(LOOK_S))
    try:
        deadline.poll(lambda: bmc.uart(slot).strip() or None, f"slot {slot}", pace.interval(2))
    except DeadlineError:
        return False
    return True


def _kernel_starts(bmc: Bmc, slot: int) -> bool:
    """Whether a kernel's words are on the UART, old ones too: what may be whole is not written again."""
    deadline = Deadline(pace.interval(LOOK_S))
    try:
        deadline.poll(lambda: speaks_a_kernel(bmc.uart(slot)) or None, f"slot {slot}", pace.interval(2))
    except DeadlineError:
        return False
    return True


def _answer(module: Module, cert: ClientCert) -> Evidence | None:
    mode = probe(module.address, cert, timeout_s=3)
    if mode is Mode.OURS:
        return Evidence.OURS
    if mode is Mode.FOREIGN:
        return Evidence.FOREIGN
    if mode is Mode.MAINTENANCE:
        return _image(module)
    return None


def _image(module: Module) -> Evidence:
    with Talos.insecure(module.address) as talos:
        same_version = talos.version(timeout_s=5).tag == module.version
        same_recipe = not module.schematic or talos.schematic(timeout_s=5) == module.schematic
    return Evidence.SAME_IMAGE if same_version and same_recipe else Evidence.OTHER_IMAGE
