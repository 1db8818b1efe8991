"""Bringing a control plane back from a snapshot: etcd wiped everywhere, restored on one node, joined by the others.

Talos has no way to wipe etcd alone: EPHEMERAL goes, the machine config on STATE stays. A node that comes back while
the old etcd still has a quorum would join that again, so nothing is uploaded before every control plane is empty.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import partial

from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import AuthError, DeadlineError, HomelabError, RefusedError, UnreachableError
from providers.kubernetes.client import Kube
from providers.talos import bootstrap
from providers.talos.bootstrap import WAITS_FOR_BOOTSTRAP
from providers.talos.client import Talos, TalosError
from providers.talos.journal import Journal
from providers.talos.leave import observe
from providers.talos.pki import ClientCert
from providers.talos.secrets import SecretsBundle
from providers.talos.snapshot import Snapshot
from providers.talos.wire import admin

EMPTY_S = 900.0
MEMBERS_S = 900.0
READY_S = 600.0
SETTLE_S = 10.0  # a node with data passes through the same state for a moment when it boots
CALL_S = 10.0
WIPED = ("EPHEMERAL",)
HAS_ETCD = ("Starting", "Running", "Stopping", "Finished", "Failed")
TOO_EARLY = ("FAILED_PRECONDITION", "ALREADY_EXISTS")


@dataclass(frozen=True)
class Seen:
    """One control plane: the state of its etcd service in Talos' words, and the kernel's id of this boot.

    Of one that gives no answer, `boot` is empty and `state` says why.
    """

    state: str
    boot: str
    message: str = ""


class Step(Enum):
    """What a control plane needs before the snapshot can be handed over."""

    WIPE = "wipe"
    WAIT = "wait"
    EMPTY = "empty"


def step(seen: Seen, asked: Collection[str], empty: Collection[str]) -> Step:
    """What one control plane needs.

    Args:
        seen: what it says.
        asked: its boots in which this run told it to wipe itself.
        empty: boots that an interrupted run knew to be empty.
    """
    if not seen.boot or seen.boot in asked:
        return Step.WAIT
    if seen.state in HAS_ETCD or not (asked or seen.boot in empty):
        return Step.WIPE
    return Step.EMPTY if seen.state == WAITS_FOR_BOOTSTRAP else Step.WAIT


def look(control_planes: Mapping[str, str], cert: ClientCert) -> dict[str, Seen]:
    """Ask every control plane, all at once."""
    with ThreadPoolExecutor(max(1, len(control_planes))) as pool:
        seen = pool.map(lambda address: _seen(address, cert), control_planes.values())
        return dict(zip(control_planes, seen, strict=True))


def _seen(address: str, cert: ClientCert) -> Seen:
    try:
        with Talos.secure(address, cert) as talos:
            service = talos.services(timeout_s=pace.limit(CALL_S)).get("etcd")
            boot = talos.boot_id(timeout_s=pace.limit(CALL_S))
    except HomelabError as error:
        return Seen(str(error), "")
    return Seen(service.state, boot, service.message) if service else Seen("absent", boot)


class Restore:
    """One restore of one snapshot. What its journal remembers is not done again, unless the nodes tell otherwise."""

    def __init__(
        self, plan: bootstrap.Plan, snapshot: Snapshot, bundle: SecretsBundle, journal: Journal, report: Reporter
    ) -> None:
        self._plan = plan
        self._snapshot = snapshot
        self._bundle = bundle
        self._cert = admin(bundle.os)
        self._journal = journal
        self._report = report

    def run(self) -> None:
        """Make etcd what the snapshot holds, and wait until every control plane votes and the API answers at the VIP.

        Raises:
            DeadlineError: a step did not come to its end; says which, and on whom it waits.
            RefusedError: etcd on the node that got the snapshot refused it.
        """
        self._empty_and_begin()
        self._report.progress("waiting for every control plane to vote in etcd")
        deadline = Deadline(pace.limit(MEMBERS_S))
        try:
            deadline.poll(self._all_vote, f"{self._plan.cluster}: etcd", pace.interval(2))
        except DeadlineError as error:
            raise DeadlineError(f"{error}; {_said(self._look())}") from error
        bootstrap.wait_for_api(self._plan, self._bundle, self._report)

    def _look(self) -> dict[str, Seen]:
        return look(self._plan.control_planes, self._cert)

    def _empty_and_begin(self) -> None:
        """Wipe etcd everywhere and begin it on one node; again, when a node turns out not to be empty after all."""
        deadline = Deadline(pace.limit(EMPTY_S))
        asked: dict[str, set[str]] = {name: set() for name in self._plan.control_planes}
        node = min(self._plan.control_planes)
        while (boots := self._emptied(asked, deadline)) is not None:
            self._journal.emptied(boots.values())
            self._report.progress(f"handing the snapshot to {node} ({self._snapshot.size_bytes / 1e6:.1f} MB)")
            if self._began(node, boots[node]):
                self._report.info(f"etcd begins on {node} at revision {self._snapshot.revision}")
                return
            deadline.sleep(pace.interval(2))

    def _emptied(self, asked: dict[str, set[str]], deadline: Deadline) -> dict[str, str] | None:
        """The boots of all control planes once all have stayed empty for a while; None when etcd has already begun."""
        calm = False
        while True:
            seen = self._look()
            if self._has_begun(seen):
                return None
            needs = {name: step(it, asked[name], self._journal.entry.empty) for name, it in seen.items()}
            empty = all(need is Step.EMPTY for need in needs.values())
            if empty and calm:
                return {name: it.boot for name, it in seen.items()}
            if deadline.expired:
                raise DeadlineError(f"{self._plan.cluster}: not every control plane could be emptied; {_said(seen)}")
            calm = empty
            self._wipe({name: seen[name].boot for name, need in needs.items() if need is Step.WIPE}, asked)
            deadline.sleep(pace.interval(SETTLE_S if calm else 2))

    def _has_begun(self, seen: Mapping[str, Seen]) -> bool:
        """Whether the etcd that runs was begun from this very snapshot, by this run or an interrupted one."""
        entry = self._journal.entry
        there = seen.get(entry.node)
        return there is not None and there.boot == entry.boot and there.state in ("Starting", "Running")

    def _wipe(self, boots: Mapping[str, str], asked: dict[str, set[str]]) -> None:
        """Tell nodes to wipe themselves, all at once; one that did not take it is told again at the next look."""
        if not boots:
            return
        self._journal.begin()
        self._report.progress(f"wiping etcd on {', '.join(boots)}")
        with ThreadPoolExecutor(len(boots)) as pool:
            taken = pool.map(lambda name: self._resets(self._plan.control_planes[name]), boots)
            for (name, boot), done in zip(boots.items(), taken, strict=True):
                if done:
                    asked[name].add(boot)

    def _resets(self, address: str) -> bool:
        try:
            with Talos.secure(address, self._cert) as talos:
                talos.reset(graceful=False, reboot=True, wipe_labels=WIPED, timeout_s=pace.limit(30))
        except (UnreachableError, AuthError, TalosError):
            return False
        return True

    def _began(self, node: str, boot: str) -> bool:
        """Hand over the snapshot and have etcd begin from it; False when that has to be looked at again."""
        try:
            with Talos.secure(self._plan.control_planes[node], self._cert) as talos:
                talos.etcd_recover(self._snapshot.path)
                self._journal.begun(node, boot)
                talos.bootstrap(recover=True, timeout_s=pace.limit(60))
        except TalosError as error:
            if error.code in TOO_EARLY:
                return False
            raise
        except (UnreachableError, AuthError):
            return False
        return True

    def _all_vote(self) -> bool | None:
        node = self._journal.entry.node
        first = _seen(self._plan.control_planes[node], self._cert)
        if first.state == "Failed":
            raise RefusedError(f"{node}: etcd did not begin from the snapshot: {first.message or 'no reason given'}")
        etcd = observe(self._plan.control_planes, self._cert)
        if etcd is None:
            return None
        voting = {member.hostname for member in etcd.members if not member.learner}
        wanted = set(self._plan.control_planes)
        return True if voting == wanted and wanted <= set(etcd.healthy) else None


def _said(seen: Mapping[str, Seen]) -> str:
    return "; ".join(f"{name}: etcd is {it.state}{f' ({it.message})' * bool(it.message)}" for name, it in seen.items())


def all_ready(nodes: Mapping[str, str], kube: Kube, cert: ClientCert, report: Reporter) -> None:
    """Wait until these nodes are Ready in the boot that they are in: a stale Node stays Ready for a while.

    Raises:
        DeadlineError: one does not come; says which.
    """
    for name, address in nodes.items():
        report.progress(f"waiting for {name} to be Ready")
        probe = partial(_ready, name, address, kube, cert)
        Deadline(pace.limit(READY_S)).poll(probe, f"{name} ({address}): Ready", pace.interval(2))


def restart_workers(
    workers: Mapping[str, str], kube: Kube, cert: ClientCert, journal: Journal, report: Reporter
) -> list[str]:
    """Reboot the workers one after the other: their kubelets and pods still believe what the snapshot does not know.

    Returns:
        Those that gave no answer; they must be rebooted before anything on them is believed.

    Raises:
        DeadlineError: one did not come back Ready.
    """
    missing = []
    for name, address in workers.items():
        if name in journal.entry.restarted:
            continue
        report.progress(f"rebooting {name}")
        if not _reboots(name, address, cert):
            missing.append(name)
            continue
        all_ready({name: address}, kube, cert, report)
        journal.restarted(name)
    return missing


def _reboots(name: str, address: str, cert: ClientCert) -> bool:
    before = _boot(address, cert)
    try:
        with Talos.secure(address, cert) as talos:
            talos.reboot(timeout_s=pace.limit(30))
    except (UnreachableError, AuthError, TalosError):
        return False
    deadline = Deadline(pace.limit(READY_S))
    deadline.poll(
        lambda: _boot(address, cert) not in ("", before) or None, f"{name} ({address}): reboot", pace.interval(2)
    )
    return True


def _boot(address: str, cert: ClientCert) -> str:
    """The id of a node's boot; empty while it gives no answer."""
    try:
        with Talos.secure(address, cert) as talos:
            return talos.boot_id(timeout_s=pace.limit(CALL_S))
    except HomelabError:
        return ""


def _ready(name: str, address: str, kube: Kube, cert: ClientCert) -> bool | None:
    boot = _boot(address, cert)
    try:
        view = kube.node(name) if boot else None
    except HomelabError:
        return None
    return True if view is not None and view.ready and view.boot_id == boot else None
