"""Upgrade and Rollback: two boot slots, and META's tag 6 until the new version has proved itself (facts daytwo 2).

LifecycleService is left out: a node that does not have it answers UNIMPLEMENTED, as 1.12 and older do.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from twin import schematic
from twin.image import Image
from twin.machine import UPGRADE
from twin.talos import sequences
from twin.talos.api import machine_pb2 as pb
from twin.talos.etcd_client import EtcdError
from twin.talos.methods import Call
from twin.talos.registry import lan

if TYPE_CHECKING:
    from twin.talos.os import Os

Minor = tuple[int, int]
# Target -> the first host that may go there, and the first that is too new (the installer's table, daytwo 1.2).
HOSTS: dict[Minor, tuple[Minor, Minor]] = {
    (1, 7): ((1, 4), (1, 9)),
    (1, 8): ((1, 5), (1, 10)),
    (1, 9): ((1, 8), (1, 11)),
    (1, 10): ((1, 8), (1, 12)),
    (1, 11): ((1, 9), (1, 13)),
    (1, 12): ((1, 10), (1, 14)),
    (1, 13): ((1, 11), (1, 15)),
    (1, 14): ((1, 12), (1, 16)),
}
_REFERENCE = re.compile(r"(?P<host>[^/]+)/(?P<path>.+):(?P<version>v[^:/]+)\Z")
_FACTORY = re.compile(r"(metal-)?installer/(?P<schematic>[0-9a-f]{64})\Z")
_PLAIN = "siderolabs/installer"


async def upgrade(system: Os, call: Call) -> pb.UpgradeResponse:
    """Upgrade: image and etcd are looked at before the answer, everything else happens after it."""
    request = call.request
    if request.stage:
        raise GRPCError(Status.UNIMPLEMENTED, "the twin plays no staged upgrades")
    image = _pulled(system, request.image)
    if system.config_or_fail.control_plane and not request.force and not _skips(system, request):
        await _etcd_agrees(system)
    if system.stage != "upgrading":  # one sequence at a time: a second one is acknowledged and does nothing
        system.emit("upgrade_asked", version=image.version, image=request.image)
        system.stage = "upgrading"
        system.job(_sequence(system, image), "upgrade")
    lan(system.lab).actors += 1
    actor = f"twin-actor-{lan(system.lab).actors}"
    return pb.UpgradeResponse(messages=[pb.Upgrade(ack="Upgrade request received", actor_id=actor)])


async def rollback(system: Os, call: Call) -> pb.DoneResponse:
    """Rollback: the other slot boots next."""
    disk = system.machine.disk
    if disk.fallback is None:
        other = "B" if disk.label == "A" else "A"
        raise GRPCError(Status.UNKNOWN, f'cannot rollback to "{other}", label does not exist')
    disk.flip(UPGRADE)
    system.emit("rolled_back", by="request")
    system.job(sequences.reboot(system), "rollback")
    return pb.DoneResponse(messages=[pb.Done()])


async def prove(system: Os) -> None:
    """After an upgrade: the way back is given up as soon as the machine is running and ready."""
    while system.stage != "running" or system.unmet():
        await asyncio.sleep(0.1)
    if UPGRADE in system.machine.disk.meta:
        system.machine.uart(f'[talos] removing fallback entry "{system.machine.disk.meta[UPGRADE]}"\n')
        system.machine.disk.forget(UPGRADE)
        system.emit("upgrade_proved", version=system.release)


async def reverted(system: Os) -> bool:
    """Whether machined of a freshly written version ends with an error, and so goes back by itself."""
    disk = system.machine.disk
    if UPGRADE not in disk.meta or system.fault("upgrade-reverts") is None:
        return False
    system.machine.uart(f'[talos] reverting failed upgrade, switching to "{disk.meta[UPGRADE]}"\n')
    disk.flip(UPGRADE)
    system.emit("rolled_back", by="machined")
    await system.lab.clock.sleep(10)
    await system.machine.reboot()
    return True


def _skips(system: Os, request: pb.UpgradeRequest) -> bool:
    """`preserve` is not needed since 1.8, and silently leaves out the checks from late 1.12 on (daytwo 2.1)."""
    patch = int(re.split(r"[-+]", system.release.split(".")[2])[0])
    return bool(request.preserve) and (*system.version, patch) > (1, 12, 0)


async def _etcd_agrees(system: Os) -> None:
    if system.etcd is None or not system.etcd.running:
        raise GRPCError(Status.UNKNOWN, "failed to create etcd client: service etcd is not running")
    async with system.etcd.client() as client:
        members = await client.members()
    problem = await _health_problem(system, [(member.name, list(member.client_urls)) for member in members])
    if problem:
        raise GRPCError(Status.UNKNOWN, f"error validating etcd for upgrade: {problem}")


async def _health_problem(system: Os, members: list[tuple[str, list[str]]]) -> str:
    if len(members) == 2:
        return "etcd member count(2) is insufficient to maintain quorum if upgrade commences"
    for name, urls in members:
        if not name:
            return "etcd member is not started"
        if not await _is_healthy(system, urls[0].split("//")[1].rsplit(":", 1)[0]):
            return f"etcd member {name} is not healthy"
    return ""


async def _is_healthy(system: Os, address: str) -> bool:
    if system.etcd is None:
        return False
    try:
        async with system.etcd.client(address, timeout_s=2) as client:
            return bool((await client.status()).leader)
    except EtcdError:
        return False


def _pulled(system: Os, reference: str) -> Image:
    """What a registry has under a name. The factory's knows the schematics that were posted to it."""
    image = _elsewhere(system, reference) or _from_factory(system, reference)
    if image is None:
        raise GRPCError(
            Status.UNKNOWN,
            f'error validating installer image "{reference}": 1 error(s) occurred:\n\tfailed to pull image '
            f'"{reference}": failed to resolve reference "{reference}": {reference}: not found',
        )
    return image


