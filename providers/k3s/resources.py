"""A k3s cluster and its nodes, as Pulumi resources."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from providers.dynamic import Props, Provider, changed_keys, is_known, lazily, packed
from providers.engine import Reporter
from providers.errors import HomelabError
from providers.ssh.resources import LOGIN

if TYPE_CHECKING:
    from providers.k3s import access, certificates, drift, membership, moving, node
else:
    access, certificates, drift, membership, moving, node = (
        lazily(f"providers.k3s.{name}") for name in ("access", "certificates", "drift", "membership", "moving", "node")
    )

CLUSTER = ("cluster", "registration", "names", "api_port", "vip", "etcd", "cni", "pod_subnet", "service_subnet")
FIXED = ("cluster", "role", "pod_subnet", "service_subnet")
"""What a node has for life: another value means another node. An agent may still go to another cluster."""


class TokenProvider(Provider):
    """The cluster's token: made once, or read back from servers that run."""

    inputs = ("cluster",)
    memos = ("servers",)

    def create(self, props: Props) -> CreateResult:
        """Look on all servers first, so that a lost state finds its cluster again."""
        token = node.token_of(props) or secrets.token_hex(24)
        return CreateResult(f"{props['cluster']}-token", self.stored(props, token=token))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """It stays what it is."""
        return UpdateResult(self.stored(news, token=olds["token"]))


class NodeProvider(Provider):
    """Keeps a host's k3s as the settings say."""

    inputs = (
        *LOGIN, *CLUSTER, "role", "version", "releases", "scripts", "token", "disable", "secrets_encryption", "labels",
        "taints", "generation",
    )  # fmt: skip
    memos = ("servers",)

    def problems(self, olds: Props, news: Props) -> list[tuple[str, str]]:
        """Refuse at preview what can't be changed while a node lives, and versions that k3s can't go to."""
        if not olds or not is_known({key: news.get(key) for key in (*FIXED, "version", "generation")}):
            return []
        host = news["host"]
        moves = _is_move(olds, news)  # what it has in the other cluster begins anew
        first = f"while it is a node; take it out first with `homelab destroy-target TARGET={host}`"
        found = [
            (key, f"hosts.{host}: {key} was {olds[key]} and can't become {news[key]} {first}")
            for key in FIXED
            if key in olds and olds[key] != news[key] and not moves
        ]
        if int(news["generation"]) < int(olds.get("generation", 0)):
            found.append(("generation", f"hosts.{host}.generation only grows; it was {int(olds['generation'])}"))
        old, new = (_minor(str(bag["version"])) for bag in (olds, news))
        if not moves and (new < old or new > old + 1):
            found.append(("version", f"{host} runs {olds['version']}: go to v1.{old + 1}.x next, minor by minor"))
        return found

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Besides changed inputs: what was changed by hand, and certificates that are about to end; say who moves."""
        _announce_move(olds, news)
        if olds.get("drift"):
            Reporter().info(f"{olds['host']}: {olds['drift']}")
        due = certificates.is_due(str(olds.get("certificates_end") or ""))
        if due:
            said = "k3s is started anew, which renews them"
            Reporter().info(f"{olds['host']}: certificates end on {olds['certificates_end']}; {said}")
        return DiffResult(changes=due or bool(changed_keys(olds, news, self.inputs)) or bool(olds.get("drift")))

    def create(self, props: Props) -> CreateResult:
        """Adopt the host if it is this cluster's, else install it; remains of another need `generation`."""
        day = node.ensure(props, Reporter(), acknowledged=int(props["generation"]) > 0)
        return CreateResult(f"{props['host']}-k3s", self.stored(props, certificates_end=day, drift=""))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """Change its files and restart it, drained where its version changes; an agent may move to another cluster."""
        if _is_move(olds, news):
            moving.away(olds, Reporter())
        grown = int(news["generation"]) > int(olds.get("generation", 0))
        day = node.ensure(news, Reporter(), acknowledged=grown)
        return UpdateResult(self.stored(news, certificates_end=day, drift=""))

    def read(self, id_: str, props: Props) -> ReadResult:
        """See what was changed by hand, and when certificates end; an agent that was set up anew is gone."""
        try:
            seen = drift.look(props, Reporter())
        except HomelabError as error:
            Reporter().warn(f"{props['host']}: not read: {error}")
            return ReadResult(id_, props)
        return ReadResult("", {}) if seen is None else ReadResult(id_, {**props, **seen})

    def delete(self, _id: str, props: Props) -> None:
        """Uninstall, on a host of this cluster only."""
        node.remove(props, Reporter())


