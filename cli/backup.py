"""A snapshot of etcd now, to a file on this machine: verified, and proven to be this cluster's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.observe import Lab
from cli.stacks import Stack
from cli.target import target
from providers.errors import HomelabError, UnreachableError, UserError
from providers.talos import backup, origin
from providers.talos.backup import Taken
from providers.talos.client import Talos
from providers.talos.pki import ClientCert
from providers.talos.secrets import SecretsBundle

READ_S = 30.0


@dataclass(frozen=True)
class Backup:
    """What `homelab backup` made.

    Attributes:
        token: the file with the servers' token, of a k3s cluster.
    """

    path: Path
    cluster: str
    taken: Taken
    token: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        found = self.taken.snapshot
        return {
            "file": str(self.path),
            "cluster": self.cluster,
            "node": self.taken.node,
            "size_bytes": found.size_bytes,
            "sha256": found.sha256,
            "revision": found.revision,
            "keys": found.keys,
            "led": self.taken.led,
            **({"token": str(self.token)} if self.token else {}),
        }


def folder(stack: Stack) -> Path:
    """Where snapshots go that were given no place. It outlives the cluster."""
    return stack.folder / "backups"


def make(lab: Lab, to: Path | None, now: datetime | None = None) -> Backup:
    """Take a snapshot, verify it, and only then give it its name.

    Args:
        lab: whose etcd.
        to: a file, or a folder to make one in; by default the stack's own folder.
        now: the moment in the default name.

    Raises:
        UserError: there is no cluster yet, or the file can't be written.
        UnreachableError: no control plane answers.
        ProtocolError: what came is not a usable snapshot.
        ForeignSnapshotError: what came is not of the cluster with these secrets.
    """
    cert = certificate(lab)
    name = f"etcd-{lab.settings.cluster.name}-{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}.db"
    path = target(folder(lab.stack), name, to)
    fresh = path.with_name(f".{path.name}.unproven")
    try:
        taken = backup.take(lab.control_planes, cert, fresh)
        origin.refuse_foreign(taken.snapshot, secrets(lab))
        fresh.replace(path)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None
    finally:
        fresh.unlink(missing_ok=True)
    return Backup(path, lab.settings.cluster.name, taken)


def certificate(lab: Lab) -> ClientCert:
    """The key to the nodes.

    Raises:
        UserError: there is none on this machine.
    """
    if lab.certificate is None:
        where = lab.stack.folder / "talosconfig"
        raise UserError(
            f"no cluster is known here: {where} is missing; `homelab up --stack {lab.stack.name}` writes it"
        )
    return lab.certificate


def secrets(lab: Lab) -> SecretsBundle:
    """The cluster's secrets, from the machine config of the first control plane that answers; it needs no etcd.

    Raises:
        UnreachableError: none answers.
    """
    cert, said = certificate(lab), []
    for name, address in lab.control_planes.items():
        try:
            with Talos.secure(address, cert) as talos:
                return SecretsBundle.from_machine_config(talos.machine_config(timeout_s=READ_S))
        except HomelabError as error:
            said.append(f"{name}: {error}")
    raise UnreachableError(f"no control plane shows its machine config: {'; '.join(said) or 'none is declared'}")


def size(size_bytes: int) -> str:
    """For people."""
    return f"{size_bytes / 1e6:.1f} MB"
