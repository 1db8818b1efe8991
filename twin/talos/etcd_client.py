"""Calls to a real etcd member over gRPC, with the node's own client certificate."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self, TypeVar

from google.protobuf.message import Message
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.config import Configuration
from grpclib.exceptions import GRPCError, StreamTerminatedError

from twin.talos.api import etcd_pb2 as pb

R = TypeVar("R", bound=Message)


class EtcdError(Exception):
    """etcd refused or didn't answer; the message is etcd's own."""


class EtcdClient:
    """One member's client port; a context manager."""

    def __init__(self, address: str, context: ssl.SSLContext, timeout_s: float = 5) -> None:
        self._timeout_s = timeout_s
        limit = Configuration(http2_connection_window_size=1 << 24, http2_stream_window_size=1 << 22)
        self._channel = Channel(address, 2379, ssl=context, config=limit)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go."""
        self._channel.close()

    async def members(self, *, linearizable: bool = True) -> list[pb.Member]:
        """The member list; a linearizable one needs quorum."""
        request = pb.MemberListRequest(linearizable=linearizable)
        return list((await self._call("Cluster/MemberList", request, pb.MembersResponse)).members)

    async def add_learner(self, peer_url: str) -> tuple[int, list[pb.Member]]:
        """Add a member that doesn't vote yet; its id and the new list."""
        request = pb.MemberAddRequest(peer_urls=[peer_url], is_learner=True)
        reply = await self._call("Cluster/MemberAdd", request, pb.MemberAddResponse)
        return reply.member.id, list(reply.members)

    async def promote(self, member: int) -> None:
        """Let a learner vote; refused until it has caught up."""
        await self._call("Cluster/MemberPromote", pb.MemberRequest(id=member), pb.MembersResponse)

    async def remove(self, member: int) -> None:
        """Remove a member by id."""
        await self._call("Cluster/MemberRemove", pb.MemberRequest(id=member), pb.MembersResponse)

    async def status(self) -> pb.StatusResponse:
        """This member's own view."""
        return await self._call("Maintenance/Status", pb.StatusRequest(), pb.StatusResponse)

    async def move_leader(self, member: int) -> None:
        """Give the lead to another member; only the leader can."""
        await self._call("Maintenance/MoveLeader", pb.MoveLeaderRequest(target_id=member), pb.StatusRequest)

    async def alarms(self) -> list[pb.AlarmMember]:
        """The alarms that are on."""
        return list((await self._call("Maintenance/Alarm", pb.AlarmRequest(), pb.AlarmResponse)).alarms)

    async def snapshot(self) -> AsyncIterator[bytes]:
        """The database with its trailing sha256, in chunks."""
        method = UnaryStreamMethod(
            self._channel, "/etcdserverpb.Maintenance/Snapshot", pb.SnapshotRequest, pb.SnapshotResponse
        )
        with _translated():
            async with method.open(timeout=120) as stream:
                await stream.send_message(pb.SnapshotRequest(), end=True)
                async for part in stream:
                    yield part.blob

    async def _call(self, path: str, request: Message, reply: type[R]) -> R:
        method = UnaryUnaryMethod(self._channel, f"/etcdserverpb.{path}", type(request), reply)
        with _translated():
            answer: R = await method(request, timeout=self._timeout_s)
            return answer


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except GRPCError as error:
        raise EtcdError(error.message or error.status.name) from None
    except (OSError, TimeoutError, StreamTerminatedError) as error:
        raise EtcdError(str(error) or type(error).__name__) from None
