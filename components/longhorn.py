"""Longhorn: volumes on the nodes' own disks, in several replicas.

It is the one chart that is installed as a Helm release: what takes it away is a hook, and charts that the engine
renders have none. To a preview a release is a name and values, no more.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pulumi
from pulumi_kubernetes.helm.v3 import Release, ReleaseArgs

from components.guard import guard
from components.ingress import ingress
from components.manifest import Manifest
from components.part import Part, Site, merged, opened, requests
from components.versions import CHARTS
from providers.longhorn import record
from providers.longhorn.resources import Preconditions, Ready
from settings import Settings as Lab
from settings.parts import Longhorn as Settings
from settings.parts import Snapshots

NAMESPACE = "longhorn-system"
RELEASE = "longhorn"
API = "longhorn.io/v1beta2"
MOST_REPLICAS = 3
SMALL = 3  # nodes; below that, one of each CSI pod is enough
INSTALL_S = 900  # its images are large and pulled by every node


class Longhorn(Part):
    """Longhorn, once every node has what it needs; ready when volumes can be made. Its page is behind a password."""

    def __init__(self, site: Site, settings: Settings) -> None:
        super().__init__("longhorn", site, settings)
        self._settings = settings
        namespace = self.namespace(NAMESPACE, privileged=True)
        asked = self.object("requests", least(), [namespace])
        able = self.keep(Preconditions("longhorn-preconditions", self._asked(), self.child([namespace])))
        release = self._release([able, asked])
        ready = self.keep(Ready("longhorn-ready", self._awaited(), self.child([release])))
        if settings.snapshots is not None:
            self.object("snapshots", recurring(settings.snapshots), [ready])
        if site.lab.platform.on("monitoring"):
            self.object("metrics", scraped(), [namespace])
        self._page(namespace, ready)
        self.register_outputs({})

    def _release(self, needs: list[pulumi.Resource]) -> Release:
        arguments = ReleaseArgs(
            chart=self.archive(RELEASE),
            name=RELEASE,
            namespace=NAMESPACE,
            values=merged(values(self.site.lab, self._settings), opened(self._settings.values)),
            timeout=INSTALL_S,
        )
        return self.keep(Release("longhorn-release", arguments, self.options(needs, hooks=self._hooks())))

    def _hooks(self) -> pulumi.ResourceHookBinding:
        """When the engine creates a release, its state knows of none; before an update, it knows a good one."""

        async def install(_: pulumi.ResourceHookArgs) -> None:
            await self._unblock(everything=True)

        async def upgrade(_: pulumi.ResourceHookArgs) -> None:
            await self._unblock(everything=False)

        return pulumi.ResourceHookBinding(before_create=[install], before_update=[upgrade])

    async def _unblock(self, *, everything: bool) -> None:
        kubeconfig = str(await self.site.cluster.kubeconfig.future())
        gone = await asyncio.to_thread(record.unblock, kubeconfig, NAMESPACE, RELEASE, everything=everything)
        for name in gone:
            pulumi.log.info(f"Helm's record {name} of an earlier run was removed; its objects are taken over", self)

    def _page(self, namespace: Manifest, ready: pulumi.Resource) -> None:
        """Longhorn's page asks nobody for a password, and can delete every volume."""
        host = self.site.lab.platform.host("longhorn")
        if host is not None:
            login = guard(self, NAMESPACE, namespace)
            self.logins["longhorn-password"] = login.password
            needs = [ready, *login.resources]
            annotations = login.annotations
            ingress(self, host, NAMESPACE, "longhorn-frontend", 80, depends_on=needs, annotations=annotations)

    def _asked(self) -> dict[str, Any]:
        return {
            "talosconfig": self.site.cluster.talosconfig,
            "nodes": {name: str(self.site.lab.nodes[name].address) for name in hosts(self.site.lab)},
            "data_path": self._settings.data_path,
            "minimum_disk_gb": self._settings.minimum_disk_gb,
        }

    def _awaited(self) -> dict[str, Any]:
        return {
            "kubeconfig": self.site.cluster.kubeconfig,
            "nodes": sorted(hosts(self.site.lab)),
            "version": self._settings.version or CHARTS[RELEASE].version,
        }


def hosts(lab: Lab) -> list[str]:
    """The nodes that ordinary pods, and so replicas, may be on."""
    everywhere = lab.cluster.schedule_on_control_planes
    return [node.name for node in lab.enabled_nodes if everywhere or not node.is_control_plane]


def replicas(lab: Lab, settings: Settings) -> int:
    """How many replicas a volume has: as the settings say, else three, or one a node where there are fewer."""
    return settings.replicas or max(1, min(MOST_REPLICAS, len(hosts(lab))))


def values(lab: Lab, settings: Settings) -> dict[str, Any]:
    """The chart's values."""
    count, small = replicas(lab, settings), len(hosts(lab)) < SMALL
    pods = ("attacher", "provisioner", "resizer", "snapshotter")
    return {
        "persistence": {"defaultClass": settings.default_class, "defaultClassReplicaCount": count},
        "defaultSettings": {
            "defaultDataPath": settings.data_path,
            "defaultReplicaCount": count,
            # Without it the hook that takes Longhorn away fails, and its namespace never ends.
            "deletingConfirmationFlag": True,
            "upgradeChecker": False,
            "allowCollectingLonghornUsageMetrics": False,
        },
        "csi": {f"{pod}ReplicaCount": 1 for pod in pods} if small else {},
        "defaultBackupStore": {"backupTarget": settings.backup} if settings.backup else {},
        "longhornManager": {"resources": requests("100m", "192Mi")},
        "longhornUI": {"replicas": 1},
        # Its check before an upgrade is a hook that runs as a Job; a release runs hooks.
        "preUpgradeChecker": {"jobEnabled": True},
    }


def least() -> dict[str, Any]:
    """What a container gets that asks for nothing, as the chart's page and the pods that Longhorn makes do."""
    limits = [{"type": "Container", "defaultRequest": {"cpu": "10m", "memory": "32Mi"}}]
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "requests", "namespace": NAMESPACE},
        "spec": {"limits": limits},
    }


def recurring(snapshots: Snapshots) -> dict[str, Any]:
    """A snapshot of every volume that says nothing else (the group `default`)."""
    return {
        "apiVersion": API,
        "kind": "RecurringJob",
        "metadata": {"name": "snapshot", "namespace": NAMESPACE},
        "spec": {
            "name": "snapshot",
            "task": "snapshot",
            "cron": snapshots.schedule,
            "retain": snapshots.keep,
            "concurrency": 1,
            "groups": ["default"],
            "labels": {},
        },
    }


def scraped() -> dict[str, Any]:
    """Prometheus may ask Longhorn's managers; the chart's own policies let nobody in from other namespaces."""
    prometheus = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "metrics", "namespace": NAMESPACE},
        "spec": {
            "podSelector": {"matchLabels": {"app": "longhorn-manager"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [prometheus], "ports": [{"port": 9500, "protocol": "TCP"}]}],
        },
    }
