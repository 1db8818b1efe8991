"""The client against a real sshd: what it does, and what it says when the host or the keys are not right."""

from __future__ import annotations

import socket
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from providers.errors import AuthError, ProtocolError, RefusedError, UnreachableError, UserError
from providers.ssh import client
from providers.ssh.client import Target, connect
from tests.ports import free_port
from tests.providers.ssh.conftest import Sshd, start


def _other_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def _with(target: Target, key: str) -> Target:
    return replace(target, key="nonsense") if key == "key" else replace(target, host_key="nonsense")


def test_a_command_runs(target: Target):
    with connect(target) as host:
        answer = host.run("printf 'a\\nb'; echo no >&2; exit 3", check=False)
        assert (answer.code, answer.out, answer.err) == (3, "a\nb", "no\n")
        assert host.run("cat", stdin=b"from here").out == "from here"


def test_a_failed_command_is_told_with_its_words(target: Target):
    with connect(target) as host, pytest.raises(RefusedError) as caught:
        host.run("echo no such unit >&2; exit 5")
    assert str(caught.value) == (
        f"node7 (127.0.0.1:{target.port}): `echo no such unit >&2; exit 5` ended with 5: no such unit; "
        f"look with `ssh -p {target.port} root@127.0.0.1`"
    )


def test_a_secret_commands_words_are_kept_back(target: Target):
    with connect(target) as host, pytest.raises(RefusedError) as caught:
        host.run("cat; exit 1", stdin=b"K10abc", secret=True)
    assert "K10abc" not in str(caught.value)


def test_files_are_written_whole_and_once(target: Target, tmp_path: Path):
    path = tmp_path / "etc" / "a b" / "token"
    with connect(target) as host:
        assert host.read(str(path)) is None
        assert host.write(str(path), b"\x00one\n", 0o600)
        assert path.read_bytes() == host.read(str(path)) == b"\x00one\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        before = path.stat().st_mtime_ns
        assert not host.write(str(path), b"\x00one\n", 0o600)
        assert path.stat().st_mtime_ns == before
        assert host.write(str(path), b"two", 0o600)
        assert [file.name for file in path.parent.iterdir()] == ["token"]
        host.remove(str(path.parent))
        host.remove(str(path.parent))
        assert not path.parent.exists()
        with pytest.raises(RefusedError, match="Is a directory"):
            host.read(str(tmp_path))


def test_another_host_key_is_refused_before_anything_is_sent(target: Target, sshd: Sshd):
    before = sshd.log.read_text().count("Accepted publickey")
    other = replace(target, host_key=_other_key().export_public_key().decode())
    with pytest.raises(ProtocolError, match="another host key than the pinned one; nothing was sent"), connect(other):
        pass
    assert sshd.log.read_text().count("Accepted publickey") == before


def test_a_refused_key_is_not_tried_again(target: Target):
    begun = time.monotonic()
    other = replace(target, key=_other_key().export_private_key().decode())
    with pytest.raises(AuthError, match="refuses our key for root; add the public key"), connect(other, 30):
        pass
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("field", "words"), [("key", "the private key can't be read"), ("host_key", "host key is none")]
)
def test_keys_that_are_none(target: Target, field: str, words: str):
    with pytest.raises(UserError, match=words) as caught, connect(_with(target, field)):
        pass
    assert caught.value.__cause__ is None


def test_a_host_that_is_off_is_asked_until_the_deadline(target: Target):
    off = replace(target, port=free_port())
    with (
        pytest.raises(UnreachableError, match=r"no SSH within 2 s, \d attempts, the last one: .*refused"),
        connect(off, 2),
    ):
        pass


def test_a_host_that_comes_up_in_time_is_met(tmp_path: Path, sshd: Sshd):
    port, servers = free_port(), list[Sshd]()
    first = start(tmp_path / "keys", port)
    first.end()
    threading.Timer(1.5, lambda: servers.append(start(tmp_path / "again", port))).start()
    try:
        # Another key: it is met, and told apart.
        with pytest.raises(ProtocolError, match="another host key"), connect(first.target, 20):
            pass
    finally:
        while not servers:
            time.sleep(0.05)
        servers[0].end()


def test_silence_is_not_waited_for(target: Target, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "CONNECT_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mute = replace(target, port=silent.getsockname()[1])
        with pytest.raises(UnreachableError, match="no answer"), connect(mute, 1):
            pass


def test_a_command_that_takes_too_long(target: Target):
    with connect(target) as host, pytest.raises(UnreachableError, match=r"`sleep 30` gave no answer within 1 s"):
        host.run("sleep 30", timeout_s=1)


def test_a_connection_cut_in_the_middle(tmp_path: Path, target: Target):
    with connect(target) as host, pytest.raises(UnreachableError, match="nobody knows how far it came"):
        host.run("kill -9 $PPID")
    with connect(target) as host:
        assert host.run("echo again").out == "again\n"


def test_a_targets_key_is_not_shown(target: Target):
    assert "PRIVATE KEY" not in repr(target)