def _is_move(olds: Props, news: Props) -> bool:
    """Whether it is an agent, stays one, and its cluster is another one."""
    return {olds["role"], news["role"]} == {"worker"} and olds["cluster"] != news["cluster"]


def _announce_move(olds: Props, news: Props) -> None:
    if is_known({key: news.get(key) for key in FIXED}) and _is_move(olds, news):
        Reporter().warn(
            f"{news['host']}: MOVES from {olds['cluster']} to {news['cluster']}: it is drained, and k3s is removed "
            f"with what pods kept on it"
        )


def _minor(version: str) -> int:
    return int(version.split(".")[1])


class ClusterProvider(Provider):
    """The administrator's kubeconfig, once the API answers at its endpoint."""

    inputs = ("cluster", "endpoint")
    memos = ("servers",)

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Besides changed inputs: a client certificate that is about to end."""
        ending = certificates.is_ending(str(olds.get("kubeconfig") or ""))
        return DiffResult(changes=ending or bool(changed_keys(olds, news, self.inputs)))

    def create(self, props: Props) -> CreateResult:
        """Read it from any server that runs."""
        return CreateResult(str(props["cluster"]), self.stored(props, kubeconfig=access.kubeconfig(props, Reporter())))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Read it again, for the changed endpoint or with a new certificate."""
        return UpdateResult(self.stored(news, kubeconfig=access.renewed(news, Reporter())))


class MemberProvider(Provider):
    """Waits until the node is Ready; deleting it takes the node out without harm to the others."""

    inputs = ("host", "cluster", "kubeconfig", "labels")
    memos = ("api_port",)

    def create(self, props: Props) -> CreateResult:
        """Wait until the Node is Ready."""
        membership.join(props, Reporter())
        return CreateResult(f"{props['host']}-member", self.stored(props, present=True))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """Labels that changed; new credentials are only stored."""
        membership.join(news, Reporter())
        membership.relabel(olds, news)
        return UpdateResult(self.stored(news, present=True))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Gone when the cluster does not know the Node; an API that is away changes nothing."""
        return ReadResult("", {}) if membership.is_gone(props, Reporter()) else ReadResult(id_, props)

    def delete(self, _id: str, props: Props) -> None:
        """Drain, leave etcd, delete the Node and its password: each step bounded and repeatable."""
        membership.leave(props, Reporter())


class Token(Resource, module="k3s", name="Token"):
    """The secret that nodes join with."""

    token: pulumi.Output[str]

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["token"])
        super().__init__(
            TokenProvider(), name, {**packed(props), "token": None}, pulumi.ResourceOptions.merge(secret, opts)
        )


class Node(Resource, module="k3s", name="Node"):
    """A host's k3s: a server or an agent."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(NodeProvider(), name, packed(props), opts)


class Cluster(Resource, module="k3s", name="Cluster"):
    """The cluster as its users see it: `kubeconfig`, secret."""

    kubeconfig: pulumi.Output[str]

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["kubeconfig"])
        super().__init__(
            ClusterProvider(), name, {**packed(props), "kubeconfig": None}, pulumi.ResourceOptions.merge(secret, opts)
        )


class Member(Resource, module="k3s", name="Member"):
    """A node's membership: created when it is Ready, deleted by leaving properly."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(MemberProvider(), name, packed(props), opts)
