"""Taking a snapshot of etcd through the Talos API, from the control plane that knows most."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from providers import pace
from providers.errors import HomelabError, ProtocolError, UnreachableError, UserError
from providers.talos import snapshot
from providers.talos.client import EtcdStatus, Talos, TalosError
from providers.talos.pki import ClientCert
from providers.talos.snapshot import Snapshot

ROLE = "os:etcd:backup"  # may take snapshots and list members, and nothing else
CALL_S = 10.0


@dataclass(frozen=True)
class Taken:
    """A snapshot that was taken and verified.

    Attributes:
        node: whose member gave it.
        led: whether etcd had a leader; without one it is what this member last knew.
    """

    node: str
    led: bool
    snapshot: Snapshot


@dataclass(frozen=True)
class _Source:
    node: str
    address: str
    status: EtcdStatus

    @property
    def rank(self) -> tuple[bool, int]:
        """A member with a leader before one without, then the one that has applied most."""
        return self.status.leader != 0, self.status.raft_applied_index


def take(control_planes: Mapping[str, str], cert: ClientCert, path: Path) -> Taken:
    """Write a verified snapshot to `path` (mode 0600), whole or not at all.

    Args:
        control_planes: name to address.
        cert: a client certificate; the role `os:etcd:backup` is enough.
        path: where it goes; what was there stays until the new one is whole and verified.

    Raises:
        UnreachableError: no control plane has an etcd that answers.
        ProtocolError: what came is not a usable snapshot.
        UserError: the file can't be written.
    """
    part = path.with_name(f".{path.name}.new")
    try:
        source = _from_the_best(_sources(control_planes, cert), cert, part)
        found = snapshot.read(part)
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return Taken(source.node, source.status.leader != 0, replace(found, path=path))


def _sources(control_planes: Mapping[str, str], cert: ClientCert) -> list[_Source]:
    """The members that answer, the best first."""
    with ThreadPoolExecutor(max(1, len(control_planes))) as pool:
        asked = {name: pool.submit(_status, address, cert) for name, address in control_planes.items()}
        answers = {name: future.result() for name, future in asked.items()}
    found = [
        _Source(name, control_planes[name], seen) for name, seen in answers.items() if isinstance(seen, EtcdStatus)
    ]
    if not found:
        why = "; ".join(f"{name}: {error}" for name, error in answers.items()) or "none is declared"
        raise UnreachableError(f"no control plane has an etcd to take a snapshot of: {why}")
    return sorted(found, key=lambda source: source.rank, reverse=True)


def _status(address: str, cert: ClientCert) -> EtcdStatus | HomelabError:
    try:
        with Talos.secure(address, cert) as talos:
            return talos.etcd_status(timeout_s=pace.limit(CALL_S))
    except HomelabError as error:
        return error


def _from_the_best(sources: list[_Source], cert: ClientCert, path: Path) -> _Source:
    """Ask one after the other, until one gives the whole of it."""
    last: HomelabError | None = None
    for source in sources:
        try:
            with Talos.secure(source.address, cert) as talos:
                talos.etcd_snapshot(path)
        except (UnreachableError, ProtocolError, TalosError) as error:
            last = error
        else:
            return source
    raise last or UnreachableError("no control plane is declared")
