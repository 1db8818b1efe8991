"""COSI's State service, read side: Get, List, Watch (facts B3)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from twin.talos import resources
from twin.talos.api import cosi_pb2 as pb
from twin.talos.methods import ADMIN, Call

if TYPE_CHECKING:
    from twin.talos.os import Os

_POLL_S = 0.2


def _all(system: Os, call: Call) -> list[pb.Resource]:
    kind = str(call.request.type)
    if kind not in resources.TYPES:
        raise GRPCError(Status.PERMISSION_DENIED, f'resource type "{kind}" is not supported')
    if resources.TYPES[kind].sensitive and ADMIN not in call.roles:
        raise GRPCError(Status.PERMISSION_DENIED, "not authorized")
    namespace = call.request.namespace
    return [found for found in resources.read(system, kind) if found.metadata.namespace == namespace]


async def get(system: Os, call: Call) -> pb.GetResponse:
    """Get one."""
    for found in _all(system, call):
        if found.metadata.id == call.request.id:
            return pb.GetResponse(resource=found)
    where = f"{call.request.type}({call.request.namespace}/{call.request.id})"
    raise GRPCError(Status.NOT_FOUND, f"resource {where} doesn't exist")


async def list_(system: Os, call: Call) -> AsyncIterator[pb.ListResponse]:
    """List all of a type."""
    pattern = call.request.options.id_query.regexp
    for found in _all(system, call):
        if not pattern or re.search(pattern, found.metadata.id):
            yield pb.ListResponse(resource=found)


async def watch(system: Os, call: Call) -> AsyncIterator[pb.WatchResponse]:
    """Watch: first what there is, when asked for, then every change."""
    request = call.request
    known: dict[str, pb.Resource] = {}
    wanted = request.id if request.HasField("id") else None
    first = True
    while True:
        now = {found.metadata.id: found for found in _all(system, call) if wanted in (None, found.metadata.id)}
        events = _changes(known, now)
        if first:
            events = events if request.options.bootstrap_contents or wanted is not None else []
            if request.options.bootstrap_contents and wanted is None:
                events.append(pb.Event(event_type=pb.BOOTSTRAPPED, resource=pb.Resource()))
        for answer in _answers(events, aggregated=request.options.aggregated):
            yield answer
        known, first = now, False
        await asyncio.sleep(_POLL_S)


def _changes(before: dict[str, pb.Resource], now: dict[str, pb.Resource]) -> list[pb.Event]:
    events = [pb.Event(event_type=pb.DESTROYED, resource=old) for key, old in before.items() if key not in now]
    for key, found in now.items():
        if key not in before:
            events.append(pb.Event(event_type=pb.CREATED, resource=found))
        elif before[key].spec != found.spec:
            events.append(pb.Event(event_type=pb.UPDATED, resource=found, old=before[key]))
    return events


def _answers(events: list[pb.Event], *, aggregated: bool) -> list[pb.WatchResponse]:
    if aggregated:
        return [pb.WatchResponse(event=events)] if events else []
    return [pb.WatchResponse(event=[event]) for event in events]
