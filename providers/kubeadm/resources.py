"""A kubeadm cluster, its hosts and their memberships, as Pulumi resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from providers.dynamic import Props, Provider, changed_keys, is_known, lazily, packed
from providers.engine import Reporter
from providers.errors import HomelabError, UnreachableError
from providers.ssh.resources import LOGIN

if TYPE_CHECKING:
    from providers.kubeadm import bootstrap, certificates, host, machine, membership, upkeep, wire
    from providers.kubernetes import client
    from providers.ssh import reach
else:
    bootstrap, certificates, host, machine, membership, upkeep, wire = (
        lazily(f"providers.kubeadm.{name}")
        for name in ("bootstrap", "certificates", "host", "machine", "membership", "upkeep", "wire")
    )
    client, reach = lazily("providers.kubernetes.client"), lazily("providers.ssh.reach")

FIXED = ("name", "version", "host", "port", "vip", "pod_subnet", "service_subnet", "kube_proxy")
"""What a cluster has for life, as far as this program goes: kubeadm wrote it into certificates and objects."""


def _fixed(olds: Props, news: Props) -> list[tuple[str, str]]:
    """Refuse at preview what would make another cluster of it."""
    if not olds.get("cluster") or not is_known(news.get("cluster")):
        return []
    before, after = olds["cluster"], news["cluster"]
    changed = [key for key in FIXED if before.get(key) != after.get(key)]
    if not changed:
        return []
    words = ", ".join(f"{key} from {before.get(key)} to {after.get(key)}" for key in changed)
    fix = "change it back"
    if changed == ["version"]:
        fix += ", or run `kubeadm upgrade` by hand on each host first and take it out and in again"
    return [("cluster", f"{before['name']}: can't change {words} while it lives; {fix}")]


class MachineProvider(Provider):
    """Keeps a host ready for kubeadm. Deleting it resets the host: everything of Kubernetes on it goes."""

    inputs = (*LOGIN, "node", "cluster", "packages", "generation")

    def problems(self, olds: Props, news: Props) -> list[tuple[str, str]]:
        """A cluster keeps what it is made of, and a generation only grows."""
        found = _fixed(olds, news)
        if olds and is_known(news.get("generation")) and int(news["generation"]) < int(olds.get("generation", 0)):
            found.append(
                ("generation", f"hosts.{news['host']}.generation only grows; it was {int(olds['generation'])}")
            )
        return found

    def create(self, props: Props) -> CreateResult:
        """Install what kubeadm needs; remains of another cluster only go where `generation` says so."""
        self._prepare(props, may_remove=int(props["generation"]) > 0)
        return CreateResult(f"{props['host']}-machine", self.stored(props))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """The same again."""
        self._prepare(news, may_remove=int(news["generation"]) > int(olds.get("generation", 0)))
        return UpdateResult(self.stored(news))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Gone when the host carries no note of ours any more: it was written anew."""
        try:
            with reach.opened(props, reach.LOOK_S) as opened:
                gone = host.claim(opened).cluster != props["cluster"]["name"]
        except HomelabError as error:
            Reporter().warn(f"{props['host']}: not read: {error}")
            gone = False
        return ReadResult("", {}) if gone else ReadResult(id_, props)

    def delete(self, _id: str, props: Props) -> None:
        """Reset the host; a dead one can't be, and is told."""
        report = Reporter()
        try:
            with reach.opened(props, reach.LOOK_S) as opened:
                machine.give_back(opened, wire.cluster(props), wire.place(props).node, report)
        except UnreachableError as error:
            report.warn(f"{props['host']}: was not reset, and must be before it is used again: {error}")

    @staticmethod
    def _prepare(props: Props, *, may_remove: bool) -> None:
        node = wire.place(props).node
        with reach.opened(props) as opened:
            source = str(props["packages"])
            machine.prepare(opened, wire.cluster(props), node, Reporter(), may_remove=may_remove, packages_from=source)


