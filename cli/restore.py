"""A whole control plane back from a snapshot: what is checked before anything is touched, told, and done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cli import backup, words
from cli.observe import ANSWER_S, Lab
from providers import locks, pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import HomelabError, RefusedError
from providers.kubernetes.client import Kube
from providers.talos import origin, restore, snapshot
from providers.talos.bootstrap import Plan
from providers.talos.client import Mode, probe
from providers.talos.journal import Journal
from providers.talos.pki import ClientCert
from providers.talos.restore import Restore, Seen
from providers.talos.secrets import SecretsBundle, kubeconfig
from providers.talos.snapshot import Snapshot
from providers.talos.wire import admin

PROBE_S = 5.0
REBOOT_S = 300.0  # a control plane wipes itself and starts
LOOK_S = 10.0
LOCK_S = 1.0


class Said(Reporter):
    """A provider's progress, as lines of this command."""

    def __init__(self) -> None:
        super().__init__(urn="")
        self._last = ""

    def progress(self, text: str) -> None:
        """One line; said again, it is left out."""
        if text != self._last:
            self._last = text
            words.say(text)

    def info(self, text: str) -> None:
        """One line."""
        words.say(text)

    def warn(self, text: str) -> None:
        """One line."""
        words.say(f"warning: {text}")


@dataclass(frozen=True)
class Live:
    """The cluster that answers now: what it holds, and whether it is the one that the snapshot was taken of."""

    revision: int
    identity: str


@dataclass(frozen=True)
class Planned:
    """A restore that may be done: the snapshot is whole and ours, every control plane answers."""

    lab: Lab
    snapshot: Snapshot
    bundle: SecretsBundle
    journal: Journal
    seen: dict[str, Seen]
    live: Live | None

    @property
    def plan(self) -> Plan:
        """For the provider."""
        cluster = self.lab.settings.cluster
        return Plan(cluster.name, self.lab.control_planes, self.lab.vip, cluster.endpoint.port)

    @property
    def running(self) -> list[str]:
        """Control planes whose etcd runs."""
        return [name for name, it in self.seen.items() if it.state == "Running"]


def check(lab: Lab, file: Path) -> Planned:
    """Find every reason not to begin. Nothing is touched.

    One that was interrupted may have left control planes rebooting: they are waited for.

    Raises:
        ProtocolError: the snapshot is cut short or damaged.
        ForeignSnapshotError: it is another cluster's.
        RefusedError: a control plane does not answer, or has no config.
    """
    found = snapshot.read(file.expanduser().absolute())
    journal = Journal(lab.stack.folder / "restore.json", found.sha256)
    _all_answer(lab, REBOOT_S if journal.resumes else 0)
    bundle = backup.secrets(lab)
    origin.refuse_foreign(found, bundle)
    return Planned(lab, found, bundle, journal, restore.look(lab.control_planes, admin(bundle.os)), _live(lab))


def _all_answer(lab: Lab, patience_s: float) -> None:
    """Etcd must be down everywhere: a control plane that is away would come back with the old data, and vote."""
    deadline, cert = Deadline(pace.limit(patience_s)), backup.certificate(lab)
    while silent := _silent(modes := _modes(lab, cert)):
        if deadline.expired:
            raise RefusedError(
                f"no answer from {silent}: every control plane is wiped first, or it would come back with the old "
                f"etcd. Power it on, or set `disabled: true` for it, and wipe it before it returns. Nothing was touched"
            )
        words.say(f"no answer from {silent}, which the interrupted restore may have rebooted; waiting")
        deadline.sleep(pace.interval(LOOK_S))
    foreign = [name for name, mode in modes.items() if mode is Mode.FOREIGN]
    if foreign:
        raise RefusedError(f"{', '.join(foreign)}: not of the cluster whose talosconfig is here; nothing was touched")
    blank = [name for name, mode in modes.items() if mode is Mode.MAINTENANCE]
    if blank:
        up = f"homelab up --stack {lab.stack.name}"
        raise RefusedError(f"{', '.join(blank)}: without a config; `{up}` gives it one, then run this again")


def _modes(lab: Lab, cert: ClientCert) -> dict[str, Mode]:
    return {name: probe(address, cert, timeout_s=PROBE_S) for name, address in lab.control_planes.items()}


def _silent(modes: Mapping[str, Mode]) -> str:
    return ", ".join(name for name, mode in modes.items() if mode in (Mode.SILENT, Mode.REFUSED))


