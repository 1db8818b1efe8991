"""What a player sees of a cluster, against an API server of a few lines."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from twin.clock import Clock
from twin.kubernetes.api import Api, ApiError
from twin.kubernetes.players.kinds import DEPLOYMENT, NODE, SERVICE
from twin.kubernetes.players.world import World
from twin.lab import Lab


def node(version: int, name: str = "n1", uid: str = "u1") -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": uid,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
    }


class Server:
    """Lists what it was given; every watch gives what is put into `events`, until there is a None."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.nodes = list(nodes)
        self.asked: list[str] = []
        self.events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    async def get(self, path: str) -> dict[str, Any]:
        self.asked.append(path)
        if "nodes" not in path:
            raise ApiError(404, "404 page not found")
        return {"items": self.nodes, "metadata": {"resourceVersion": "5"}}

    async def watch(self, path: str) -> AsyncIterator[dict[str, Any]]:
        while (event := await self.events.get()) is not None:
            yield event
        raise ApiError(0, "gone")


def play(server: Server, *players: Callable[[World], Any], seconds: float = 0.5) -> None:
    async def run() -> None:
        lab = cast(Lab, SimpleNamespace(clock=Clock(0.001)))
        async with asyncio.timeout(seconds):
            await World(lab, cast(Api, server)).run(players)

    asyncio.run(run())


def test_a_kind_is_listed_only_when_somebody_asks_for_it() -> None:
    server, seen = Server(node(3)), []

    async def player(world: World) -> None:
        seen.append([found["metadata"]["name"] for found in world.all(NODE)])

    with pytest.raises(TimeoutError):
        play(server, player)
    assert seen == [["n1"]]
    assert server.asked == ["/api/v1/nodes"]


def test_a_kind_that_is_not_served_has_no_objects() -> None:
    seen = []

    async def player(world: World) -> None:
        seen.append((world.all(SERVICE), world.get(DEPLOYMENT, "x", "y")))

    with pytest.raises(TimeoutError):
        play(Server(), player)
    assert seen[-1] == ([], None)


def test_news_wake_the_players_and_old_news_change_nothing() -> None:
    server, seen = Server(node(3)), []
    for kind, version in (("MODIFIED", 9), ("MODIFIED", 7)):
        server.events.put_nowait({"type": kind, "object": node(version)})

    async def player(world: World) -> None:
        seen.append([found["metadata"]["resourceVersion"] for found in world.all(NODE)])

    with pytest.raises(TimeoutError):
        play(server, player)
    assert seen[-1] == ["9"]


def test_a_player_that_fails_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    async def broken(world: World) -> None:
        raise KeyError("spec")

    async def player(world: World) -> None:
        seen.append(True)

    with caplog.at_level(logging.ERROR), pytest.raises(TimeoutError):
        play(Server(), broken, player)
    assert seen
    assert "KeyError" in caplog.text


def test_a_server_that_is_gone_ends_the_world() -> None:
    server = Server(node(3))
    server.events.put_nowait(None)

    async def player(world: World) -> None:
        world.all(NODE)

    with pytest.raises(ExceptionGroup) as error:
        play(server, player, seconds=5)
    assert error.group_contains(ApiError)


def test_waiting_is_in_device_time_and_begins_anew() -> None:
    seen = []

    async def player(world: World) -> None:
        seen.append(world.waited("rebuild", 150))

    with pytest.raises(TimeoutError):
        play(Server(), player, seconds=0.8)
    assert seen[:2] == [False, True]