class ClusterProvider(Provider):
    """Initialises the cluster once, gives the administrators' kubeconfig, and keeps certificates from ending."""

    inputs = ("cluster", "control_planes")

    def problems(self, olds: Props, news: Props) -> list[tuple[str, str]]:
        """A cluster keeps what it is made of, and its quorum, as far as it can be asked now."""
        found = _fixed(olds, news)
        if found or not olds.get("control_planes") or not is_known(news):
            return found
        leaving = sorted(set(olds["control_planes"]) - set(news["control_planes"]))
        reason = membership.why_not_leave(leaving, wire.cluster(olds), wire.planes(olds)) if leaving else ""
        return [("control_planes", reason)] if reason else []

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Besides changed inputs: certificates that are about to end."""
        due = certificates.is_due(str(olds.get("certificates_end") or ""))
        if due:
            Reporter().info(f"{olds['cluster']['name']}: certificates end on {olds['certificates_end']}; renewed now")
        return DiffResult(changes=due or bool(changed_keys(olds, news, self.inputs)))

    def create(self, props: Props) -> CreateResult:
        """Initialise it unless one of its control planes is, and wait until the API answers at the endpoint."""
        return CreateResult(props["cluster"]["name"], self.stored(props, **_made(props)))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """Renew certificates that are about to end; read the kubeconfig again."""
        upkeep.renew(wire.cluster(news), wire.planes(news), str(olds["kubeconfig"]), Reporter())
        return UpdateResult(self.stored(news, **_made(news)))

    def read(self, id_: str, props: Props) -> ReadResult:
        """See when certificates end; what nobody says stays as it was."""
        try:
            day = upkeep.certificates_end(wire.cluster(props), wire.planes(props), Reporter())
        except HomelabError as error:
            Reporter().warn(f"{props['cluster']['name']}: not read: {error}")
            day = ""
        return ReadResult(id_, {**props, "certificates_end": day or props.get("certificates_end", "")})


def _made(props: Props) -> Props:
    cluster, places, report = wire.cluster(props), wire.planes(props), Reporter()
    kubeconfig = bootstrap.ensure(cluster, places, report)
    with client.Kube(kubeconfig) as kube:
        report.progress(f"waiting for {kube.server}")
        upkeep.wait_for(kube)
    return {"kubeconfig": kubeconfig, "certificates_end": upkeep.certificates_end(cluster, places, report)}


class MemberProvider(Provider):
    """Has a host join its cluster; deleting it takes the host out without harm to the others."""

    inputs = (*LOGIN, "node", "cluster", "control_planes", "kubeconfig", "ready", "generation")

    def create(self, props: Props) -> CreateResult:
        """Join, unless it is a member, and wait until its Node is there."""
        membership.join(wire.party(props), Reporter())
        return CreateResult(f"{props['host']}-member", self.stored(props, present=True))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """The same again; new credentials are only stored."""
        membership.join(wire.party(news), Reporter())
        return UpdateResult(self.stored(news, present=True))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Gone when the cluster does not know the Node; an API that is away changes nothing."""
        return ReadResult("", {}) if membership.is_gone(wire.party(props), Reporter()) else ReadResult(id_, props)

    def delete(self, _id: str, props: Props) -> None:
        """Drain, leave etcd, delete the Node: each step bounded and repeatable."""
        membership.leave(wire.party(props), Reporter())


class Machine(Resource, module="kubeadm", name="Machine"):
    """A host that is ready for kubeadm."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(MachineProvider(), name, packed(props), opts)


class Cluster(Resource, module="kubeadm", name="Cluster"):
    """The initialised cluster: `kubeconfig`, secret, and `certificates_end`, a day."""

    kubeconfig: pulumi.Output[str]
    certificates_end: pulumi.Output[str]

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["kubeconfig"])
        outputs = {"kubeconfig": None, "certificates_end": None}
        super().__init__(
            ClusterProvider(), name, {**packed(props), **outputs}, pulumi.ResourceOptions.merge(secret, opts)
        )


class Member(Resource, module="kubeadm", name="Member"):
    """A host's membership: created when it has joined, deleted by leaving properly."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(MemberProvider(), name, packed(props), opts)
