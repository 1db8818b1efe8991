"""What takes a node down: reboot, shutdown and reset (facts B4)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twin.talos.etcd_client import EtcdError

if TYPE_CHECKING:
    from twin.talos.os import Os

_DRAIN_S = 300  # device seconds; Talos gives a drain five minutes


@dataclass(frozen=True)
class Wipe:
    """What a reset wipes: partitions by label, or the whole system disk."""

    labels: tuple[str, ...]
    whole_disk: bool


async def reboot(system: Os) -> None:
    """Restart the node in order."""
    await asyncio.sleep(0.05)  # the call's answer leaves first
    system.stage = "rebooting"
    await system.stop_services()
    await system.lab.clock.sleep(system.lab.times.shutdown_s)
    await system.machine.reboot()


async def shutdown(system: Os, *, force: bool) -> None:
    """Drain unless forced, stop, halt: powered and dead until the BMC takes the power."""
    await asyncio.sleep(0.05)
    system.stage = "shutting down"
    if not force:
        await drain(system)
    await system.stop_services()
    await system.lab.clock.sleep(system.lab.times.shutdown_s)
    await system.machine.halt()


async def reset(system: Os, plan: Wipe, *, graceful: bool, reboot_after: bool) -> None:
    """Leave the cluster when graceful, wipe what was asked for, then reboot or halt.

    The last member of an etcd cluster can't leave: a graceful reset of it never comes to its end.
    """
    await asyncio.sleep(0.05)
    system.stage = "resetting"
    system.emit("reset", labels=list(plan.labels), whole_disk=plan.whole_disk, graceful=graceful)
    while system.standing("reset-hangs") is not None:
        await asyncio.sleep(0.2)
    if graceful and not await _leave_gracefully(system):
        await reboot(system)
        return
    await system.stop_services()
    await system.lab.clock.sleep(system.lab.times.reset_disk_s)
    if plan.whole_disk:
        system.machine.disk.wipe_all()
    for label in plan.labels:
        system.machine.disk.wipe(label)
    system.emit("reset_done")
    await (system.machine.reboot() if reboot_after else system.machine.halt())


async def _leave_gracefully(system: Os) -> bool:
    await drain(system)
    if system.etcd is None or system.etcd.left or not system.etcd.has_data:
        return True
    if system.fault("etcd-leave-fails") is not None:
        system.machine.uart("[talos] task leaveEtcd (1/1): failed: context deadline exceeded\n")
        return False
    while True:
        try:
            await system.etcd.leave()
            return True
        except EtcdError as error:
            system.machine.uart(f"[talos] task leaveEtcd (1/1): {error}\n")
            await asyncio.sleep(0.5)


async def drain(system: Os) -> None:
    """Cordon the node and have its pods leave, as far as they go in the time that Talos gives them."""
    if system.kubelet is not None and system.kubelet.ready:
        await system.kubelet.cordon_and_drain(system.lab.clock.real_s(_DRAIN_S, floor_s=2))
