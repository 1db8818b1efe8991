"""Before a node or a part leaves: is it there, may it leave, and what will happen. Nothing is touched here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cli.engine import Resource
from cli.observe import Lab
from cli.stacks import suggestion
from providers.errors import RefusedError, UserError
from providers.talos import leave
from providers.talos.quorum import verdict

OPERATOR, TENANT = "kamaji", "homelab:Tenant"  # the part that makes tenants, and the type of one


@dataclass(frozen=True)
class Leaving:
    """A node or a part of the platform that is about to leave, and everything that leaves with it."""

    name: str
    parts: tuple[Resource, ...]
    is_node: bool = True

    @property
    def target(self) -> str:
        """The engine's pattern for it. It wants full URNs or globs, and says "no resource named" to a bare name."""
        return f"**::{self.name}"


def find(resources: Sequence[Resource], name: str) -> Leaving:
    """The node, or the part of the platform, of that name in the stack's state.

    Raises:
        UserError: there is none.
        RefusedError: it is what tenants are made of, and some are there: their etcd would go with it.
    """
    found = {resource.name: resource for resource in resources if resource.is_node or resource.is_part}
    if name not in found:
        raise UserError(f"no node or part {name!r} in this stack; {suggestion(name, sorted(found))}")
    tenants = sorted(resource.name for resource in found.values() if resource.type == TENANT)
    if name == OPERATOR and tenants:
        listed = ", ".join(tenants)
        raise RefusedError(
            f"{name} stays: {listed} would end with it; `homelab destroy-target {tenants[0]}` takes one out"
        )
    return Leaving(name, tuple(_under(resources, found[name])), found[name].is_node)


def _under(resources: Sequence[Resource], root: Resource) -> Iterator[Resource]:
    """The resource and all below it. State lists a parent before its children."""
    inside = {root.urn}
    for resource in resources:
        if resource.urn == root.urn or resource.parent in inside:
            inside.add(resource.urn)
            yield resource


def refuse_harm(lab: Lab, name: str) -> None:
    """Hold a node back whose leaving would cost the cluster, by the settings and by what etcd says now.

    Raises:
        RefusedError: with the reason.
    """
    node = lab.settings.nodes.get(name)
    if node is not None and not node.is_control_plane:
        return
    declared = lab.control_planes
    static = verdict(declared, declared, name) if name in declared else None
    if static:
        raise RefusedError(f"{name} stays: {static}")
    if lab.certificate is None:
        return  # no cluster has come up here yet, so there is no etcd to lose
    etcd = leave.observe(declared, lab.certificate)
    if etcd is None:
        raise RefusedError(
            f"{name} stays: no control plane says how etcd is, so it can't be known what its leaving costs; "
            "`homelab status` shows who answers"
        )
    voting = [member.hostname for member in etcd.members if not member.learner]
    reason = verdict(voting, etcd.healthy, name)
    if reason:
        raise RefusedError(f"{name} stays: {reason}")


def story(lab: Lab, leaving: Leaving) -> list[str]:
    """What will happen, step by step."""
    return _node_story(lab, leaving) if leaving.is_node else _part_story(leaving)


def _node_story(lab: Lab, leaving: Leaving) -> list[str]:
    node = lab.settings.nodes.get(leaving.name)
    control_plane = node is not None and node.is_control_plane
    stores = lab.settings.platform.on("longhorn")
    steps = [
        "replicas of Longhorn's volumes move to other nodes; with the last healthy one it stays" if stores else "",
        "its pods are evicted, as far as disruption budgets let them go in time",
        "it leaves etcd (a healthy peer removes it if it is dead)" if control_plane else "",
        "its Node object is deleted",
        "its disk's STATE and EPHEMERAL partitions are wiped; what pods kept on it is lost",
        "it is powered off",
    ]
    return [step for step in steps if step]


def _part_story(leaving: Leaving) -> list[str]:
    claims = [part.name for part in leaving.parts if part.type.endswith(":PersistentVolumeClaim")]
    objects = sum(1 for part in leaving.parts if part.type.startswith("kubernetes:") and "helm.sh" not in part.type)
    steps = [
        f"its {objects} Kubernetes objects are deleted",
        f"its volume claims are deleted, and what they hold goes the way of their storage class: {', '.join(claims)}"
        if claims
        else "",
    ]
    return [step for step in steps if step]
