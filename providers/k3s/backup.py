"""A snapshot of a k3s cluster's etcd: taken by a server that runs, fetched, verified, and proven to be its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from providers import pace
from providers.errors import HomelabError, ProtocolError, RefusedError, UnreachableError, UserError
from providers.k3s import files, origin, servers
from providers.ssh import reach
from providers.ssh.client import Host
from providers.talos import snapshot
from providers.talos.snapshot import Snapshot

SAVE_S = 300.0
FETCH_S = 900.0


@dataclass(frozen=True)
class Taken:
    """A snapshot that was taken and verified.

    Attributes:
        host: whose etcd gave it.
        token: without which nobody can use it, in its short form.
    """

    host: str
    snapshot: Snapshot
    token: str = field(repr=False)


def take(cluster: str, logins: Mapping[str, Mapping[str, Any]], port: int, path: Path) -> Taken:
    """Write a verified snapshot to `path` (mode 0600), whole or not at all. Servers are asked until one gives it.

    Args:
        cluster: its name in the settings.
        logins: how each server is reached.
        port: where a server's own API answers.
        path: where it goes; what was there stays until the new one is whole and proven.

    Raises:
        UnreachableError: no server gives one; says what each said.
        UserError: the file can't be written.
    """
    said = []
    for login in logins.values():
        try:
            with reach.opened(login, reach.LOOK_S) as host:
                return _taken(host, cluster, port, path)
        except UserError:
            raise
        except HomelabError as error:
            said.append(str(error))
    raise UnreachableError(f"{cluster}: no server gave a snapshot: {'; '.join(said) or 'it has none'}")


def _taken(host: Host, cluster: str, port: int, path: Path) -> Taken:
    seen = servers.look(host, cluster)
    if not seen.running:
        raise RefusedError(f"{host.target.place}: its k3s does not run; look with `systemctl status k3s`")
    fresh = path.with_name(f".{path.name}.unproven")
    try:
        _fetch(host, port, fresh)
        found = snapshot.read(fresh)
        if origin.authority(found, seen.token) != seen.authority:
            raise ProtocolError(f"{host.target.place}: its snapshot holds another authority than its API has")
        fresh.replace(path)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None
    finally:
        fresh.unlink(missing_ok=True)
    return Taken(host.target.name, replace(found, path=path), seen.token)


def _fetch(host: Host, port: int, path: Path) -> None:
    """Have k3s save one into a folder of ours, and take it away from there."""
    host.remove(files.SNAPSHOTS)
    host.run(f"mkdir -p {files.SNAPSHOTS}")
    host.run(f"chmod 0700 {files.SNAPSHOTS}")
    at = "" if port == files.PORT else f" --etcd-server https://127.0.0.1:{port}"
    try:
        command = f"{files.BINARY} etcd-snapshot save --name homelab --dir {files.SNAPSHOTS}{at}"
        host.run(command, timeout_s=pace.limit(SAVE_S))
        names = host.run(f"ls {files.SNAPSHOTS}").out.split()
        if len(names) != 1:
            raise ProtocolError(f"{host.target.place}: k3s left {len(names)} snapshots in {files.SNAPSHOTS}, not one")
        data = host.read(f"{files.SNAPSHOTS}/{names[0]}", timeout_s=pace.limit(FETCH_S)) or b""
    finally:
        host.remove(files.SNAPSHOTS)
    with snapshot.writing(path, host.target.place) as write:
        write(data)
