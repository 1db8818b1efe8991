"""The forwarder of the simulated LAN: whatever moment its owner is cancelled at, no socket stays behind."""

import asyncio
import contextlib
import socket

import pytest

from tests.ports import free_port
from twin.talos.relay import Relay

HOST = "127.0.0.1"


@pytest.mark.parametrize("turns", range(1, 5))
def test_a_connection_that_was_accepted_when_the_listener_closed_is_cut(turns: int) -> None:
    closed = False
    asked_after_close: list[bool] = []

    def upstreams() -> list[tuple[str, int]]:
        asked_after_close.extend([True] * closed)
        return []

    async def scene() -> bytes:
        nonlocal closed
        relay = Relay(upstreams)
        port = free_port(HOST)
        relay.listen(HOST, port)
        loop = asyncio.get_running_loop()
        client = socket.create_connection((HOST, port))
        client.setblocking(False)
        with contextlib.closing(client):
            for _ in range(turns):
                await asyncio.sleep(0)  # the loop accepts in one turn, the relay hears of it in a later one
            relay.close()
            closed = True
            with contextlib.suppress(ConnectionResetError):
                return await asyncio.wait_for(loop.sock_recv(client, 1), 5)
        return b""

    assert asyncio.run(scene()) == b""
    assert asked_after_close == []
