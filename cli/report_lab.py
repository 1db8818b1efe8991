"""What the report tells of a lab, as plain values; and what of it needs attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cli.observe_scene import Scene, SeenNode
from cli.run_log import Run

SOON_DAYS = 30
OLD_BACKUP = timedelta(days=7)
JOB_TIME = timedelta(hours=1)  # twice what the job's own limit gives it


@dataclass(frozen=True)
class Certificate:
    """A certificate, without its key.

    Attributes:
        name: what it is.
        place: where it was read.
        until: its last moment; None when it could not be read, and `note` says why.
        renewal: who renews it, and how.
        counts: whether anybody minds its end; nobody does of one that is known by its fingerprint.
    """

    name: str
    place: str
    until: datetime | None
    renewal: str
    note: str = ""
    counts: bool = True

    def days(self, now: datetime) -> int | None:
        """Whole days left; negative afterwards."""
        return None if self.until is None else (self.until - now) // timedelta(days=1)

    def state(self, now: datetime) -> str:
        """`good`, `soon` (less than 30 days), `expired` or `unknown`."""
        left = self.days(now)
        if left is None:
            return "unknown"
        if not self.counts:
            return "good"
        return "expired" if left < 0 else ("soon" if left < SOON_DAYS else "good")


@dataclass(frozen=True)
class Backup:
    """A copy on this machine. `kind` is "etcd" or "state"."""

    kind: str
    file: str
    size_bytes: int
    made: datetime


@dataclass(frozen=True)
class Job:
    """The cluster's own backup job. `note` says why nothing is known of it."""

    schedule: str
    target: str
    succeeded: datetime | None = None
    scheduled: datetime | None = None
    suspended: bool = False
    note: str = ""

    def failed(self, now: datetime) -> bool:
        """Whether its last turn had its time and brought nothing."""
        if self.scheduled is None or now - self.scheduled < JOB_TIME:
            return False
        return self.succeeded is None or self.succeeded < self.scheduled


@dataclass(frozen=True)
class PartSeen:
    """A part of the platform, or an application. `addresses` are those that the settings fix."""

    name: str
    version: str
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """A service with an address of the LAN, as the API lists it; "" while it waits for one."""

    namespace: str
    name: str
    address: str
    ports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Version:
    """A version: what the settings ask for, and what was seen of it; "" where nobody told."""

    what: str
    wanted: str
    seen: str


@dataclass(frozen=True)
class Report:
    """All that stands on the page.

    Attributes:
        parts: None when the settings have no platform.
        services: None when the API could not be asked.
        runs: newest first.
    """

    made: datetime
    scene: Scene
    versions: tuple[Version, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    backups: tuple[Backup, ...] = ()
    job: Job | None = None
    parts: tuple[PartSeen, ...] = ()
    services: tuple[Service, ...] | None = None
    runs: tuple[Run, ...] = field(default=())


def attention(report: Report) -> tuple[str, ...]:
    """What its reader should look at, the gravest first; nothing when all is well."""
    return (
        *_cluster(report.scene),
        *(word for node in report.scene.nodes for word in _node(node)),
        *_certificates(report),
        *_backups(report),
        *_versions(report.versions),
        *_run(report.runs),
    )


def _cluster(scene: Scene) -> Iterator[str]:
    cluster = scene.cluster
    if cluster.api != "answering":
        yield "the Kubernetes API gives no answer"
    if cluster.members is None:
        yield "no control plane tells how etcd is"
    elif cluster.healthy is not None and cluster.healthy < cluster.members:
        yield f"etcd: {cluster.healthy} of {cluster.members} members are healthy"
    if cluster.holder is None:
        yield f"nobody is seen with the VIP {cluster.vip}"
    for board in scene.boards:
        if board.state not in ("answering", "flashing"):
            yield f"{board.name}: {board.state}"
        if board.flash and board.flash.state == "Error":
            yield f"{board.name}: the last flash failed: {board.flash.text}"


def _node(node: SeenNode) -> Iterator[str]:
    if node.talos == "disabled":
        return
    if node.ready is False:
        yield f"{node.name}: not Ready" + (f": {node.why}" if node.why else "")
    elif node.talos != "running":
        yield f"{node.name}: {node.talos}"
    if node.cordoned:
        yield f"{node.name}: cordoned, takes no new pods"


def _certificates(report: Report) -> Iterator[str]:
    for found in report.certificates:
        left, state = found.days(report.made), found.state(report.made)
        if state == "expired":
            yield f"{found.name}: expired {-(left or 0)} days ago; {found.renewal}"
        elif state == "soon":
            yield f"{found.name}: {left} days left; {found.renewal}"


def _backups(report: Report) -> Iterator[str]:
    job, own = report.job, [it.made for it in report.backups if it.kind == "etcd"]
    newest = max([*own, *([job.succeeded] if job and job.succeeded else [])], default=None)
    if job is not None and job.suspended:
        yield "the etcd backup job is suspended"
    if job is not None and job.failed(report.made):
        yield f"the etcd backup job of {job.scheduled:%d %b %Y, %H:%M} has not succeeded"
    if (newest is None or report.made - newest > OLD_BACKUP) and not (job and job.note):
        yield f"no backup of etcd is younger than {OLD_BACKUP.days} days"


def _versions(versions: Sequence[Version]) -> Iterator[str]:
    for version in versions:
        if version.wanted and version.seen and version.wanted != version.seen:
            yield f"{version.what}: the settings ask for {version.wanted}, seen is {version.seen}"


def _run(runs: Sequence[Run]) -> Iterator[str]:
    acting = next((run for run in runs if not run.previewing), None)  # an `up` that was told no began nothing
    if acting is not None and acting.outcome in ("failed", "cut off"):
        yield f"the last {acting.verb} {'failed' if acting.outcome == 'failed' else 'was cut off'}"
