"""A whole k3s control plane back from a snapshot: what is checked before anything is touched, told, and done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cli import backup, backup_hosts, words
from cli.clusters import Reached, reached
from cli.observe import Lab
from cli.restore import Live, Said, age, asked, cost
from providers.errors import HomelabError
from providers.k3s import restore
from providers.k3s.servers import Seen
from providers.talos import snapshot
from providers.talos.snapshot import Snapshot


@dataclass(frozen=True)
class Planned:
    """A restore that may be done: the snapshot is whole and ours, every server answers."""

    lab: Lab
    cluster: Reached
    snapshot: Snapshot
    seen: dict[str, Seen]
    live: Live | None


def check(lab: Lab, name: str, file: Path) -> Planned:
    """Find every reason not to begin. Nothing is touched.

    Raises:
        ProtocolError: the snapshot is cut short or damaged.
        ForeignSnapshotError: it is another cluster's.
        RefusedError: a server does not answer, or is none.
    """
    cluster, found = reached(lab, name, k3s=True), snapshot.read(file.expanduser().absolute())
    seen = restore.check(cluster.plan, found)
    return Planned(lab, cluster, found, seen, _live(cluster) if any(it.running for it in seen.values()) else None)


def _live(cluster: Reached) -> Live | None:
    with contextlib.suppress(HomelabError, KeyError, ValueError):
        return asked(restore.admin(cluster.plan))
    return None


def story(planned: Planned, now: datetime | None = None) -> Iterator[str]:
    """What it will do, and what will be lost, line by line."""
    found, plan = planned.snapshot, planned.cluster.plan
    others = [name for name in plan.logins if name != plan.first]
    yield f"the snapshot: revision {found.revision}, {found.keys} keys, {age(found, now or datetime.now(UTC))}"
    yield cost(planned.live, found)
    yield f"{', '.join(plan.logins)}: k3s is stopped; pods go on, images and their data stay"
    yield f"{plan.first}: begins from the snapshot; what its etcd held stays on it, in server/db/etcd-old-..."
    if others:
        yield f"{', '.join(others)}: lose their etcd, and join {plan.first}"
    agents = [host.name for host in planned.lab.settings.hosts_of(plan.cluster) if not host.is_control_plane]
    if agents:
        yield f"{', '.join(agents)}: not touched"
    yield "the API is away for minutes"


def rescue(planned: Planned, now: datetime | None = None) -> Path | None:
    """A last snapshot of what is about to go; None when nothing runs any more."""
    if not any(it.running for it in planned.seen.values()):
        return None
    stamp = now or datetime.now(UTC)
    path = backup.folder(planned.lab.stack) / f"before-restore-{planned.cluster.name}-{stamp:%Y%m%dT%H%M%SZ}.db"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return backup_hosts.make(planned.lab, planned.cluster.name, path).path
    except HomelabError as error:
        words.say(f"warning: no snapshot of what is there now: {error}")
        return None


def run(lab: Lab, name: str, file: Path, *, yes: bool) -> None:
    """Check, tell, ask, and do it.

    Raises:
        HomelabError: as `check`, and each step; running it again does all of it again.
    """
    planned = check(lab, name, file)
    words.say(f"cluster {name} goes back to {planned.snapshot.path}:")
    for line in story(planned):
        words.say(f"  - {line}")
    words.confirm(f"Stop {name} and restore its etcd ({words.lab_kind(lab.stack)})?", yes=yes)
    kept = rescue(planned)
    if kept is not None:
        words.say(f"what is there now is kept in {kept}")
    report = Said()
    restore.run(planned.cluster.plan, planned.snapshot, report)
    for silent in restore.ready(planned.cluster.plan, [host.name for host in lab.settings.hosts_of(name)], report):
        words.say(f"warning: {silent} is not Ready yet; look with `kubectl get nodes`")
    words.say(f"{name} is back at revision {planned.snapshot.revision}")
