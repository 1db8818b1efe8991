"""Bringing a k3s cluster back from a snapshot of its etcd: one server begins from it, the others join that one.

Nobody's data is deleted before the end: k3s itself moves that of the first server aside, and this that of the others.
They are moved before etcd begins anew, so that two of three servers that boot meanwhile can't go on without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import yaml

from providers import locks, pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import HomelabError, RefusedError, UnreachableError
from providers.k3s import access, files, node, origin, servers
from providers.k3s.servers import Seen
from providers.kubernetes.client import Kube
from providers.ssh import reach
from providers.ssh.client import Host
from providers.talos.origin import ForeignSnapshotError
from providers.talos.snapshot import Snapshot

UNIT = "k3s"
STOP_S = 180.0
UPLOAD_S = 900.0
RESET_S = 900.0
READY_S = 600.0
LOCK_S = 1.0
UPLOADED = f"{files.SNAPSHOTS}/restore.db"


@dataclass(frozen=True)
class Plan:
    """Whose etcd is restored.

    Attributes:
        cluster: its name in the settings.
        logins: how each server is reached.
        registration: where servers join.
        port: where each server's own API answers.
    """

    cluster: str
    logins: Mapping[str, Mapping[str, Any]] = field(repr=False)
    registration: str
    port: int = files.PORT

    @property
    def first(self) -> str:
        """The server that begins. Any would do; always the same one, so that an interrupted restore finds it again."""
        return min(self.logins)


def check(plan: Plan, snapshot: Snapshot) -> dict[str, Seen]:
    """Find every reason not to begin. Nothing is touched.

    Raises:
        RefusedError: a server does not answer, or is none of this cluster.
        ForeignSnapshotError: the snapshot is another cluster's.
    """
    with ThreadPoolExecutor(max(1, len(plan.logins))) as pool:
        asked = {name: pool.submit(_look, login, plan.cluster) for name, login in plan.logins.items()}
        answers = {name: future.result() for name, future in asked.items()}
    seen = {name: answer for name, answer in answers.items() if isinstance(answer, Seen)}
    if len(seen) < len(plan.logins):
        why = "; ".join(str(error) for error in answers.values() if isinstance(error, HomelabError))
        raise RefusedError(
            f"every server of {plan.cluster} is needed, or one would come back with the old etcd: {why}. Bring it "
            "back, or set `disabled: true` for it and wipe it before it returns. Nothing was touched"
        )
    for server in seen.values():
        if origin.authority(snapshot, server.token) != server.authority:
            raise ForeignSnapshotError(
                f"{snapshot.path}: was taken before {plan.cluster} was begun anew: its authority is not this cluster's"
            )
    return seen


def _look(login: Mapping[str, Any], cluster: str) -> Seen | HomelabError:
    try:
        with reach.opened(login, reach.LOOK_S) as host:
            return servers.look(host, cluster)
    except HomelabError as error:
        return error


def run(plan: Plan, snapshot: Snapshot, report: Reporter) -> None:
    """Do it, on servers that `check` found good. Run again after it was interrupted, it does all of it again.

    Raises:
        RefusedError: another run works on these servers, or k3s refused the snapshot.
        UnreachableError, DeadlineError: a server did not take part; running it again goes on from there.
    """
    lock = f"servers of {plan.cluster}"
    with locks.held(lock, f"restoring etcd of {plan.cluster}", Deadline(LOCK_S)), _opened(plan) as hosts:
        first, others = hosts[plan.first], [host for name, host in hosts.items() if name != plan.first]
        report.progress(f"stopping k3s on {', '.join(hosts)}")
        for host in hosts.values():
            _stop(host)
        for host in others:
            _put_aside(host)
            _comes_in(host, {"server": plan.registration})
        _begin(first, snapshot, report)
        for host in others:
            report.progress(f"{host.target.name} joins")
            node.restart(host, UNIT, report)
        for host in others:
            host.remove(files.ASIDE)


def admin(plan: Plan) -> str:
    """An administrator's kubeconfig, straight to a server that runs.

    Raises:
        HomelabError: none does.
    """
    props = {"cluster": plan.cluster, "servers": plan.logins, "api_port": plan.port}
    with node.any_server(props, reach.LOOK_S) as host:
        return node.admin(host, props)


def ready(plan: Plan, hosts: Sequence[str], report: Reporter) -> list[str]:
    """Wait until the API answers where people ask it, and the servers are Ready.

    Returns:
        Those of `hosts` that are not Ready.

    Raises:
        DeadlineError: a server does not come.
    """
    props = {"cluster": plan.cluster, "servers": plan.logins, "endpoint": plan.registration}
    with Kube(access.kubeconfig(props, report)) as kube:
        for name in plan.logins:
            kube.wait_ready(name, Deadline(pace.limit(READY_S)), report.progress)
        there = {view.name for view in kube.nodes() if view.ready}
    return [name for name in hosts if name not in there]


@contextlib.contextmanager
def _opened(plan: Plan) -> Iterator[dict[str, Host]]:
    """A connection to each server, all of them before anything is done."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(reach.opened(login)) for name, login in plan.logins.items()}


def _stop(host: Host) -> None:
    host.run(f"systemctl stop {UNIT}", timeout_s=pace.limit(STOP_S))
    state = host.run(f"systemctl is-active {UNIT}", check=False).out.strip()
    if state not in ("inactive", "failed"):
        raise UnreachableError(
            f"{host.target.place}: k3s is {state} after it was stopped; look with `{host.target.login}`"
        )
    host.run(f"systemctl reset-failed {UNIT}", check=False)


def _put_aside(host: Host) -> None:
    """A server's data out of the way. What an interrupted run has put there is older, and stays."""
    if host.run(f"ls -d -- {files.ASIDE}", check=False).code == 0:
        host.remove(files.DB)
    elif host.run(f"ls -d -- {files.DB}", check=False).code == 0:
        host.run(f"mv -- {files.DB} {files.ASIDE}")


def _comes_in(host: Host, how: Mapping[str, Any]) -> None:
    """Have a server's config say how it comes in; what else is in it stays as it is."""
    given = yaml.safe_load(host.read(files.CONFIG) or b"") or {}
    kept = {key: value for key, value in given.items() if key not in files.ORIGIN}
    host.write(files.CONFIG, files.text({**kept, **how}), 0o600)


def _begin(host: Host, snapshot: Snapshot, report: Reporter) -> None:
    """Have etcd begin from the snapshot on one server, which has the cluster for itself then."""
    _comes_in(host, {"cluster-init": True})
    report.progress(f"handing the snapshot to {host.target.name} ({snapshot.size_bytes / 1e6:.1f} MB)")
    host.run(f"mkdir -p {files.SNAPSHOTS}")
    host.run(f"chmod 0700 {files.SNAPSHOTS}")
    host.write(UPLOADED, snapshot.path.read_bytes(), 0o600, timeout_s=pace.limit(UPLOAD_S))
    host.remove(f"{files.DB}/reset-flag")  # with that of an earlier reset k3s refuses this one
    command = f"{files.BINARY} server --cluster-reset --cluster-reset-restore-path={UPLOADED}"
    host.run(command, timeout_s=pace.limit(RESET_S))
    host.remove(files.SNAPSHOTS)
    node.restart(host, UNIT, report)
    report.info(f"etcd begins on {host.target.name} at revision {snapshot.revision}")
