"""Longhorn's managers, while one of them runs; and the uninstaller."""

from __future__ import annotations

from twin.kubernetes.api import Object
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.longhorn import driver, nodes, settings, volumes
from twin.kubernetes.players.world import World, at

_FLAG = "deleting-confirmation-flag"


async def play(world: World) -> None:
    """One look at everything of Longhorn."""
    for job in world.all(k.JOB):
        if job["metadata"]["name"] == "longhorn-uninstall" and not at(job, "status", "conditions"):
            await _uninstall(world, job)
            return
    manager = k.daemon_set(world, "longhorn-manager")
    if manager is None:
        return
    await settings.play(world, manager["metadata"]["namespace"])
    await driver.play(world, manager)
    await nodes.play(world, manager)
    await volumes.play(world)


async def _uninstall(world: World, job: Object) -> None:
    """The chart's Job: with the flag set it takes everything of Longhorn away, its manager too; else it fails."""
    pods = [pod for pod in world.all(k.POD) if _runs(pod, job)]
    if not pods:
        return
    agreed = settings.setting(world, _FLAG) == "true"
    if agreed:
        await volumes.destroy(world)
        await driver.remove(world, job["metadata"]["namespace"])
        for node in world.all(k.LONGHORN_NODE):
            await world.delete(k.LONGHORN_NODE, node)
    for pod in pods:
        code, reason = (0, "Completed") if agreed else (1, "Error")
        name = pod["spec"]["containers"][0]["name"]
        ended = {"terminated": {"exitCode": code, "reason": reason}}
        status = {"name": name, "ready": False, "restartCount": 0, "image": "", "imageID": "", "state": ended}
        phase = "Succeeded" if agreed else "Failed"
        await world.status(k.POD, pod, {"phase": phase, "containerStatuses": [status]})


def _runs(pod: Object, job: Object) -> bool:
    owners = [owner["uid"] for owner in at(pod, "metadata", "ownerReferences") or []]
    return job["metadata"]["uid"] in owners and at(pod, "status", "phase") == "Running"
