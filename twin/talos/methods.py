"""Which calls the API has, who may make them, and where (facts B1, B3, B4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from twin.talos.api import cosi_pb2 as cosi
from twin.talos.api import machine_pb2 as pb

ADMIN, OPERATOR, READER, BACKUP = "os:admin", "os:operator", "os:reader", "os:etcd:backup"
_READ = frozenset({OPERATOR, READER})
_OPERATE = frozenset({OPERATOR})
_BACKUP = frozenset({OPERATOR, BACKUP})
_LIST = frozenset({OPERATOR, READER, BACKUP})
_NONE: frozenset[str] = frozenset()
# Registered in maintenance mode up to 1.12, but only for administrators, which nobody is there.
REFUSED_EARLY = frozenset({"Version", "Upgrade", "Reset", "MetaWrite", "MetaDelete"})


@dataclass(frozen=True)
class Method:
    """One call. `roles` besides os:admin; `maintenance`: also for anybody before there is a config."""

    handler: Callable[..., Any]
    request: type[Message]
    reply: type[Message]
    roles: frozenset[str] = _NONE
    streams: bool = False
    uploads: bool = False
    maintenance: bool = False
    many: bool = True


@dataclass(frozen=True)
class Call:
    """One request under way."""

    path: str
    method: Method
    requests: Sequence[Any]
    roles: frozenset[str]

    @property
    def name(self) -> str:
        """The method's name without its service."""
        return self.path.rpartition("/")[2]

    @property
    def request(self) -> Any:
        """The one message of a call that doesn't upload."""
        return self.requests[0]


@cache
def table() -> Mapping[str, Method]:
    """Every call, by its path on the wire."""
    # Imported here because the services need the types above.
    from twin.talos import etcd_service, machine_service, state_service, upgrade  # noqa: PLC0415

    machine, etcd, state = machine_service, etcd_service, state_service
    calls = {
        "ApplyConfiguration": Method(
            machine.apply, pb.ApplyConfigurationRequest, pb.ApplyConfigurationResponse, maintenance=True
        ),
        "Version": Method(machine.version, Empty, pb.VersionResponse, _READ),
        "Hostname": Method(machine.hostname, Empty, pb.HostnameResponse, _READ),
        "ServiceList": Method(machine.service_list, Empty, pb.ServiceListResponse, _READ),
        "ServiceRestart": Method(
            machine.service_restart, pb.ServiceRestartRequest, pb.ServiceRestartResponse, _OPERATE
        ),
        "Mounts": Method(machine.mounts, Empty, pb.MountsResponse, _READ),
        "Read": Method(machine.read, pb.ReadRequest, pb.Data, streams=True),
        "Logs": Method(machine.logs, pb.LogsRequest, pb.Data, _READ, streams=True),
        "Dmesg": Method(machine.dmesg, pb.DmesgRequest, pb.Data, _READ, streams=True),
        "Events": Method(machine.events, pb.EventsRequest, pb.Event, _READ, streams=True),
        "Reboot": Method(machine.reboot, pb.RebootRequest, pb.ActorResponse, _OPERATE),
        "Shutdown": Method(machine.shutdown, pb.ShutdownRequest, pb.ActorResponse, _OPERATE),
        "Reset": Method(machine.reset, pb.ResetRequest, pb.ActorResponse),
        "Upgrade": Method(upgrade.upgrade, pb.UpgradeRequest, pb.UpgradeResponse),
        "ImagePull": Method(machine.image_pull, pb.ImagePullRequest, pb.DoneResponse),
        "Rollback": Method(upgrade.rollback, Empty, pb.DoneResponse),
        "Kubeconfig": Method(machine.kubeconfig, Empty, pb.Data, streams=True),
        "GenerateClientConfiguration": Method(
            machine.client_configuration, pb.GenerateClientConfigurationRequest, pb.GenerateClientConfigurationResponse
        ),
        "Bootstrap": Method(etcd.bootstrap, pb.BootstrapRequest, pb.DoneResponse),
        "EtcdMemberList": Method(etcd.member_list, pb.EtcdMemberListRequest, pb.EtcdMemberListResponse, _LIST),
        "EtcdRemoveMemberByID": Method(etcd.remove_member, pb.EtcdRemoveMemberByIDRequest, pb.DoneResponse),
        "EtcdLeaveCluster": Method(etcd.leave_cluster, Empty, pb.DoneResponse),
        "EtcdForfeitLeadership": Method(etcd.forfeit_leadership, Empty, pb.EtcdForfeitLeadershipResponse),
        "EtcdStatus": Method(etcd.status, Empty, pb.EtcdStatusResponse, _LIST),
        "EtcdAlarmList": Method(etcd.alarm_list, Empty, pb.EtcdAlarmListResponse, _LIST),
        "EtcdSnapshot": Method(etcd.snapshot, Empty, pb.Data, _BACKUP, streams=True),
        "EtcdRecover": Method(etcd.recover, pb.Data, pb.DoneResponse, uploads=True),
    }  # fmt: skip
    anybody: dict[str, Any] = {"roles": _READ, "maintenance": True, "many": False}
    states = {
        "Get": Method(state.get, cosi.GetRequest, cosi.GetResponse, **anybody),
        "List": Method(state.list_, cosi.ListRequest, cosi.ListResponse, streams=True, **anybody),
        "Watch": Method(state.watch, cosi.WatchRequest, cosi.WatchResponse, streams=True, **anybody),
    }
    return {
        **{f"/machine.MachineService/{name}": method for name, method in calls.items()},
        **{f"/cosi.resource.State/{name}": method for name, method in states.items()},
        "/storage.StorageService/Disks": Method(machine.disks, Empty, pb.DisksResponse, _READ, maintenance=True),
    }