def _live(lab: Lab) -> Live | None:
    """What would be lost; None when no API server answers."""
    if lab.kubeconfig is None:
        return None
    port = lab.settings.cluster.endpoint.port
    for address in lab.control_planes.values():
        with contextlib.suppress(HomelabError, KeyError, ValueError):
            return asked(lab.kubeconfig, f"https://{address}:{port}")
    return None


def asked(access: str, server: str | None = None) -> Live:
    """What a cluster's API says of itself. Raises as `Kube`, KeyError or ValueError."""
    with Kube(access, server=server, timeout_s=ANSWER_S) as kube:
        listed = kube.look("/api/v1/namespaces") or {}
        own = kube.look("/api/v1/namespaces/kube-system") or {}
        return Live(int(listed["metadata"]["resourceVersion"]), str(own["metadata"]["uid"]))


def story(planned: Planned, now: datetime | None = None) -> Iterator[str]:
    """What it will do, and what will be lost, line by line."""
    lab, found = planned.lab, planned.snapshot
    names = ", ".join(lab.control_planes)
    yield f"the snapshot: revision {found.revision}, {found.keys} keys, {age(found, now or datetime.now(UTC))}"
    yield cost(planned.live, found)
    if planned.journal.resumes:
        yield "a restore of this snapshot was interrupted: what is already done is not done again"
    yield f"{names}: the EPHEMERAL partition is wiped: etcd, images, and what pods kept on the node's own disk"
    if _replicas_go(lab):
        yield f"{names}: Longhorn's replicas there are on that partition, so they are lost too"
    workers = [node.name for node in lab.settings.enabled_nodes if not node.is_control_plane]
    if workers:
        yield f"{', '.join(workers)}: rebooted{', one after the other' if len(workers) > 1 else ''}, disks untouched"
    yield "the API is away for minutes"


def age(found: Snapshot, now: datetime) -> str:
    """When a snapshot was taken, told by what is in it."""
    written = origin.written_at(found)
    if written is None:
        return "age unknown"
    return f"taken {written:%Y-%m-%d %H:%M} UTC, {_span(now - written)} ago"


def _span(age: timedelta) -> str:
    minutes = max(0, int(age.total_seconds() // 60))
    days, hours = minutes // 1440, minutes // 60
    return f"{days} days" if days > 1 else f"{hours} hours" if hours > 1 else f"{minutes} minutes"


def cost(live: Live | None, found: Snapshot) -> str:
    """What is lost by going back."""
    if live is None:
        return "lost: everything that was changed since then (no API server answers that could say how much)"
    if live.identity != origin.identity(found):
        return f"lost: all of the cluster that answers now (revision {live.revision}): it began anew since the snapshot"
    return f"lost: the {max(0, live.revision - found.revision)} changes since then (the cluster is at {live.revision})"


def _replicas_go(lab: Lab) -> bool:
    longhorn = lab.settings.platform.longhorn
    on_them = lab.settings.cluster.schedule_on_control_planes
    return longhorn is not None and longhorn.enabled and on_them and not str(longhorn.data_path).startswith("/var/mnt/")


def rescue(planned: Planned, now: datetime | None = None) -> Path | None:
    """A last snapshot of what is about to be wiped; None when nothing runs any more, or the restore is resumed."""
    if not planned.running or planned.journal.resumes:
        return None
    stamp = now or datetime.now(UTC)
    target = backup.folder(planned.lab.stack) / f"before-restore-{stamp:%Y%m%dT%H%M%SZ}.db"
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return backup.make(planned.lab, target).path
    except HomelabError as error:
        words.say(f"warning: no snapshot of what is there now: {error}")
        return None


def run(planned: Planned, report: Reporter) -> list[str]:
    """Do it.

    Returns:
        Workers that gave no answer, and so were not rebooted.

    Raises:
        RefusedError: another restore of this cluster runs on this machine, or etcd refused the snapshot.
        DeadlineError: a step did not come to its end; running it again goes on from there.
    """
    lab, plan, cert = planned.lab, planned.plan, admin(planned.bundle.os)
    with locks.held(f"restore {plan.cluster} {plan.vip}", "restoring etcd", Deadline(LOCK_S)):
        Restore(plan, planned.snapshot, planned.bundle, planned.journal, report).run()
        workers = {n.name: str(n.address) for n in lab.settings.enabled_nodes if not n.is_control_plane}
        access = kubeconfig(plan.cluster, f"https://{plan.vip}:{plan.port}", planned.bundle.issue_kubernetes_admin())
        with Kube(access) as kube:
            restore.all_ready(plan.control_planes, kube, cert, report)
            missing = restore.restart_workers(workers, kube, cert, planned.journal, report)
        planned.journal.end()
    return missing
