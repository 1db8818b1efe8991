"""MachineService: config, power, files and lists (facts B3, B4)."""

from __future__ import annotations

import asyncio
import base64
import difflib
import io
import tarfile
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING

import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from twin.kubernetes.controlplane import admin_kubeconfig
from twin.talos import install, sequences
from twin.talos.api import machine_pb2 as pb
from twin.talos.config import Config, Invalid, Unparsable, check, needs_reboot, parse, same
from twin.talos.methods import ADMIN, Call
from twin.talos.pki import issue, talos_key_pem
from twin.talos.registry import lan

if TYPE_CHECKING:
    from twin.talos.os import Os, Service

_SYSTEM_BYTES = 2 << 30  # boot partitions, META and STATE
_Mode = pb.ApplyConfigurationRequest
_WITH_REBOOT = "Applied configuration with a reboot"
_WITHOUT = "Applied configuration without a reboot"
_STAGED = "Staged configuration to be applied after the next reboot"


async def apply(system: Os, call: Call) -> pb.ApplyConfigurationResponse:
    """ApplyConfiguration in both modes."""
    request = call.request
    config, warnings = _checked(system, request.data)
    if system.api.maintenance:
        reply = _apply_in_maintenance(system, request)
    else:
        reply = await _apply_running(system, request, config)
    reply.warnings.extend(warnings)
    if not request.dry_run:
        system.emit("config_applied", mode=reply.mode, maintenance=system.api.maintenance)
        if system.fault("apply-lost") is not None:
            system.api.drop_connections()
    return pb.ApplyConfigurationResponse(messages=[reply])


def _checked(system: Os, data: bytes) -> tuple[Config, list[str]]:
    try:
        config = parse(data)
        return config, check(config, system.version)
    except Unparsable as error:
        raise GRPCError(Status.UNKNOWN, str(error)) from None
    except Invalid as error:
        raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from None


def _apply_in_maintenance(system: Os, request: pb.ApplyConfigurationRequest) -> pb.ApplyConfiguration:
    if request.mode in (_Mode.NO_REBOOT, _Mode.STAGED):
        name = _Mode.Mode.Name(request.mode).lower().replace("_", "-")
        text = f"apply configuration --mode='{name}' is not supported in maintenance mode"
        raise GRPCError(Status.UNIMPLEMENTED, text)
    if system.installing:
        raise GRPCError(
            Status.FAILED_PRECONDITION,
            "configuration was already applied and node is rebooting, please wait for the node to come back",
        )
    if request.dry_run:
        return pb.ApplyConfiguration(
            mode=_Mode.REBOOT, mode_details="Dry run summary:\nNode is running in maintenance mode"
        )
    asyncio.get_running_loop().call_later(0.05, system.apply, request.data)  # the answer leaves first
    return pb.ApplyConfiguration(mode=_Mode.REBOOT, mode_details=_WITH_REBOOT)


async def _apply_running(system: Os, request: pb.ApplyConfigurationRequest, config: Config) -> pb.ApplyConfiguration:
    current = system.config_or_fail
    reboot = needs_reboot(current, config)
    mode = _chosen(request.mode, reboot=reboot)
    if request.mode in (_Mode.NO_REBOOT, _Mode.TRY) and reboot:
        raise GRPCError(
            Status.INVALID_ARGUMENT,
            "this config change can't be applied in immediate mode\ndiff: " + _diff(current, config),
        )
    details = {_Mode.REBOOT: _WITH_REBOOT, _Mode.STAGED: _STAGED}.get(mode, _WITHOUT)
    if request.dry_run:
        changes = _diff(current, config) or "No changes."
        details = f"Dry run summary:\n{details} (skipped in dry-run).\nConfig diff:\n\n{changes}\n"
        return pb.ApplyConfiguration(mode=mode, mode_details=details)
    if mode == _Mode.TRY:
        await _try(system, request, config)
        seconds = request.try_mode_timeout.seconds or 60
        trial = f"The config is applied in 'try' mode and will be automatically reverted back in {seconds}s"
        details = f"{_WITHOUT}\n{trial}"
        return pb.ApplyConfiguration(mode=mode, mode_details=details)
    system.trials += 1
    system.machine.disk.state_config = request.data
    if mode == _Mode.REBOOT:
        system.job(sequences.reboot(system), "reboot")
    elif mode == _Mode.NO_REBOOT and not same(current, config):
        await system.take(config)
    return pb.ApplyConfiguration(mode=mode, mode_details=details)


def _chosen(wanted: int, *, reboot: bool) -> pb.ApplyConfigurationRequest.Mode.ValueType:
    if wanted == _Mode.AUTO:
        return _Mode.REBOOT if reboot else _Mode.NO_REBOOT
    return _Mode.Mode.ValueType(wanted)


