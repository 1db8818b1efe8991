"""The members of a cluster's etcd, asked and changed through a control plane that is up."""

from __future__ import annotations

import json
from dataclasses import dataclass

from providers.errors import ProtocolError, RefusedError
from providers.kubeadm.host import ADMIN, Shell
from providers.ssh.client import Answer
from providers.talos.quorum import verdict

_PKI = "/etc/kubernetes/pki/etcd"
_KEYS = f"--cacert={_PKI}/ca.crt --cert={_PKI}/healthcheck-client.crt --key={_PKI}/healthcheck-client.key"
ASK_S = 60.0
SAVE_S = 300.0


@dataclass(frozen=True)
class Members:
    """The members by name, with their ids in hex, and which of them answer."""

    ids: dict[str, str]
    healthy: frozenset[str]
    learners: frozenset[str] = frozenset()

    def why_not_leave(self, name: str) -> str | None:
        """Why a member must stay; None when it may go."""
        return verdict(self.ids.keys() - self.learners, self.healthy, name)


def members(helper: Shell) -> Members:
    """Who is in etcd, and who of them answers.

    Raises:
        ProtocolError: etcdctl answered in another way.
        RefusedError: it could not be run; says its words.
    """
    listed = _etcdctl(helper, "member list -w json").out
    # Ends with 1 when one of them does not answer, and lists all the same.
    health = _etcdctl(helper, "endpoint health --cluster -w json", check=False).out
    return parsed(listed, health)


def parsed(listed: str, health: str) -> Members:
    """Out of the two answers.

    Raises:
        ProtocolError: they are not what etcdctl prints.
    """
    try:
        # A member that has not started yet has no name, and no client's address.
        found = [member for member in json.loads(listed)["members"] if member.get("name")]
        up = {item["endpoint"] for item in json.loads(health) if item["health"]}
        return Members(
            ids={member["name"]: f"{member['ID']:x}" for member in found},
            healthy=frozenset(m["name"] for m in found if up & set(m.get("clientURLs", ()))),
            learners=frozenset(m["name"] for m in found if m.get("isLearner")),
        )
    except (ValueError, KeyError, TypeError):
        raise ProtocolError("etcdctl printed no list of members; is it another version?") from None


def remove(helper: Shell, name: str) -> bool:
    """Take a member out; says whether it was one.

    Raises:
        RefusedError: etcd would lose its quorum.
    """
    found = members(helper)
    if name not in found.ids:
        return False
    refuse_quorum_loss(found, name)
    _etcdctl(helper, f"member remove {found.ids[name]}")
    return True


def refuse_quorum_loss(found: Members, name: str) -> None:
    """Raise RefusedError when a member must stay."""
    if (reason := found.why_not_leave(name)) is not None:
        raise RefusedError(f"{name}: must stay: {reason}")


def save(helper: Shell, path: str) -> None:
    """Have this control plane's etcd write a snapshot, to a file that its pod sees. Raises as `Shell.run`."""
    _etcdctl(helper, f"snapshot save {path}", timeout_s=SAVE_S)


def _etcdctl(helper: Shell, command: str, *, check: bool = True, timeout_s: float = ASK_S) -> Answer:
    pod = f"kubectl --kubeconfig {ADMIN} -n kube-system exec etcd-{helper.target.name}"
    return helper.run(f"{pod} -- etcdctl {_KEYS} {command}", timeout_s=timeout_s, check=check)
