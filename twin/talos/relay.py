"""A TCP forwarder: what arrives at one address goes to the first of some others that answers."""

import asyncio
import socket
from collections.abc import Callable

Upstreams = Callable[[], list[tuple[str, int]]]
_CHUNK = 1 << 16


class Relay:
    """Listens until it is closed; closing it cuts every connection at once."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, address: str, port: int) -> None:
        """Begin to accept. Raises OSError."""
        # Not an asyncio server: closed between a connection's arrival and its first turn, that forgets the socket.
        self._listener = socket.create_server((address, port))
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Cut what is open."""
        for task in list(self._tasks):
            task.cancel()

    def _accept(self, listener: socket.socket) -> None:
        try:
            client = listener.accept()[0]
        except OSError:
            return  # gone again before its turn came
        client.setblocking(False)
        task = asyncio.ensure_future(self._forward(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: client.close())  # also where the task was cancelled before it began

    async def _forward(self, client: socket.socket) -> None:
        upstream = await self._connect()
        if upstream is None:
            return
        try:
            reader, writer = await asyncio.open_connection(sock=client)
            try:
                await asyncio.gather(_pump(reader, upstream[1]), _pump(upstream[0], writer))
            finally:
                writer.transport.abort()
        finally:
            upstream[1].transport.abort()

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
