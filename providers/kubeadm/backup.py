"""A snapshot of a kubeadm cluster's etcd: saved on a control plane, fetched, verified, and proven to be its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from providers.errors import HomelabError, RefusedError, UnreachableError, UserError
from providers.kubeadm import etcd
from providers.kubeadm.host import CA, ETCD, Shell, Stage, claim
from providers.kubeadm.hosts import LOOK_S, Connect
from providers.ssh.client import Target, connect
from providers.talos import origin, snapshot
from providers.talos.backup import Taken

SAVED = f"{ETCD}/homelab-snapshot.db"  # the one folder of etcd's pod that is the host's, too, and may be written


def take(cluster: str, targets: Mapping[str, Target], path: Path, dial: Connect = connect) -> Taken:
    """Write a verified snapshot to `path` (mode 0600), whole or not at all, from the first one that gives it.

    Args:
        cluster: its name in the settings.
        targets: the control planes.
        path: where it goes; what was there stays until the new one is whole and proven.
        dial: how a host is reached.

    Raises:
        UnreachableError: none gives one; says what each said.
        UserError: the file can't be written.
    """
    said = []
    for target in targets.values():
        try:
            with dial(target, LOOK_S) as host:
                return _taken(host, cluster, path)
        except UserError:
            raise
        except HomelabError as error:
            said.append(str(error))
    raise UnreachableError(f"{cluster}: no control plane gave a snapshot: {'; '.join(said) or 'it has none'}")


def _taken(host: Shell, cluster: str, path: Path) -> Taken:
    note, authority = claim(host), host.read(CA)
    if note.cluster != cluster or note.stage is not Stage.DONE or authority is None:
        raise RefusedError(f"{host.target.place}: is no control plane of {cluster} yet; `homelab up` makes it one")
    fresh = path.with_name(f".{path.name}.unproven")
    try:
        data = _fetched(host)
        with snapshot.writing(fresh, host.target.place) as write:
            write(data)
        found = snapshot.read(fresh)
        origin.refuse_other_authority(found, authority.decode(errors="replace"))
        fresh.replace(path)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None
    finally:
        fresh.unlink(missing_ok=True)
    return Taken(host.target.name, led=True, snapshot=replace(found, path=path))


def _fetched(host: Shell) -> bytes:
    try:
        etcd.save(host, SAVED)
        return host.read(SAVED) or b""
    finally:
        host.remove(SAVED)
        host.remove(f"{SAVED}.part")
