"""A snapshot of the etcd of a cluster on Linux hosts, to a file on this machine; with k3s' token, which opens it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cli import credentials
from cli.backup import Backup, folder
from cli.clusters import reached
from cli.observe import Lab
from cli.target import target
from providers.errors import UserError
from providers.k3s import backup as k3s
from providers.kubeadm import backup as kubeadm
from providers.ssh import reach
from providers.talos.backup import Taken


def make(lab: Lab, name: str, to: Path | None, now: datetime | None = None) -> Backup:
    """Take a snapshot, verify it, and prove it to be this cluster's.

    Args:
        lab: the stack.
        name: the cluster's.
        to: a file, or a folder to make one in; by default the stack's own folder.
        now: the moment in the default name.

    Raises:
        UserError: there is no such cluster, or a file can't be written.
        UnreachableError: no control plane gives a snapshot.
    """
    cluster = reached(lab, name)
    path = target(folder(lab.stack), f"etcd-{name}-{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}.db", to)
    if cluster.settings.k3s is None:
        targets = {host: reach.target(login) for host, login in cluster.logins.items()}
        return Backup(path, name, kubeadm.take(name, targets, path))
    taken = k3s.take(name, cluster.logins, cluster.port, path)
    token = _beside(path, taken.token)
    return Backup(path, name, Taken(taken.host, led=True, snapshot=taken.snapshot), token)


def _beside(path: Path, token: str) -> Path:
    """The servers' token in a file of its own."""
    file = path.with_name(f"{path.name}.token")
    try:
        credentials.write(file, f"{token}\n")
    except OSError as error:
        raise UserError(f"{file}: can't be written: {error.strerror}") from None
    return file
