"""Kamaji: makes the control planes of tenants, as pods of this cluster; and the etcd that they share."""

from __future__ import annotations

from typing import Any

from components import datastore
from components.part import Part, Site, requests
from components.versions import CHARTS
from providers.kubernetes.ready import Webhook
from settings.parts import Kamaji as Settings

NAMESPACE = "kamaji-system"
STORE = "default"
TAG = "26.8.2-edge"  # the chart that is public names none, and takes whatever is newest


class Kamaji(Part):
    """The operator, and the DataStore `default`. It is there when a tenant is."""

    def __init__(self, site: Site, settings: Settings) -> None:
        super().__init__("kamaji", site, settings)
        namespace = self.namespace(NAMESPACE)
        chart = self.chart("kamaji", NAMESPACE, values(), [namespace])
        etcd = datastore.etcd(self, NAMESPACE, [namespace], [*site.lab.tenants])
        webhook = self.keep(Webhook("kamaji-webhook", self._webhook(settings), self.child([chart, *etcd])))
        datastore.store(self, STORE, NAMESPACE, [webhook, *etcd])
        self.register_outputs({})

    def _webhook(self, settings: Settings) -> dict[str, Any]:
        return {
            "kubeconfig": self.site.cluster.kubeconfig,
            "configuration": "kamaji-validating-webhook-configuration",
            "namespace": NAMESPACE,
            "service": "kamaji-webhook-service",
            "path": f"/apis/{datastore.API}/datastores",
            "trial": datastore.manifest(STORE, NAMESPACE, datastore.size(self)),
            "version": settings.version or CHARTS["kamaji"].version,
        }


def values() -> dict[str, Any]:
    """The chart's own etcd needs Helm's hooks, and without it there is no DataStore that the operator may wait for."""
    return {
        "image": {"tag": TAG, "pullPolicy": "IfNotPresent"},
        "defaultDatastoreName": "",
        "telemetry": {"disabled": True},
        "kamaji-etcd": {"deploy": False, "datastore": {"enabled": False}},
        "resources": requests("50m", "64Mi"),
    }
