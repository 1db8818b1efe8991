"""The SSH server of a host: real protocol, real keys; behind it, the table of commands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncssh

from twin.hosts import files, shell, system

if TYPE_CHECKING:
    from twin.hosts.host import Host

__all__ = ["Sshd", "files", "system"]
_POLL_S = 0.05


class Sshd:
    """Listens while its host has power."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.key = self._key()
        self._server: asyncssh.SSHAcceptor | None = None
        self._open: set[asyncssh.SSHServerConnection] = set()

    @property
    def public_key(self) -> str:
        """What an owner pins."""
        return self.key.export_public_key().decode().strip()

    async def watch(self) -> None:
        """Listen and hang up as the host's power comes and goes."""
        while True:
            if self.host.on and self._server is None:
                await self._listen()
            elif not self.host.on and self._server is not None:
                self.close()
            await asyncio.sleep(_POLL_S)

    def close(self) -> None:
        """Hang up on everybody."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._open):
            connection.abort()
        self._open.clear()

    def _key(self) -> asyncssh.SSHKey:
        file = self.host.lab.folder / self.host.name / "host_key"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            key = asyncssh.generate_private_key("ssh-ed25519")
            file.write_bytes(key.export_private_key())
            file.with_suffix(".pub").write_bytes(key.export_public_key())
        return asyncssh.read_private_key(file)

    async def _listen(self) -> None:
        spec = self.host.spec
        self._server = await asyncssh.create_server(
            lambda: _Door(self),
            self.host.address,
            spec.port,
            server_host_keys=[self.key],
            authorized_client_keys=asyncssh.import_authorized_keys(self.host.lab.spec.authorized),
            process_factory=self._serve,
            encoding=None,
            reuse_address=True,
        )

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        user = process.get_extra_info("username")
        line = process.command or ""
        stdin = await process.stdin.read()
        reply = await shell.run(self.host, user, line, stdin)
        process.stdout.write(reply.out)
        process.stderr.write(reply.err)
        process.exit(reply.code)


class _Door(asyncssh.SSHServer):
    def __init__(self, sshd: Sshd) -> None:
        self._sshd = sshd
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        if not self._sshd.host.on:
            conn.abort()  # a host that is off takes nobody in, though its listener is still to be closed
            return
        self._sshd._open.add(conn)  # noqa: SLF001  # this door is the server's own

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._sshd._open.discard(self._connection)  # noqa: SLF001  # this door is the server's own

    def begin_auth(self, username: str) -> bool:
        return True
