"""Starts the players of a cluster and keeps them at an API server of it that answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from twin.kubernetes.api import ApiError
from twin.kubernetes.players import certificates, ingress, kamaji, metallb, operator, volumes, webhooks
from twin.kubernetes.players.longhorn import play as longhorn
from twin.kubernetes.players.world import Player, World
from twin.talos.registry import lan

if TYPE_CHECKING:
    from twin.kubernetes.controlplane import ControlPlane
    from twin.lab import Lab
    from twin.talos.os import Os

PLAYERS: tuple[Player, ...] = (
    metallb.play,
    webhooks.play,
    ingress.play,
    certificates.play,
    longhorn.play,
    volumes.play,
    operator.play,
    kamaji.play,
)
_POLL_S = 0.5


def start(system: Os) -> None:
    """Play for the cluster of a control plane whose API server is ready; does nothing when somebody does already."""
    running: dict[tuple[str, str], asyncio.Task[None]] = system.lab.registry.setdefault("players", {})
    identity = system.config_or_fail.identity
    if identity not in running or running[identity].done():
        running[identity] = system.lab.spawn(_play(system.lab, identity, running), "players")


async def _play(lab: Lab, identity: tuple[str, str], running: dict[tuple[str, str], asyncio.Task[None]]) -> None:
    while servers := list(_servers(lab, identity)):
        for server in servers:
            await _session(lab, server)
        await asyncio.sleep(_POLL_S)
    running.pop(identity, None)


async def _session(lab: Lab, server: ControlPlane) -> None:
    async with server.admin() as api:
        if server.ready and await api.ready():
            try:
                await World(lab, api).run(PLAYERS)
            except* ApiError:
                pass  # this server is gone: the next one


def _servers(lab: Lab, identity: tuple[str, str]) -> Iterator[ControlPlane]:
    for system in lan(lab).systems.values():
        server = system.control_plane
        if system.config is not None and system.config.identity == identity and server is not None and server.ready:
            yield server
