"""Commands and files on one Linux host over SSH. Blocking; knows nothing of Pulumi."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

import asyncssh

from providers.deadline import Deadline
from providers.errors import AuthError, HomelabError, ProtocolError, RefusedError, UnreachableError, UserError
from providers.ssh.loop import blocking

CONNECT_S = 10.0  # one attempt
PAUSE_S = 1.0  # between two attempts
_KEEPALIVE_S = 10
_LOST_AFTER = 3  # keep-alives without an answer
_SHOWN = 300  # characters of a command's words that an error repeats


@dataclass(frozen=True)
class Target:
    """Where a host is and how it is known.

    Args:
        name: the host's name in the settings, for errors.
        address: its IPv4 address or DNS name.
        host_key: its public key, `ssh-ed25519 AAAA...`; any other one is refused.
        key: our private key, as text. A secret.
        user: who logs in; anybody but root gets root's rights by `sudo -n`.
        port: TCP port.
    """

    name: str
    address: str
    host_key: str
    key: str = field(repr=False)
    user: str = "root"
    port: int = 22

    @property
    def place(self) -> str:
        """The host as errors name it."""
        at = self.address if self.port == 22 else f"{self.address}:{self.port}"
        return f"{self.name} ({at})"

    @property
    def login(self) -> str:
        """The command that an owner would type."""
        port = "" if self.port == 22 else f"-p {self.port} "
        return f"ssh {port}{self.user}@{self.address}"


@dataclass(frozen=True)
class Answer:
    """How a command ended. `out` and `err` are text; what is no UTF-8 is replaced."""

    code: int
    out: str
    err: str


class Host:
    """An open connection to a host. Made by `connect`."""

    def __init__(self, target: Target, connection: asyncssh.SSHClientConnection) -> None:
        self.target = target
        self._connection = connection

    def run(
        self, command: str, *, stdin: bytes = b"", timeout_s: float = 60, check: bool = True, secret: bool = False
    ) -> Answer:
        """Run a command as root, once: it is never repeated, as nobody knows how far a broken one came.

        Args:
            command: for the host's shell. Everybody on the host sees it, so secrets go to `stdin`.
            stdin: what it reads.
            timeout_s: seconds that it may take.
            check: whether an exit code other than 0 is an error.
            secret: whether errors keep its output to themselves.

        Raises:
            RefusedError: `check`, and it failed.
            UnreachableError: the connection was cut, or it took too long.
        """
        code, out, err = self._raw(command, stdin, timeout_s)
        answer = Answer(code, out.decode(errors="replace"), err.decode(errors="replace"))
        if check and answer.code != 0:
            said = "its words are kept back, as they may hold a secret" if secret else _words(answer)
            raise RefusedError(
                f"{self.target.place}: `{_short(command)}` ended with {answer.code}: {said}; "
                f"look with `{self.target.login}`"
            )
        return answer

    def read(self, path: str, *, timeout_s: float = 60) -> bytes | None:
        """A file's content, or None where there is none. Raises as `run`."""
        code, out, err = self._raw(f"cat -- {shlex.quote(path)}", b"", timeout_s)
        if code == 0:
            return out
        said = err.decode(errors="replace")
        if "No such file" in said:
            return None
        raise RefusedError(
            f"{self.target.place}: reading {path}: {_short(said.strip())}; look with `{self.target.login}`"
        )

    def write(self, path: str, data: bytes, mode: int = 0o644, *, timeout_s: float = 60) -> bool:
        """Give a file its content and mode: at once, or not at all. Folders are made. Raises as `run`.

        Returns:
            whether its content changed; a file that is right already is left alone.
        """
        if self.read(path, timeout_s=timeout_s) == data:
            return False
        new = f"{posixpath.dirname(path)}/.{posixpath.basename(path)}.new"
        quoted = shlex.quote(new)
        # Empty and with its mode first: a secret is never readable to others, not even for a moment.
        self.run(f"install -D -m {mode:04o} /dev/null {quoted}")
        self.run(f"tee -- {quoted}", stdin=data, timeout_s=timeout_s, secret=True)
        self.run(f"mv -f -- {quoted} {shlex.quote(path)}")
        return True

    def remove(self, path: str) -> None:
        """Remove a file or a whole folder; one that is not there is fine. Raises as `run`."""
        self.run(f"rm -rf -- {shlex.quote(path)}")

    def _raw(self, command: str, stdin: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:
        full = command if self.target.user == "root" else f"sudo -n -- sh -c {shlex.quote(command)}"
        try:
            # Without input asyncssh would leave the command waiting for some.
            given = {"input": stdin} if stdin else {"stdin": asyncssh.DEVNULL}
            done = blocking(self._connection.run(full, encoding=None, **given), timeout_s)
        except TimeoutError:
            raise UnreachableError(
                f"{self.target.place}: `{_short(command)}` gave no answer within {timeout_s:.0f} s and may still run; "
                f"look with `{self.target.login}`"
            ) from None
        except (asyncssh.Error, OSError) as error:
            raise self._cut(command, error) from None
        if done.exit_status is None or done.exit_status < 0:
            raise self._cut(command, done.exit_signal[0] if done.exit_signal else "the host hung up")
        return done.exit_status, _bytes(done.stdout), _bytes(done.stderr)

    def _cut(self, command: str, seen: object) -> UnreachableError:
        return UnreachableError(
            f"{self.target.place}: the connection was cut while `{_short(command)}` ran ({seen}); nobody knows how "
            "far it came: run this again, it begins with looking"
        )


@contextlib.contextmanager
def connect(target: Target, timeout_s: float = 60) -> Iterator[Host]:
    """A connection to a host, closed at the end. A host that does not answer is asked again, until `timeout_s`.

    Raises:
        UserError: a key in the settings is none.
        AuthError: the host refused our key. Not tried again.
        ProtocolError: the host has another key than the pinned one, or speaks no SSH. Not tried again.
        UnreachableError: it gave no answer in time.
    """
    connection = _connected(target, Deadline(timeout_s))
    try:
        yield Host(target, connection)
    finally:
        connection.abort()


def _connected(target: Target, deadline: Deadline) -> asyncssh.SSHClientConnection:
    options = _options(target)
    attempt = 0
    while True:
        attempt += 1
        try:
            return blocking(_open(target, options), min(CONNECT_S, deadline.seconds))
        except TimeoutError:
            seen = "no answer"
        except asyncssh.Error as error:
            if (final := _final(target, error)) is not None:
                raise final from None
            seen = str(error)
        except OSError as error:
            seen = os.strerror(error.errno) if error.errno else str(error)
        if deadline.expired:
            raise UnreachableError(
                f"{target.place}: no SSH within {deadline.seconds:.0f} s, {attempt} attempts, the last one: {seen}; "
                f"see that it is on, then try `{target.login}`"
            )
        deadline.sleep(PAUSE_S)


async def _open(target: Target, options: asyncssh.SSHClientConnectionOptions) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(target.address, target.port, options=options)


def _options(target: Target) -> asyncssh.SSHClientConnectionOptions:
    return asyncssh.SSHClientConnectionOptions(
        config=[],  # neither the owner's ssh_config nor his agent has a say
        agent_path=None,
        known_hosts=([_host_key(target)], [], []),
        client_keys=[_private_key(target)],
        username=target.user,
        preferred_auth="publickey",
        login_timeout=CONNECT_S,
        keepalive_interval=_KEEPALIVE_S,
        keepalive_count_max=_LOST_AFTER,
    )


def _host_key(target: Target) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_public_key(target.host_key)
    except (asyncssh.KeyImportError, ValueError):
        raise UserError(
            f"{target.place}: the pinned host key is none; type `ssh-keyscan -t ed25519 {target.address}` and "
            "compare it with what the host's own console says"
        ) from None


def _private_key(target: Target) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_private_key(target.key)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        raise UserError(
            f"{target.place}: the private key can't be read; give one without a passphrase, as "
            "`ssh-keygen -t ed25519 -N ''` makes it"
        ) from None


def _final(target: Target, error: asyncssh.Error) -> HomelabError | None:
    """What is no use to try again."""
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return ProtocolError(
            f"{target.place}: shows another host key than the pinned one; nothing was sent. Was it reinstalled, or is "
            f"it another host? Compare `ssh-keyscan -p {target.port} -t ed25519 {target.address}` with its console"
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return AuthError(
            f"{target.place}: refuses our key for {target.user}; add the public key to {target.user}'s "
            f"authorized_keys, then try `{target.login}`"
        )
    if isinstance(error, (asyncssh.ProtocolError, asyncssh.KeyExchangeFailed, asyncssh.ProtocolNotSupported)):
        return ProtocolError(
            f"{target.place}: no SSH that we understand: {error.reason}; look with `{target.login} -v`"
        )
    return None


def _bytes(output: bytes | str | None) -> bytes:
    return output if isinstance(output, bytes) else (output or "").encode()


def _words(answer: Answer) -> str:
    return _short((answer.err.strip() or answer.out.strip() or "no words").replace("\n", " / "))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
