"""A TCP forwarder: what arrives at one address goes to the first of some others that answers."""

import asyncio
from collections.abc import Callable
from typing import Any

Upstreams = Callable[[], list[tuple[str, int]]]
_CHUNK = 1 << 16


class Relay:
    """Listens until it is closed; closing it cuts every connection at once."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def listen(self, address: str, port: int) -> None:
        """Begin to accept. Raises OSError."""
        self._server = await asyncio.start_server(self._accept, address, port)

    def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Cut what is open."""
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = {writer}
        self._writers |= opened
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            upstream = await self._connect()
            if upstream is not None:
                opened.add(upstream[1])
                self._writers |= opened
                await asyncio.gather(_pump(reader, upstream[1]), _pump(upstream[0], writer))
        except asyncio.CancelledError:
            pass  # cut: the streams' own callback would report it as a failure
        finally:
            self._writers -= opened
            for each in opened:
                each.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for address, port in self._upstreams():
            try:
                return await asyncio.wait_for(asyncio.open_connection(address, port), 3)
            except (OSError, TimeoutError):
                continue
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except (OSError, asyncio.IncompleteReadError):
        writer.transport.abort()
