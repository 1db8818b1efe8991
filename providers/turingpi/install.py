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
from providers.errors import ForeignNodeError, HomelabError, RefusedError
from providers.talos.client import Mode, Talos, probe
from providers.talos.pki import ClientCert
from providers.turingpi.client import Bmc

LOOK_S = 20.0  # a module with anything bootable speaks on its UART within seconds
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


def decide(module: Module, evidence: Evidence, *, may_write: bool) -> Decision:
    """What to do with a module that was seen to be `evidence`.

    Raises:
        ForeignNodeError: it belongs to another cluster; it is never overwritten by itself.
        RefusedError: it would have to be written, and its `generation` does not say so.
    """
    if evidence in (Evidence.OURS, Evidence.SAME_IMAGE):
        return Decision.ADOPT
    where = f"{module.node} ({module.address}, slot {module.slot})"
    if evidence is Evidence.FOREIGN:
        raise foreign(module.node, module.address)
    if not may_write:
        raise RefusedError(
            f"{where}: {evidence.value}, and would have to be flashed, which its settings don't allow; "
            f"set nodes.{module.node}.generation to 1 (or one more than it is) to have its disk written once"
        )
    return Decision.WRITE


def foreign(node: str, address: str) -> ForeignNodeError:
    """The error for a node that answers with another cluster's certificates."""
    return ForeignNodeError(
        f"{node} ({address}): belongs to another cluster and was not touched. If this lab's own state was lost, put its "
        f"talosconfig to .homelab/talosconfig and run this again; to give the node up for good, wipe it with "
        f"`talosctl -n {address} reset --graceful=false --reboot --system-labels-to-wipe STATE "
        f"--system-labels-to-wipe EPHEMERAL` and that cluster's talosconfig"
    )


def look(bmc: Bmc, module: Module, cert: ClientCert, say: Callable[[str], None]) -> Evidence:
    """Find out what is on a module, powering it on when it is off.

    Raises:
        HomelabError: the board does not answer.
    """
    seen = _answer(module, cert)
    if seen is not None:
        return seen
    before = bmc.uart(module.slot)
    if not bmc.power().get(module.slot, False):
        say("powering on to see what is on its disk")
        bmc.set_power({module.slot: True})
        speaks = _speaks(bmc, module.slot, before)
    else:
        speaks = bool(before.strip()) or _speaks(bmc, module.slot, before)
    if not speaks:
        return _answer(module, cert) or Evidence.BLANK
    say("something boots; waiting for its API")
    try:
        return Deadline(pace.limit(BOOT_S)).poll(lambda: _answer(module, cert), module.node, pace.interval(3))
    except HomelabError:
        return Evidence.BOOTS


def _speaks(bmc: Bmc, slot: int, before: str) -> bool:
    deadline = Deadline(pace.interval(LOOK_S))
    try:
        deadline.poll(lambda: (bmc.uart(slot) != before) or None, f"slot {slot}", pace.interval(2))
    except HomelabError:
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
        same = talos.version(timeout_s=5).tag == module.version and talos.schematic(timeout_s=5) == module.schematic
    return Evidence.SAME_IMAGE if same else Evidence.OTHER_IMAGE
