"""Bootstrapping etcd exactly once, decided from what ALL control planes say of etcd, never from a place in a list."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import AuthError, DeadlineError, HomelabError, UnreachableError
from providers.kubernetes.client import Kube
from providers.talos.client import Talos, TalosError
from providers.talos.leave import Etcd, observe
from providers.talos.pki import ClientCert
from providers.talos.quorum import verdict
from providers.talos.secrets import SecretsBundle, kubeconfig
from providers.talos.wire import admin

BOOTSTRAP_S = 600.0
API_S = 600.0
NOT_YET = ("FAILED_PRECONDITION", "UNIMPLEMENTED", "UNAVAILABLE", "DEADLINE_EXCEEDED")
WAITS_FOR_BOOTSTRAP = "Preparing"  # the state of Talos' etcd service while nobody has bootstrapped


@dataclass(frozen=True)
class Plan:
    """What has to come about: these control planes (name to address) in one etcd, and the API at the VIP."""

    cluster: str
    control_planes: Mapping[str, str]
    vip: str
    port: int


def ensure(plan: Plan, bundle: SecretsBundle, report: Reporter) -> None:
    """Bootstrap if nobody has, then wait until every control plane votes and the API answers at the VIP.

    Raises:
        UnreachableError: a control plane does not answer, so that nobody knows whether it has data.
        DeadlineError: etcd or the API did not come up; says which, and who is missing.
    """
    cert = admin(bundle.os)
    deadline = Deadline(pace.limit(BOOTSTRAP_S))
    if observe(plan.control_planes, cert) is None:
        _bootstrap(plan, cert, deadline, report)
    report.progress("waiting for etcd's members")
    deadline.poll(lambda: _first_votes(plan, cert), f"{plan.cluster}: etcd", pace.interval(2))
    wait_for_api(plan, bundle, report)


def _first_votes(plan: Plan, cert: ClientCert) -> bool | None:
    etcd = observe(plan.control_planes, cert)
    return True if etcd is not None and any(not member.learner for member in etcd.members) else None


def _bootstrap(plan: Plan, cert: ClientCert, deadline: Deadline, report: Reporter) -> None:
    """Wait until all control planes are known to wait for it, and bootstrap one."""
    report.progress("asking every control plane for its etcd")
    try:
        etcd = deadline.poll(lambda: _settled(plan, cert), f"{plan.cluster}: control planes", pace.interval(2))
    except DeadlineError as error:
        raise DeadlineError(f"{error}; {_who_is_unclear(plan, cert)}") from error
    if isinstance(etcd, Etcd):
        return
    node = min(plan.control_planes)
    report.progress(f"bootstrapping etcd on {node}")
    deadline.poll(lambda: _asked(node, plan.control_planes[node], cert), f"{node}: bootstrap", pace.interval(2))


def _settled(plan: Plan, cert: ClientCert) -> Etcd | bool | None:
    """Etcd when it has members; True when every control plane waits for a bootstrap; None while that is unclear."""
    etcd = observe(plan.control_planes, cert)
    if etcd is not None:
        return etcd
    return None if _unclear(plan, cert) else True


def _unclear(plan: Plan, cert: ClientCert) -> dict[str, str]:
    """What the control planes say that don't wait for a bootstrap."""
    with ThreadPoolExecutor(len(plan.control_planes)) as pool:
        states = pool.map(lambda address: _etcd_state(address, cert), plan.control_planes.values())
        return {
            node: state for node, state in zip(plan.control_planes, states, strict=True) if state != WAITS_FOR_BOOTSTRAP
        }


def _who_is_unclear(plan: Plan, cert: ClientCert) -> str:
    said = "; ".join(f"{node} ({plan.control_planes[node]}): {state}" for node, state in _unclear(plan, cert).items())
    return f"etcd is bootstrapped only when every control plane says that it has no data; nothing was done yet; {said}"


def _etcd_state(address: str, cert: ClientCert) -> str:
    try:
        with Talos.secure(address, cert) as talos:
            service = talos.services(timeout_s=pace.limit(10)).get("etcd")
            return service.state if service else "absent"
    except HomelabError as error:
        return str(error)


def _asked(node: str, address: str, cert: ClientCert) -> bool | None:
    """One bootstrap request: True when it was taken or had been taken before."""
    try:
        with Talos.secure(address, cert) as talos:
            talos.bootstrap(timeout_s=pace.limit(30))
    except TalosError as error:
        if error.code == "ALREADY_EXISTS":
            return True
        if error.code in NOT_YET:
            return None
        raise
    except (UnreachableError, AuthError):  # it may just be restarting
        return None
    return True


def wait_for_api(plan: Plan, bundle: SecretsBundle, report: Reporter) -> None:
    """Wait until the API server answers at the VIP.

    Raises:
        DeadlineError: it does not; says who holds the VIP.
    """
    report.progress(f"waiting for the API at the VIP {plan.vip}")
    server = f"https://{plan.vip}:{plan.port}"
    deadline = Deadline(pace.limit(API_S))
    with Kube(kubeconfig(plan.cluster, server, bundle.issue_kubernetes_admin())) as kube:
        try:
            deadline.poll(lambda: kube.healthy() or None, server, pace.interval(2))
        except DeadlineError as error:
            raise DeadlineError(f"{error}; {_who_holds(plan, admin(bundle.os))}") from error


def _who_holds(plan: Plan, cert: ClientCert) -> str:
    for name, address in plan.control_planes.items():
        try:
            with Talos.secure(address, cert) as talos:
                if plan.vip in talos.addresses(timeout_s=5):
                    return f"{name} ({address}) holds the VIP, but its API server does not answer"
        except HomelabError:
            continue
    return (
        f"no control plane holds the VIP {plan.vip}: is it in their subnet, and does nodes.*.mac name the network "
        f"interface that each of them has? `talosctl get links` lists them"
    )


def why_not_leave(leaving: list[str], control_planes: Mapping[str, str], bundle: SecretsBundle) -> str | None:
    """Why these control planes must not leave one after the other; None when they may, or when nobody can be asked."""
    etcd = observe(control_planes, admin(bundle.os))
    if etcd is None:
        return None
    members = {member.hostname for member in etcd.members if not member.learner}
    for node in leaving:
        reason = verdict(members, etcd.healthy, node)
        if reason is not None:
            return reason
        members.discard(node)
    return None
