"""A client of Talos' machine API, for both of its modes. Blocking; every call has a deadline.

Calls go to the node's own address and are answered by that very node: nothing is proxied, and never through the VIP,
which does not exist before etcd does. Protocol source: https://github.com/siderolabs/talos/tree/main/api and
https://github.com/cosi-project/specification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from grpclib.const import Status

from providers.errors import ProtocolError
from providers.talos import answers, methods, snapshot
from providers.talos.answers import Applied, ApplyMode, Disk, EtcdMember, EtcdStatus, Mount, Service, Stage, Version
from providers.talos.api import talos_pb2 as pb
from providers.talos.pki import ClientCert
from providers.talos.probe import Mode, probe
from providers.talos.transport import (
    Connection,
    HandshakeError,
    Method,
    Reply,
    Request,
    TalosError,
    from_status,
    insecure_context,
    secure_context,
)

__all__ = [
    "Applied",
    "ApplyMode",
    "Disk",
    "EtcdMember",
    "EtcdStatus",
    "HandshakeError",
    "Mode",
    "Mount",
    "Service",
    "Stage",
    "Talos",
    "TalosError",
    "Version",
    "probe",
]

CALL_S = 10.0
# Validation and writing to a slow eMMC happen before the reply.
APPLY_S = 60.0
SNAPSHOT_S = 300.0
# The installer's image is pulled before the reply.
UPGRADE_S = 600.0
_CHUNK = 32 << 10

WIPE_LABELS = ("STATE", "EPHEMERAL")


class Talos:
    """One node's Talos API.

    Every method takes `timeout_s` (seconds for the whole call) and raises:
        UnreachableError: no answer in time, connection refused or broken.
        HandshakeError: TLS failed; ask `probe` why.
        TalosError: the node said no; its `.code` is gRPC's name.
        ProtocolError: what answered makes no sense.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.address = connection.address

    @classmethod
    def insecure(cls, address: str) -> Talos:
        """A node in maintenance mode; its certificate is not verified, because nobody could."""
        return cls(Connection(address, insecure_context()))

    @classmethod
    def secure(cls, address: str, cert: ClientCert) -> Talos:
        """A configured node of this cluster."""
        return cls(Connection(address, secure_context(cert)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connection; harmless when repeated."""
        self._connection.close()

    # What the machine is

    def version(self, *, timeout_s: float = CALL_S) -> Version:
        """The running Talos; works in both modes. Before 1.13, maintenance mode tells only the version itself."""
        try:
            message = self._one(methods.VERSION, pb.Empty(), timeout_s)
        except TalosError as error:
            if error.code != Status.UNIMPLEMENTED.name:
                raise
            spec = self._resource("runtime", "Versions.runtime.talos.dev", "version", timeout_s)
            return Version(str(spec.get("version", "")), "", "")
        return Version(message.version.tag, message.version.arch, message.platform.name)

    def disks(self, *, timeout_s: float = CALL_S) -> tuple[Disk, ...]:
        """The disks; works in both modes."""
        return tuple(answers.disk(disk) for disk in self._one(methods.DISKS, pb.Empty(), timeout_s).disks)

    def machine_stage(self, *, timeout_s: float = CALL_S) -> Stage:
        """Where in its life the machine is; works in both modes."""
        spec = self._resource("runtime", "MachineStatuses.runtime.talos.dev", "machine", timeout_s)
        status = spec.get("status") or {}
        unmet = tuple(f"{item.get('name')}: {item.get('reason')}" for item in status.get("unmetConditions") or ())
        return Stage(str(spec.get("stage", "unknown")), bool(status.get("ready")), unmet)

    def schematic(self, *, timeout_s: float = CALL_S) -> str | None:
        """The Image Factory schematic that the running image was made from; None when it was not."""
        for spec in self._resources("runtime", "ExtensionStatuses.runtime.talos.dev", timeout_s):
            metadata = spec.get("metadata") or {}
            if metadata.get("name") == "schematic":
                return str(metadata.get("version"))
        return None

    def machine_config(self, *, timeout_s: float = CALL_S) -> str:
        """The machine config as the node holds it, secrets included; needs admin."""
        text = self._get("config", "MachineConfigs.config.talos.dev", "v1alpha1", timeout_s)
        return answers.unwrapped_config(text)

    def hostname(self, *, timeout_s: float = CALL_S) -> str:
        """The host name in use."""
        spec = self._resource("network", "HostnameStatuses.net.talos.dev", "hostname", timeout_s)
        return str(spec.get("hostname", ""))

    def addresses(self, *, timeout_s: float = CALL_S) -> tuple[str, ...]:
        """All addresses of all links, without prefix length; the VIP is among them on the node that holds it."""
        found = self._resources("network", "AddressStatuses.net.talos.dev", timeout_s)
        return tuple(dict.fromkeys(str(spec.get("address", "")).partition("/")[0] for spec in found))

    def services(self, *, timeout_s: float = CALL_S) -> dict[str, Service]:
        """The services by id (`etcd`, `kubelet`, `apid`, ...)."""
        found = self._one(methods.SERVICE_LIST, pb.Empty(), timeout_s).services
        return {item.id: answers.service(item) for item in found}

    def boot_id(self, *, timeout_s: float = CALL_S) -> str:
        """The kernel's id of this boot: another one means that the node rebooted."""
        return self.read_file("/proc/sys/kernel/random/boot_id", timeout_s=timeout_s).strip()

    def read_file(self, path: str, *, timeout_s: float = CALL_S) -> str:
        """A file of the node, by its path; a TalosError when there is none."""
        return self._content(methods.READ, pb.ReadRequest(path=path), timeout_s).decode(errors="replace")

    def kubeconfig(self, *, timeout_s: float = CALL_S) -> str:
        """An administrator's way to the Kubernetes API; only control planes hand it out.

        Raises:
            ProtocolError: what came is not the archive that it should be.
        """
        content = self._content(methods.KUBECONFIG, pb.Empty(), timeout_s)
        return answers.only_file(content, f"{self.address}: Kubeconfig")

    def extensions(self, *, timeout_s: float = CALL_S) -> tuple[str, ...]:
        """The names of the system extensions in the running image."""
        found = self._resources("runtime", "ExtensionStatuses.runtime.talos.dev", timeout_s)
        names = (str((spec.get("metadata") or {}).get("name", "")) for spec in found)
        return tuple(name for name in names if name != "schematic")

    def meta(self, *, timeout_s: float = CALL_S) -> dict[str, str]:
        """What stands in the META partition, by tag (`0x06`: the slot to go back to while an upgrade is unproved)."""
        found = self.listed("runtime", "MetaKeys.runtime.talos.dev", timeout_s=timeout_s)
        return {tag: str(spec.get("value", "")) for tag, spec in found}

    def manifests(self, *, timeout_s: float = CALL_S) -> list[dict[str, Any]]:
        """The objects that Talos puts into the cluster, as its present config has them; control planes only."""
        found: list[str] = []
        request = pb.ListRequest(namespace="controlplane", type="Manifests.kubernetes.talos.dev")
        take: Callable[[pb.ListResponse], None] = lambda reply: found.append(reply.resource.spec.yaml_spec)  # noqa: E731
        self._connection.stream(methods.COSI_LIST, request, take, timeout_s)
        return [item for text in found for item in answers.objects(text, f"{self.address}: Manifests")]

    def mounts(self, *, timeout_s: float = CALL_S) -> tuple[Mount, ...]:
        """The mounted file systems."""
        found = self._one(methods.MOUNTS, pb.Empty(), timeout_s).stats
        return tuple(Mount(item.mounted_on, item.size, item.available) for item in found)

    def listed(self, namespace: str, kind: str, *, timeout_s: float = CALL_S) -> list[tuple[str, dict[str, Any]]]:
        """All resources of a kind (`LinkStatuses.net.talos.dev`), each by its id and its spec."""
        found: list[pb.Resource] = []
        request = pb.ListRequest(namespace=namespace, type=kind)
        self._connection.stream(methods.COSI_LIST, request, lambda reply: found.append(reply.resource), timeout_s)
        return [(item.metadata.id, self._spec(kind, item.spec.yaml_spec)) for item in found]

    # What is done to the machine

    def apply_configuration(
        self,
        config: str,
        mode: ApplyMode = ApplyMode.AUTO,
        *,
        dry_run: bool = False,
        try_s: int = 60,
        timeout_s: float = APPLY_S,
    ) -> Applied:
        """Give the node a config.

        In maintenance mode the reply only says that the config is valid: installation and reboot follow, and may fail.

        Args:
            config: all documents, as text.
            mode: how to take it; maintenance mode knows only AUTO, REBOOT and TRY.
            dry_run: only say what would change.
            try_s: for TRY, seconds until the old config is back.
            timeout_s: seconds for the call.
        """
        request = pb.ApplyConfigurationRequest(
            data=config.encode(),
            mode=pb.ApplyConfigurationRequest.Mode.Value(mode.value),
            dry_run=dry_run,
            try_mode_timeout=pb.Duration(seconds=try_s) if mode is ApplyMode.TRY else None,
        )
        message = self._one(methods.APPLY_CONFIGURATION, request, timeout_s)
        chosen = ApplyMode(pb.ApplyConfigurationRequest.Mode.Name(message.mode))
        return Applied(chosen, message.mode_details, tuple(message.warnings))

    def bootstrap(self, *, recover: bool = False, timeout_s: float = CALL_S) -> None:
        """Make this node the first member of a new etcd: once, for one node. `recover`: from the uploaded snapshot.

        TalosError's code is ALREADY_EXISTS when etcd has data, FAILED_PRECONDITION when it's too early,
        UNIMPLEMENTED (or PERMISSION_DENIED from 1.13 on) when the node is still in maintenance mode.
        """
        self._one(methods.BOOTSTRAP, pb.BootstrapRequest(recover_etcd=recover), timeout_s)

    def reset(
        self,
        *,
        graceful: bool,
        reboot: bool,
        wipe_labels: Iterable[str] = WIPE_LABELS,
        timeout_s: float = CALL_S,
    ) -> None:
        """Wipe partitions. Returns when it has begun.

        Args:
            graceful: cordon, drain and leave etcd first (hangs for the last member).
            reboot: back to maintenance mode; else the machine halts and needs its power cut.
            wipe_labels: partitions. An empty list means the whole system disk to Talos, boot image included, so it
                is refused here.
            timeout_s: seconds for the call.

        Raises:
            ValueError: `wipe_labels` is empty.
        """
        labels = tuple(wipe_labels)
        if not labels:
            raise ValueError("reset without partition labels would wipe the boot image as well")
        partitions = [pb.ResetPartitionSpec(label=label, wipe=True) for label in labels]
        request = pb.ResetRequest(graceful=graceful, reboot=reboot, system_partitions_to_wipe=partitions)
        self._one(methods.RESET, request, timeout_s)

    def reboot(self, *, timeout_s: float = CALL_S) -> None:
        """Reboot. Returns when it has begun."""
        self._one(methods.REBOOT, pb.RebootRequest(), timeout_s)

    def upgrade(self, installer: str, *, timeout_s: float = UPGRADE_S) -> None:
        """Have the node install another version in its other slot and reboot. Returns when it has begun.

        The image is pulled and etcd is looked at before the answer; TalosError says what is wrong with either.
        """
        self._one(methods.UPGRADE, pb.UpgradeRequest(image=installer), timeout_s)

    def pull_image(self, reference: str, *, system: bool = False, timeout_s: float = UPGRADE_S) -> None:
        """Have the node fetch an image now, so that whoever needs it later does not wait.

        Args:
            reference: the image.
            system: for what Talos itself runs (the kubelet); else for Kubernetes' pods.
            timeout_s: seconds for the call.
        """
        names = pb.ImagePullRequest.Namespace
        request = pb.ImagePullRequest(namespace=names.NS_SYSTEM if system else names.NS_CRI, reference=reference)
        self._one(methods.IMAGE_PULL, request, timeout_s)

    def rollback(self, *, timeout_s: float = CALL_S) -> None:
        """Boot from the other slot. Returns when it has begun; TalosError when there is nothing in it."""
        self._one(methods.ROLLBACK, pb.Empty(), timeout_s)

    def restart_service(self, name: str, *, timeout_s: float = CALL_S) -> None:
        """Restart one service (`kubelet`, `etcd`); Talos refuses it for most others."""
        self._one(methods.SERVICE_RESTART, pb.ServiceRestartRequest(id=name), timeout_s)

    def shutdown(self, *, force: bool = False, timeout_s: float = CALL_S) -> None:
        """Shut down; `force` skips the drain. Returns when it has begun."""
        self._one(methods.SHUTDOWN, pb.ShutdownRequest(force=force), timeout_s)

    # etcd

    def etcd_members(self, *, timeout_s: float = CALL_S) -> tuple[EtcdMember, ...]:
        """The members of the etcd cluster that this node is in."""
        found = self._one(methods.ETCD_MEMBER_LIST, pb.EtcdMemberListRequest(), timeout_s).members
        return tuple(answers.etcd_member(member) for member in found)

    def etcd_status(self, *, timeout_s: float = CALL_S) -> EtcdStatus:
        """This node's own member."""
        return answers.etcd_status(self._one(methods.ETCD_STATUS, pb.Empty(), timeout_s).member_status)

    def etcd_remove_member(self, member_id: int, *, timeout_s: float = CALL_S) -> None:
        """Remove another member, by id. Ask a healthy peer, never the one that is to go; NOT_FOUND when it is gone."""
        self._one(methods.ETCD_REMOVE_MEMBER, pb.EtcdRemoveMemberByIDRequest(member_id=member_id), timeout_s)

    def etcd_leave(self, *, timeout_s: float = 60.0) -> None:
        """Take this node's own member out of etcd; a leader must forfeit first."""
        self._one(methods.ETCD_LEAVE, pb.Empty(), timeout_s)

    def etcd_forfeit_leadership(self, *, timeout_s: float = CALL_S) -> str:
        """Hand leadership over; the new leader's name, empty when this node was not the leader."""
        return str(self._one(methods.ETCD_FORFEIT_LEADERSHIP, pb.Empty(), timeout_s).member)

    def etcd_snapshot(self, path: Path, *, timeout_s: float = SNAPSHOT_S) -> int:
        """Write a verified snapshot of etcd to a file (mode 0600), whole or not at all; its size in bytes.

        Raises:
            ProtocolError: what came is not a whole snapshot.
        """
        with snapshot.writing(path, self.address) as write:
            self._receive(methods.ETCD_SNAPSHOT, pb.Empty(), write, timeout_s)
        return path.stat().st_size

    def etcd_recover(self, path: Path, *, timeout_s: float = SNAPSHOT_S) -> None:
        """Hand a snapshot to a node whose etcd has no data, for a `bootstrap` that recovers.

        TalosError's code is FAILED_PRECONDITION when it is too early. An upload that breaks off leaves nothing behind.
        """
        with path.open("rb") as file:
            parts = (pb.Data(content=chunk) for chunk in iter(lambda: file.read(_CHUNK), b""))
            reply = self._connection.upload(methods.ETCD_RECOVER, parts, timeout_s)
        for message in reply.messages:
            self._checked("EtcdRecover", message.metadata)

    # The wire

    def _one(self, method: Method[Request, Reply], request: Request, timeout_s: float) -> Any:
        """The only message of a reply; an error that hides in its metadata is raised."""
        reply: Any = self._connection.call(method, request, timeout_s)
        if len(reply.messages) != 1:
            raise ProtocolError(f"{self.address}: {method.name}: {len(reply.messages)} messages instead of one")
        self._checked(method.name, reply.messages[0].metadata)
        return reply.messages[0]

    def _content(self, method: Method[Request, pb.Data], request: Request, timeout_s: float) -> bytes:
        content = bytearray()
        self._receive(method, request, content.extend, timeout_s)
        return bytes(content)

    def _receive(
        self, method: Method[Request, pb.Data], request: Request, write: Callable[[bytes], object], timeout_s: float
    ) -> None:
        """Hand on the content of every message of a reply; an error that hides in its metadata is raised."""

        def take(data: pb.Data) -> None:
            self._checked(method.name, data.metadata)
            write(data.content)

        self._connection.stream(method, request, take, timeout_s)

    def _checked(self, name: str, metadata: pb.Metadata) -> None:
        # The RPC is OK even if a node behind a proxying endpoint failed: only the metadata says so.
        if metadata.error:
            where = f"{metadata.hostname or self.address}: {name}"
            raise from_status(where, _code(metadata.status.code), metadata.error)

    def _get(self, namespace: str, kind: str, name: str, timeout_s: float) -> str:
        request = pb.GetRequest(namespace=namespace, type=kind, id=name)
        return self._connection.call(methods.COSI_GET, request, timeout_s).resource.spec.yaml_spec

    def _resource(self, namespace: str, kind: str, name: str, timeout_s: float) -> dict[str, Any]:
        return self._spec(kind, self._get(namespace, kind, name, timeout_s))

    def _resources(self, namespace: str, kind: str, timeout_s: float) -> list[dict[str, Any]]:
        return [spec for _, spec in self.listed(namespace, kind, timeout_s=timeout_s)]

    def _spec(self, kind: str, text: str) -> dict[str, Any]:
        try:
            spec = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ProtocolError(f"{self.address}: {kind} is not YAML") from error
        if not isinstance(spec, dict):
            raise ProtocolError(f"{self.address}: {kind} is not a map")
        return spec


def _code(number: int) -> str:
    try:
        return Status(number).name
    except ValueError:
        return Status.UNKNOWN.name