def _elsewhere(system: Os, reference: str) -> Image | None:
    """An image that its owner built, which names no schematic; or the plain one, which starts no board."""
    built = system.lab.spec.installers.get(reference)
    current = system.machine.disk.image
    if built is not None and current is not None:
        return Image("", built, overlay=current.overlay)
    found = _REFERENCE.match(reference)
    if found and found["path"] == _PLAIN and found["version"] in system.lab.spec.talos_versions:
        return Image("", found["version"])
    return None


def _from_factory(system: Os, reference: str) -> Image | None:
    factory, found = system.lab.spec.factory, _REFERENCE.match(reference)
    if found is None or found["host"] != f"{factory.address}:{factory.port}":
        return None
    named, version = _FACTORY.match(found["path"]), found["version"]
    if named is None or version not in system.lab.spec.talos_versions:
        return None
    path = system.lab.folder / "factory" / f"{named['schematic']}.yaml"
    if not path.exists():
        return None
    return Image(named["schematic"], version, overlay=schematic.overlay(path.read_text(encoding="utf-8")))


async def _sequence(system: Os, image: Image) -> None:
    """Cordon, drain, stop, install, reboot. Whatever fails ends in a reboot into the version that is there."""
    await asyncio.sleep(0.05)  # the answer leaves first
    await sequences.drain(system)
    await system.stop_services()
    await system.lab.clock.sleep(system.lab.times.upgrade_s)
    problem = preflight(system.release, image.version)
    if system.fault("upgrade-fails") is not None:
        problem = "failed to install: exit status 1"
    if problem:
        system.machine.uart(f"[talos] upgrade failed: {problem}\n")
        system.emit("upgrade_failed", reason=problem)
    else:
        system.machine.disk.install(image, UPGRADE)
        system.emit("upgrade_installed", version=image.version, label=system.machine.disk.label)
    await system.lab.clock.sleep(system.lab.times.shutdown_s)
    await system.machine.reboot()


def preflight(host: str, target: str) -> str:
    """Why the installer of one version refuses a node with another; empty when it goes on."""
    known = HOSTS.get(_minor(target))
    if known is None:
        return f"pre-flight checks failed: upgrades to version {target} are not supported"
    if _minor(host) < known[0]:
        return f"pre-flight checks failed: host version {host} is too old to upgrade to Talos {target}"
    if _minor(host) >= known[1]:
        return f"pre-flight checks failed: host version {host} is too new to downgrade to Talos {target}"
    return ""


def _minor(version: str) -> Minor:
    major, minor = version.removeprefix("v").split(".")[:2]
    return int(major), int(minor)
