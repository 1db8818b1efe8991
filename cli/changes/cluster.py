"""What would happen to the cluster as a whole: etcd's members and its quorum, the endpoint, the credentials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.changes.difference import fields, is_hidden, unpacked
from cli.changes.document import Preview, Step
from cli.changes.nodes import NodeSteps
from cli.changes.row import About, Row
from providers.talos.quorum import verdict

_ENDS = "the whole cluster and its data"
_SHOWN = {"vip": "VIP", "port": "port of the API", "dns": "name of the endpoint", "cluster": "name of the cluster"}


def rows(preview: Preview, nodes: Sequence[NodeSteps]) -> Iterator[Row]:
    """The rows of the cluster and of etcd, where something would happen to them."""
    steps = {step.name: step for step in preview.changes if step.name in ("cluster", "secrets", "kubernetes")}
    found = _cluster(preview, steps)
    if found is not None:
        yield found
    etcd = _etcd(preview, nodes)
    if etcd is not None:
        yield etcd


def _cluster(preview: Preview, steps: Mapping[str, Step]) -> Row | None:
    cluster, secrets, provider = (steps.get(name) for name in ("cluster", "secrets", "kubernetes"))
    if any(step is not None and (step.deleted or step.replaced) for step in (cluster, secrets)):
        return Row(About.CLUSTER, "cluster", "ENDS", ("ENDS: etcd, secrets and credentials go",), _ENDS)
    if provider is not None and provider.replaced:
        what = "the platform's provider is REPLACED, and every object of the platform with it"
        return Row(About.CLUSTER, "cluster", "REPLACES", (what,), "every object of the platform, its volumes too")
    taken_over = secrets is not None and secrets.op == "update" and not _rotated(preview, secrets)
    words = [*_secrets(preview, secrets), *_made(cluster), *_updated(cluster), *_provider(provider)]
    if not words:
        return None
    harm = "the secrets of the cluster that this state knows" if taken_over else ""
    verb = "created" if cluster is not None and cluster.op == "create" else "changes"
    return Row(About.CLUSTER, "cluster", verb, tuple(words), harm)


def _secrets(preview: Preview, secrets: Step | None) -> Iterator[str]:
    if secrets is None or secrets.op != "update":
        return
    rotated = _rotated(preview, secrets)
    yield rotated or "TAKES OVER the secrets of the cluster that the talosconfig in place opens"


def _rotated(preview: Preview, secrets: Step) -> str:
    """The step of an exchange of keys that an update is, as its provider says; "" where it is none."""
    return ", ".join(preview.said_of(secrets.urn))


def _made(cluster: Step | None) -> Iterator[str]:
    if cluster is not None and cluster.op == "create":
        yield "created: etcd is bootstrapped once, or the running one is adopted"


def _updated(cluster: Step | None) -> Iterator[str]:
    if cluster is None or cluster.op != "update":
        return
    old, new = unpacked(cluster.old), unpacked(cluster.new)
    for key, title in _SHOWN.items():
        if old.get(key) != new.get(key):
            yield f"{title} {old.get(key) or 'none'} -> {new.get(key) or 'none'}"
    yield "kubeconfig and talosconfig issued anew"


def _provider(kubernetes: Step | None) -> Iterator[str]:
    if kubernetes is not None and kubernetes.op == "update":
        seen = ", ".join(field.path for field in fields(kubernetes))
        yield "credentials of the platform's provider updated" if is_hidden(kubernetes) or not seen else f"sets {seen}"


def _etcd(preview: Preview, nodes: Sequence[NodeSteps]) -> Row | None:
    before, after = _members(preview, "old"), _members(preview, "new")
    if before is None and after is not None and any(node.created for node in nodes):
        return Row(About.CLUSTER, "etcd", "created", (f"0 -> {_count(len(after))}",))
    if before is None or after is None:
        return None
    leaving = sorted(before - after)
    away = sorted(node.name for node in nodes if node.reinstalled and node.name in before & after)
    if before == after and not away:
        return None
    lost = _loses_quorum(before, leaving) or next((name for name in away if _loses_quorum(before, [name])), "")
    words = [
        *_change(before, after),
        *([f"{', '.join(away)} out and back"] if away else []),
        _kept(lost, after, before),
    ]
    return Row(About.CLUSTER, "etcd", "QUORUM LOST" if lost else "changes", tuple(words), lost and _ENDS)


def _members(preview: Preview, side: str) -> set[str] | None:
    """The control planes' names as one side of the plan has them; None where the document doesn't tell."""
    for step in sorted(preview.steps, key=lambda step: step.name != "cluster"):
        bag: Mapping[str, Any] = unpacked(getattr(step, side))
        if step.name == "cluster" and step.op == "delete" and side == "new":
            return None
        found = bag.get("control_planes")
        if isinstance(found, Mapping) and found:
            return set(found)
    return None


def _loses_quorum(members: set[str], leaving: Sequence[str]) -> str:
    """The first of those who leave, one by one, without whom etcd has no quorum. All are taken to be healthy."""
    left = set(members)
    for name in leaving:
        if verdict(left, left, name):
            return name
        left.discard(name)
    return ""


def _change(before: set[str], after: set[str]) -> Iterator[str]:
    if len(before) != len(after):
        yield f"{len(before)} -> {_count(len(after))}"
    else:
        yield _count(len(after))
    if len(before) == len(after) and before != after:
        yield f"{', '.join(sorted(before - after))} out, {', '.join(sorted(after - before))} in"


def _kept(lost: str, after: set[str], before: set[str]) -> str:
    if lost:
        return f"QUORUM LOST without {lost}"
    spare, had = (len(after) - 1) // 2, (len(before) - 1) // 2
    if spare >= had:
        return "quorum kept"
    return f"quorum kept, but then {'no member' if not spare else f'only {spare}'} may fail (before: {had})"


def _count(members: int) -> str:
    return f"{members} member{'' if members == 1 else 's'}"
