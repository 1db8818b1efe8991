"""Longhorn's steps around its chart, as Pulumi resources; none of them has anything to delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from providers import pace
from providers.deadline import Deadline
from providers.dynamic import Props, Provider, lazily, packed
from providers.engine import Reporter

if TYPE_CHECKING:
    from providers.kubernetes import client
    from providers.longhorn import preconditions, ready
    from providers.talos import secrets
else:
    client = lazily("providers.kubernetes.client")
    preconditions = lazily("providers.longhorn.preconditions")
    ready = lazily("providers.longhorn.ready")
    secrets = lazily("providers.talos.secrets")

READY_S = 900.0


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


class Ready(Resource, module="longhorn", name="Ready"):
    """Volumes can be made."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(ReadyProvider(), name, packed(props), opts)
