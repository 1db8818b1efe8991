"""The etcd calls of MachineService (facts B3, B4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from twin.disk import write
from twin.talos.api import etcd_pb2 as etcd_pb
from twin.talos.api import machine_pb2 as pb
from twin.talos.etcd import Etcd, Recovery
from twin.talos.etcd_client import EtcdError
from twin.talos.methods import Call

if TYPE_CHECKING:
    from twin.talos.os import Os

_CHUNK = 32 << 10
_DONE = pb.DoneResponse(messages=[pb.Done()])


def _etcd(system: Os, what: str) -> Etcd:
    if not system.config_or_fail.control_plane:
        raise GRPCError(Status.UNIMPLEMENTED, f"{what} is only available on control plane nodes")
    if system.etcd is None or not system.etcd.running:
        raise GRPCError(
            Status.UNKNOWN, "failed to create etcd client: error getting etcd endpoints: service etcd is not running"
        )
    return system.etcd


async def bootstrap(system: Os, call: Call) -> pb.DoneResponse:
    """Bootstrap, once, on one control plane."""
    if not system.config_or_fail.control_plane:
        raise GRPCError(Status.FAILED_PRECONDITION, "bootstrap can only be performed on a control plane node")
    if system.standing("clock-not-synced") is not None:
        raise GRPCError(Status.FAILED_PRECONDITION, "time is not in sync yet")
    etcd = system.etcd
    if etcd is None or system.fault("bootstrap-not-yet") is not None:
        raise GRPCError(Status.FAILED_PRECONDITION, "bootstrap is not available yet")
    if etcd.has_data or etcd.running:
        raise GRPCError(Status.ALREADY_EXISTS, "etcd data directory is not empty")
    etcd.bootstrap(Recovery(call.request.recover_skip_hash_check) if call.request.recover_etcd else None)
    system.emit("bootstrapped", recovered=call.request.recover_etcd)
    if system.fault("bootstrap-lost") is not None:
        system.api.drop_connections()
    return _DONE


async def member_list(system: Os, call: Call) -> pb.EtcdMemberListResponse:
    """EtcdMemberList: of the local member alone with `query_local`, else one that has quorum."""
    etcd = _etcd(system, "member list")
    async with etcd.client() as client:
        members = await client.members(linearizable=not call.request.query_local)
    listed = [
        pb.EtcdMember(
            id=member.id, hostname=member.name, peer_urls=member.peer_urls, client_urls=member.client_urls,
            is_learner=member.is_learner,
        )
        for member in members
    ]  # fmt: skip
    names = [member.name for member in members]
    return pb.EtcdMemberListResponse(messages=[pb.EtcdMembers(legacy_members=names, members=listed)])


async def remove_member(system: Os, call: Call) -> pb.DoneResponse:
    """EtcdRemoveMemberByID."""
    async with _etcd(system, "etcd remove member").client() as client:
        if call.request.member_id not in [member.id for member in await client.members()]:
            raise GRPCError(Status.NOT_FOUND, "etcdserver: member not found")
        await client.remove(call.request.member_id)
    return _DONE


async def leave_cluster(system: Os, call: Call) -> pb.DoneResponse:
    """EtcdLeaveCluster."""
    etcd = _etcd(system, "etcd leave")
    if system.fault("etcd-leave-fails") is not None:
        raise EtcdError("failed to leave cluster: context deadline exceeded")
    await etcd.leave()
    system.emit("etcd_left")
    return _DONE


async def forfeit_leadership(system: Os, call: Call) -> pb.EtcdForfeitLeadershipResponse:
    """EtcdForfeitLeadership: the new leader's name, empty when this member didn't lead."""
    async with _etcd(system, "etcd forfeit leadership").client() as client:
        status = await client.status()
        successor = ""
        if status.leader == status.header.member_id:
            successor = await _hand_over(client.move_leader, await client.members(), status.leader)
    message = pb.EtcdForfeitLeadership(member=successor)
    return pb.EtcdForfeitLeadershipResponse(messages=[message])


async def _hand_over(move: object, members: list[etcd_pb.Member], leader: int) -> str:
    for member in members:
        if member.id != leader and not member.is_learner:
            await move(member.id)  # type: ignore[operator]
            return str(member.name)
    raise EtcdError("cannot find a follower to forfeit the leadership to")


async def status(system: Os, call: Call) -> pb.EtcdStatusResponse:
    """EtcdStatus: this member's own view."""
    async with _etcd(system, "etcd status").client() as client:
        seen = await client.status()
    member = pb.EtcdMemberStatus(
        member_id=seen.header.member_id, protocol_version=seen.version, storage_version=seen.storage_version,
        db_size=seen.db_size, db_size_in_use=seen.db_size_in_use, leader=seen.leader, raft_index=seen.raft_index,
        raft_term=seen.raft_term, raft_applied_index=seen.raft_applied_index, errors=seen.errors,
        is_learner=seen.is_learner,
    )  # fmt: skip
    return pb.EtcdStatusResponse(messages=[pb.EtcdStatus(member_status=member)])


async def alarm_list(system: Os, call: Call) -> pb.EtcdAlarmListResponse:
    """EtcdAlarmList."""
    async with _etcd(system, "etcd alarm list").client() as client:
        alarms = await client.alarms()
    listed = [
        pb.EtcdMemberAlarm(member_id=alarm.member_id, alarm=pb.EtcdMemberAlarm.AlarmType.ValueType(alarm.alarm))
        for alarm in alarms
    ]
    return pb.EtcdAlarmListResponse(messages=[pb.EtcdAlarm(member_alarms=listed)])


async def snapshot(system: Os, call: Call) -> AsyncIterator[pb.Data]:
    """EtcdSnapshot: the database and its sha256, in chunks of 32 KiB."""
    async with _etcd(system, "etcd snapshot").client() as client:
        async for blob in client.snapshot():
            for start in range(0, len(blob), _CHUNK):
                yield pb.Data(bytes=blob[start : start + _CHUNK])


async def recover(system: Os, call: Call) -> pb.DoneResponse:
    """EtcdRecover: keep an uploaded snapshot for a Bootstrap that recovers. Nobody looks into it yet."""
    if not system.config_or_fail.control_plane:
        raise GRPCError(Status.UNIMPLEMENTED, "etcd recover is only available on control plane nodes")
    if system.etcd is None:  # its folder is not mounted yet
        raise GRPCError(Status.FAILED_PRECONDITION, "etcd service is not ready for recovery yet")
    write(system.etcd.snapshot, b"".join(part.bytes for part in call.requests))
    system.emit("snapshot_uploaded", bytes=system.etcd.snapshot.stat().st_size)
    return _DONE