async def _try(system: Os, request: pb.ApplyConfigurationRequest, config: Config) -> None:
    before = system.config_or_fail
    system.trials += 1
    trial = system.trials
    await system.take(config)

    async def revert() -> None:
        await system.lab.clock.sleep(request.try_mode_timeout.seconds or 60)
        if system.trials == trial:
            await system.take(before)

    system.job(revert(), "try mode")


def _diff(old: Config, new: Config) -> str:
    """What changes, without the values of secrets: this text leaves the node."""
    before, after = (yaml.safe_dump(_public(config.main)).splitlines() for config in (old, new))
    return "\n".join(difflib.unified_diff(before, after, "a", "b", lineterm=""))


def _public(value: object, name: str = "") -> object:
    if isinstance(value, dict):
        return {key: _public(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_public(item) for item in value]
    secret = name in (
        "key",
        "token",
        "secret",
        "secretboxEncryptionSecret",
        "aescbcEncryptionSecret",
        "password",
        "auth",
    )
    return "******" if secret else value


async def version(system: Os, call: Call) -> pb.VersionResponse:
    """Version."""
    info = pb.VersionInfo(tag=system.release, sha="twin", go_version="go1.26", os="linux", arch="arm64")
    platform = pb.PlatformInfo(name="metal", mode="metal")
    message = pb.Version(version=info, platform=platform, features=pb.FeaturesInfo(rbac=True))
    return pb.VersionResponse(messages=[message])


async def hostname(system: Os, call: Call) -> pb.HostnameResponse:
    """Hostname."""
    return pb.HostnameResponse(messages=[pb.Hostname(hostname=system.hostname)])


def _service_info(name: str, service: Service) -> pb.ServiceInfo:
    since = Timestamp(seconds=int(service.since))
    health = pb.ServiceHealth(healthy=service.healthy, last_message=service.message, last_change=since)
    event = pb.ServiceEvent(msg=service.message or service.state, state=service.state, ts=since)
    return pb.ServiceInfo(id=name, state=service.state, health=health, events=pb.ServiceEvents(events=[event]))


async def service_list(system: Os, call: Call) -> pb.ServiceListResponse:
    """ServiceList."""
    services = [_service_info(name, service) for name, service in sorted(system.services.items())]
    return pb.ServiceListResponse(messages=[pb.ServiceList(services=services)])


async def service_restart(system: Os, call: Call) -> pb.ServiceRestartResponse:
    """ServiceRestart: of the kubelet; Talos lets few services be restarted."""
    name = call.request.id
    if name != "kubelet" or system.kubelet is None:
        raise GRPCError(Status.UNKNOWN, f'service "{name}" doesn\'t support restart operation via API')
    await system.restart_kubelet()
    return pb.ServiceRestartResponse(messages=[pb.ServiceRestart(resp=f'Service "{name}" restarted')])


async def image_pull(system: Os, call: Call) -> pb.DoneResponse:
    """ImagePull: any image with a tag is found, and each takes its time once in a boot."""
    reference = call.request.reference
    if ":" not in reference.rpartition("/")[2]:
        raise GRPCError(Status.UNKNOWN, f'failed to pull image "{reference}": {reference}: not found')
    if reference not in system.pulled:
        await system.lab.clock.sleep(system.lab.times.image_pull_s)
        system.pulled.add(reference)
        system.emit("image_pulled", image=reference)
    return pb.DoneResponse(messages=[pb.Done()])


async def read(system: Os, call: Call) -> AsyncIterator[pb.Data]:
    """Read: the few files that clients look at."""
    files = {
        "/proc/sys/kernel/random/boot_id": f"{system.machine.boot_id}\n",
        "/proc/uptime": "1.00 1.00\n",
        "/sys/module/iscsi_tcp/parameters/max_lun": "~0\n",  # Talos' kernel has it built in
    }
    text = files.get(call.request.path)
    if text is None:
        raise GRPCError(Status.UNKNOWN, f"stat {call.request.path}: no such file or directory")
    yield pb.Data(bytes=text.encode())


async def dmesg(system: Os, call: Call) -> AsyncIterator[pb.Data]:
    """Dmesg: what the console has."""
    yield pb.Data(bytes=system.machine.uart_bytes())


async def logs(system: Os, call: Call) -> AsyncIterator[pb.Data]:
    """Logs of a service that writes some here."""
    path = system.logs / f"{call.request.id}.log"
    if path.parent != system.logs or not path.exists():
        raise GRPCError(Status.UNKNOWN, f'log "{call.request.id}" was not registered')
    yield pb.Data(bytes=path.read_bytes()[-65536:])


async def events(system: Os, call: Call) -> AsyncIterator[pb.Event]:
    """Events: the stage, whenever it changes."""
    stages = (
        "",
        "booting",
        "installing",
        "maintenance",
        "running",
        "rebooting",
        "shutting down",
        "resetting",
        "upgrading",
    )
    shown = None
    while True:
        if system.stage != shown:
            shown = system.stage
            event = pb.Event(id=f"{system.machine.boot_id[:8]}-{shown.replace(' ', '-')}")
            event.data.type_url = "talos/runtime/machine.MachineStatusEvent"
            event.data.value = bytes([8, stages.index(shown)])
            yield event
        await asyncio.sleep(0.2)


def _actor(system: Os) -> pb.ActorResponse:
    shared = lan(system.lab)
    shared.actors += 1
    return pb.ActorResponse(messages=[pb.Actor(actor_id=f"twin-actor-{shared.actors}")])


async def reboot(system: Os, call: Call) -> pb.ActorResponse:
    """Reboot."""
    system.job(sequences.reboot(system), "reboot")
    return _actor(system)


async def shutdown(system: Os, call: Call) -> pb.ActorResponse:
    """Shutdown."""
    system.job(sequences.shutdown(system, force=call.request.force), "shutdown")
    return _actor(system)


async def reset(system: Os, call: Call) -> pb.ActorResponse:
    """Reset. Without a list of partitions the whole system disk goes, the boot image with it."""
    request = call.request
    labels = tuple(part.label for part in request.system_partitions_to_wipe if part.wipe)
    whole = not labels and request.mode != pb.ResetRequest.USER_DISKS
    plan = sequences.Wipe(labels, whole)
    work = sequences.reset(system, plan, graceful=request.graceful, reboot_after=request.reboot)
    system.job(work, "reset")
    return _actor(system)


async def kubeconfig(system: Os, call: Call) -> AsyncIterator[pb.Data]:
    """Kubeconfig: a tar.gz with one file."""
    if not system.config_or_fail.control_plane:
        raise GRPCError(Status.UNIMPLEMENTED, "kubeconfig is only available on control plane nodes")
    text, packed = admin_kubeconfig(system), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("kubeconfig")
        entry.size, entry.mode = len(text), 0o600
        archive.addfile(entry, io.BytesIO(text))
    yield pb.Data(bytes=packed.getvalue())


async def client_configuration(system: Os, call: Call) -> pb.GenerateClientConfigurationResponse:
    """GenerateClientConfiguration: a client certificate for the asked roles, and a talosconfig around it."""
    if not system.config_or_fail.control_plane:
        raise GRPCError(
            Status.FAILED_PRECONDITION, "client configuration (talosconfig) can't be generated on worker nodes"
        )
    ca = system.authority("machine", "ca")
    seconds = call.request.crt_ttl.seconds or 365 * 86400
    leaf = issue(ca, "", list(call.request.roles) or [ADMIN], client=True, valid=timedelta(seconds=seconds))
    key = talos_key_pem(leaf.key)
    name = str(system.at("cluster", "clusterName", default="default"))
    trusted = system.config_or_fail.accepted("machine")
    encoded = {k: base64.b64encode(v).decode() for k, v in (("ca", trusted), ("crt", leaf.crt), ("key", key))}
    context = {"endpoints": [system.address], "nodes": [], **encoded}
    talosconfig = yaml.safe_dump({"context": name, "contexts": {name: context}}).encode()
    message = pb.GenerateClientConfiguration(ca=trusted, crt=leaf.crt, key=key, talosconfig=talosconfig)
    return pb.GenerateClientConfigurationResponse(messages=[message])


async def mounts(system: Os, call: Call) -> pb.MountsResponse:
    """Mounts: what Talos writes to. EPHEMERAL has what the image and STATE leave of the eMMC."""
    size = max(0, system.machine.disk.size_bytes - _SYSTEM_BYTES)
    state, ephemeral = f"{system.machine.disk.device}p5", f"{system.machine.disk.device}p6"
    stats = [
        pb.MountStat(filesystem="tmpfs", size=64 << 20, available=63 << 20, mounted_on="/run"),
        pb.MountStat(filesystem=state, size=90 << 20, available=80 << 20, mounted_on="/system/state"),
        pb.MountStat(filesystem=ephemeral, size=size, available=int(size * 0.9), mounted_on="/var"),
    ]
    return pb.MountsResponse(messages=[pb.Mounts(stats=stats)])


async def disks(system: Os, call: Call) -> pb.DisksResponse:
    """StorageService.Disks: the one eMMC."""
    disk = system.machine.disk
    message = pb.Disk(
        size=disk.size_bytes,
        model=install.DISK_MODEL,
        device_name=disk.device,
        serial=system.machine.spec.serial,
        type=pb.Disk.SD,
        bus_path="/platform/fe2e0000.mmc/",
        system_disk=not system.api.maintenance,
        subsystem="/sys/class/block",
    )
    return pb.DisksResponse(messages=[pb.Disks(disks=[message])])
