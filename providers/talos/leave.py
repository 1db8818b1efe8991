"""Taking a control plane out of etcd: by itself while it is alive, else by a healthy peer and its member id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import HomelabError, RefusedError, UnreachableError
from providers.talos.client import WIPE_LABELS, EtcdMember, Mode, Talos, TalosError, probe
from providers.talos.pki import ClientCert
from providers.talos.quorum import verdict

CALL_S = 10.0
LEAVE_S = 120.0
PATIENCE_S = 30.0
UNHEALTHY = "unhealthy cluster"


@dataclass(frozen=True)
class Etcd:
    """etcd as one healthy control plane sees it, and which of the members answer."""

    peer: str
    members: tuple[EtcdMember, ...]
    healthy: frozenset[str]

    def member(self, node: str, address: str) -> EtcdMember | None:
        """The member that runs on a node, by its name or by its peer URL."""
        for member in self.members:
            if member.hostname == node or any(f"//{address}:" in url for url in member.peer_urls):
                return member
        return None


def observe(control_planes: Mapping[str, str], cert: ClientCert) -> Etcd | None:
    """Ask every control plane (name to address) for its members and its health; None when none has any.

    All are asked, at once: there is no first node.
    """
    with ThreadPoolExecutor(max(1, len(control_planes))) as pool:
        answers = dict(zip(control_planes, pool.map(lambda a: _members(a, cert), control_planes.values()), strict=True))
    answering = {name: members for name, members in answers.items() if members}
    if not answering:
        return None
    peer = max(answering, key=lambda name: len(answering[name]))
    return Etcd(control_planes[peer], answering[peer], frozenset(answering))


def _members(address: str, cert: ClientCert) -> tuple[EtcdMember, ...]:
    """The members a control plane lists, or nothing when its own etcd has no say."""
    try:
        with Talos.secure(address, cert) as talos:
            members = tuple(talos.etcd_members(timeout_s=pace.limit(CALL_S)))
            talos.etcd_status(timeout_s=pace.limit(CALL_S))
    except HomelabError:
        return ()
    return members


def refuse_quorum_loss(etcd: Etcd, node: str) -> None:
    """Stop before harm is done.

    Raises:
        RefusedError: etcd would lose its quorum.
    """
    voting = [member.hostname for member in etcd.members if not member.learner]
    reason = verdict(voting, etcd.healthy, node)
    if reason is not None:
        raise RefusedError(f"{node}: {reason}")


def leave_etcd(node: str, address: str, control_planes: Mapping[str, str], cert: ClientCert, report: Reporter) -> None:
    """Take `node` out of etcd, and see that it is out.

    Args:
        node: its name.
        address: its IP address.
        control_planes: the cluster's control planes, name to address, `node` among them or not.
        cert: a client certificate with the role os:admin.
        report: where progress goes.

    Raises:
        RefusedError: the quorum would be lost.
        UnreachableError: no other control plane answers.
        DeadlineError: it is still listed after the deadline.
    """
    others = {name: ip for name, ip in control_planes.items() if name != node}
    etcd = observe({**others, node: address}, cert)
    if etcd is None:
        raise UnreachableError(f"{node} ({address}): no control plane says who is in etcd; `homelab status` shows them")
    member = etcd.member(node, address)
    if member is None:
        return
    refuse_quorum_loss(etcd, member.hostname)
    if not others:
        raise UnreachableError(f"{node} ({address}): no other control plane is known that could confirm its leaving")
    if not _leaves_by_itself(node, address, cert, report):
        _removed_by_a_peer(node, member, observe(others, cert), cert, report)
    Deadline(pace.limit(LEAVE_S)).poll(
        lambda: _is_out(member, others, cert), f"{node} ({address}): leaving etcd", pace.interval(2)
    )


def _leaves_by_itself(node: str, address: str, cert: ClientCert, report: Reporter) -> bool:
    if probe(address, cert, timeout_s=3) is not Mode.OURS:
        return False
    report.progress("leaving etcd")
    try:
        with Talos.secure(address, cert) as talos:
            _patiently(lambda: talos.etcd_forfeit_leadership(timeout_s=pace.limit(30)), f"{node}: handing over etcd")
            _patiently(lambda: talos.etcd_leave(timeout_s=pace.limit(60)), f"{node}: leaving etcd")
    except HomelabError as error:
        report.progress(f"did not leave etcd by itself ({error})")
        return False
    return True


def _removed_by_a_peer(node: str, member: EtcdMember, etcd: Etcd | None, cert: ClientCert, report: Reporter) -> None:
    if etcd is None:
        raise UnreachableError(f"{node}: none of its peers answers, so it can't be removed from etcd")
    if all(listed.id != member.id for listed in etcd.members):
        return
    report.progress(f"removing member {member.id:x} from etcd")
    try:
        with Talos.secure(etcd.peer, cert) as talos:
            remove = lambda: talos.etcd_remove_member(member.id, timeout_s=pace.limit(60))  # noqa: E731
            _patiently(remove, f"{node}: removing it from etcd")
        report.info(f"removed from etcd by a peer, as member {member.id:x}")
    except UnreachableError as error:
        raise UnreachableError(
            f"{node}: still a member of etcd, so it was neither wiped nor powered off: its peer could not remove it "
            f"({error}); `homelab status` shows who answers, then run this again"
        ) from error


def _patiently(ask: Callable[[], object], what: str) -> None:
    """Ask etcd for a change again while it says "unhealthy cluster", as it does for seconds after members connect."""

    def taken() -> bool | None:
        try:
            ask()
        except TalosError as error:
            if UNHEALTHY in str(error):
                return None
            raise
        return True

    Deadline(pace.limit(PATIENCE_S)).poll(taken, what, pace.interval(2))


def _is_out(member: EtcdMember, others: Mapping[str, str], cert: ClientCert) -> bool | None:
    etcd = observe(others, cert)
    if etcd is None:
        return None
    return all(listed.id != member.id for listed in etcd.members) or None


def before_reinstall(
    node: str, address: str, cert: ClientCert, report: Reporter, empty: Callable[[], None] = lambda: None
) -> None:
    """Let a running node leave properly before its disk is written again: Talos drains it and leaves etcd itself.

    Args:
        node: its name.
        address: its address.
        cert: for the Talos API.
        report: told what is done.
        empty: moves what else is on it, before it leaves; may refuse.

    Raises:
        RefusedError: etcd would lose its quorum.
    """
    if probe(address, cert, timeout_s=3) is not Mode.OURS:
        return
    etcd = observe({node: address}, cert)
    if etcd is not None:
        addresses = {m.hostname: _host(m) for m in etcd.members}
        refuse_quorum_loss(observe(addresses, cert) or etcd, node)
    empty()
    report.progress("leaving the cluster before it is written again")
    with Talos.secure(address, cert) as talos:
        talos.reset(graceful=True, reboot=False, wipe_labels=WIPE_LABELS, timeout_s=pace.limit(60))
    Deadline(pace.limit(300)).poll(
        lambda: (probe(address, cert, timeout_s=2) is not Mode.OURS) or None,
        f"{node} ({address}): leaving before its reinstall",
        pace.interval(3),
    )


def _host(member: EtcdMember) -> str:
    return member.peer_urls[0].split("//")[1].rsplit(":", 1)[0]
