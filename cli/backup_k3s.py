"""A snapshot of a k3s cluster's etcd, and the token without which it is of no use, to files on this machine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cli import credentials
from cli.backup import Backup, folder
from cli.clusters import reached
from cli.observe import Lab
from cli.target import target
from providers.errors import UserError
from providers.k3s import backup
from providers.talos.backup import Taken


def make(lab: Lab, name: str, to: Path | None, now: datetime | None = None) -> Backup:
    """Take a snapshot, verify it, prove it to be this cluster's, and put the servers' token beside it.

    Args:
        lab: the stack.
        name: the cluster's.
        to: a file, or a folder to make one in; by default the stack's own folder.
        now: the moment in the default name.

    Raises:
        UserError: there is no such cluster, or a file can't be written.
        UnreachableError: no server gives a snapshot.
    """
    cluster = reached(lab, name)
    path = target(folder(lab.stack), f"etcd-{name}-{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}.db", to)
    taken = backup.take(name, cluster.logins, cluster.port, path)
    token = path.with_name(f"{path.name}.token")
    try:
        credentials.write(token, f"{taken.token}\n")
    except OSError as error:
        raise UserError(f"{token}: can't be written: {error.strerror}") from None
    return Backup(path, name, Taken(taken.host, led=True, snapshot=taken.snapshot), token)
