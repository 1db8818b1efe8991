"""Longhorn's steps around its chart, as Pulumi resources; none of them has anything to delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, UpdateResult

from providers import pace
from providers.deadline import Deadline
from providers.dynamic import Props, Provider, changed_keys, is_known, lazily, packed
from providers.engine import Reporter
from providers.errors import HomelabError

if TYPE_CHECKING:
    from providers.kubernetes import client
    from providers.longhorn import preconditions, ready, record
    from providers.talos import secrets
else:
    client = lazily("providers.kubernetes.client")
    preconditions = lazily("providers.longhorn.preconditions")
    ready = lazily("providers.longhorn.ready")
    record = lazily("providers.longhorn.record")
    secrets = lazily("providers.talos.secrets")

READY_S = 900.0
API_S = 60.0


class PreconditionsProvider(Provider):
    """Looks at every node before Longhorn is installed, and again when nodes or wishes change."""

    inputs = ("nodes", "data_path", "minimum_disk_gb")
    memos = ("talosconfig",)

    def create(self, props: Props) -> CreateResult:
        """Refuse where a node lacks something."""
        _look(props)
        return CreateResult("longhorn-preconditions", self.stored(props))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Look again."""
        _look(news)
        return UpdateResult(self.stored(news))


class RecordProvider(Provider):
    """Keeps Helm's records of a run that was killed out of the way of the next one."""

    inputs = ("namespace", "release")
    memos = ("kubeconfig",)

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """A record of work that nobody is at any more is a change to make; an API that is away is none."""
        changed = bool(changed_keys(olds, news, self.inputs))
        return DiffResult(changes=changed or (is_known(news) and _is_stuck(news)))

    def create(self, props: Props) -> CreateResult:
        """State knows of no release: what Helm knows of one is in the way of installing it."""
        _clear(props, everything=True)
        return CreateResult(f"{props['namespace']}/{props['release']}", self.stored(props))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Only what is stuck goes; a release that works is upgraded."""
        _clear(news, everything=False)
        return UpdateResult(self.stored(news))


class ReadyProvider(Provider):
    """Waits on create, and again when the chart or the nodes change."""

    inputs = ("nodes", "version")
    memos = ("kubeconfig",)

    def create(self, props: Props) -> CreateResult:
        """Wait until a volume could be made."""
        _wait(props)
        return CreateResult("longhorn-ready", self.stored(props))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Wait again."""
        _wait(news)
        return UpdateResult(self.stored(news))


def _look(props: Props) -> None:
    wish = preconditions.Wish(props["data_path"], int(props["minimum_disk_gb"]))
    Reporter().progress(f"looking at {len(props['nodes'])} nodes")
    preconditions.check(props["nodes"], secrets.read_talosconfig(props["talosconfig"]), wish)


def _is_stuck(props: Props) -> bool:
    try:
        with client.Kube(props["kubeconfig"], timeout_s=3.0) as kube:
            return bool(record.stuck(kube, props["namespace"], props["release"]))
    except HomelabError:
        return False


def _clear(props: Props, *, everything: bool) -> None:
    deadline = Deadline(pace.limit(API_S))
    with client.Kube(props["kubeconfig"]) as kube:
        gone = record.clear(kube, props["namespace"], props["release"], deadline, everything=everything)
    for name in gone:
        Reporter().info(f"Helm's record {name} of an earlier run was removed; its objects are taken over")


def _wait(props: Props) -> None:
    report = Reporter()
    with client.Kube(props["kubeconfig"]) as kube:
        seen = client.Seen(report.progress)

        def probe() -> bool | None:
            lacking = ready.missing(kube, props["nodes"])
            seen(lacking or "ready")
            return None if lacking else True

        kube.patiently(probe, "Longhorn: ready for volumes", Deadline(pace.limit(READY_S)), seen)


class Preconditions(Resource, module="longhorn", name="Preconditions"):
    """Every node has what Longhorn needs."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(PreconditionsProvider(), name, packed(props), opts)


class Record(Resource, module="longhorn", name="Record"):
    """Helm has nothing in the way of the release."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(RecordProvider(), name, packed(props), opts)


class Ready(Resource, module="longhorn", name="Ready"):
    """Volumes can be made."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(ReadyProvider(), name, packed(props), opts)
