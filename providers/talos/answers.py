"""What the Talos API answers, as plain values, and how each is read from the wire."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from enum import Enum
from typing import Any

import yaml

from providers.errors import ProtocolError
from providers.talos.api import talos_pb2 as pb


class ApplyMode(Enum):
    """How a config is taken: see `plan.py` for which changes need what."""

    AUTO = "AUTO"
    NO_REBOOT = "NO_REBOOT"
    REBOOT = "REBOOT"
    STAGED = "STAGED"
    TRY = "TRY"


@dataclass(frozen=True)
class Applied:
    """What the node did with a config.

    `mode` is what it chose, `details` its words; a dry run's hold the difference, secrets included.
    """

    mode: ApplyMode
    details: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Version:
    """The running Talos."""

    tag: str
    arch: str
    platform: str


@dataclass(frozen=True)
class Stage:
    """Where in its life the machine is: `booting installing maintenance running rebooting resetting upgrading ...`."""

    name: str
    ready: bool
    unmet: tuple[str, ...]


@dataclass(frozen=True)
class Mount:
    """A mounted file system, by the path that it is mounted on."""

    path: str
    size_bytes: int
    available_bytes: int


@dataclass(frozen=True)
class Disk:
    """A disk as the node sees it."""

    device: str
    size_bytes: int
    model: str
    serial: str
    kind: str
    wwid: str
    bus_path: str
    system: bool
    readonly: bool


@dataclass(frozen=True)
class EtcdMember:
    """A member of etcd; `id` is what `etcd_remove_member` takes."""

    id: int
    hostname: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool


@dataclass(frozen=True)
class EtcdStatus:
    """One member's own view; `leader` is 0 when it knows none."""

    member_id: int
    leader: int
    learner: bool
    db_size_bytes: int
    raft_index: int
    raft_applied_index: int
    errors: tuple[str, ...]


@dataclass(frozen=True)
class Service:
    """A service of the node: `state` is Talos' word (`Running`, `Preparing`, ...), `healthy` None when not known."""

    state: str
    healthy: bool | None
    message: str


def disk(message: pb.Disk) -> Disk:
    """A disk from the wire."""
    return Disk(
        device=message.device_name,
        size_bytes=message.size,
        model=message.model,
        serial=message.serial,
        kind=pb.Disk.Type.Name(message.type).lower(),
        wwid=message.wwid,
        bus_path=message.bus_path,
        system=message.system_disk,
        readonly=message.readonly,
    )


def etcd_member(message: pb.EtcdMember) -> EtcdMember:
    """A member from the wire."""
    return EtcdMember(
        id=message.id,
        hostname=message.hostname,
        peer_urls=tuple(message.peer_urls),
        client_urls=tuple(message.client_urls),
        learner=message.is_learner,
    )


def etcd_status(message: pb.EtcdMemberStatus) -> EtcdStatus:
    """A member's view from the wire."""
    return EtcdStatus(
        member_id=message.member_id,
        leader=message.leader,
        learner=message.is_learner,
        db_size_bytes=message.db_size,
        raft_index=message.raft_index,
        raft_applied_index=message.raft_applied_index,
        errors=tuple(message.errors),
    )


def service(message: pb.ServiceInfo) -> Service:
    """A service from the wire."""
    health = message.health
    return Service(message.state, None if health.unknown else health.healthy, health.last_message)


def unwrapped_config(text: str) -> str:
    """The machine config out of its resource's YAML.

    Talos gives it as one YAML string (all documents); earlier versions gave the document itself.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, str) else text


def objects(text: str, what: str) -> list[dict[str, Any]]:
    """The Kubernetes objects in a resource's YAML, which is a list of them.

    Raises:
        ProtocolError: it is none.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ProtocolError(f"{what}: not YAML") from error
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ProtocolError(f"{what}: not a list of objects")
    return found


def only_file(packed: bytes, what: str) -> str:
    """The text of the one file in a tar.gz.

    Raises:
        ProtocolError: it is none.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
            file = archive.extractfile(archive.getmembers()[0])
            return file.read().decode() if file is not None else ""
    except (tarfile.TarError, OSError, EOFError, IndexError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{what}: not an archive with a file ({error})") from error
