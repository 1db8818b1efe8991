"""Prometheus, Alertmanager and Grafana; the household's own rules and dashboards; an eye on every certificate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import yaml

from components import pki, receivers, rules, storage
from components.ingress import ingress
from components.part import Part, Site, requests
from components.workload import ROOT_REASON, secret
from settings import Settings as Lab
from settings.parts import Monitoring as Settings

NAMESPACE = "monitoring"
STACK = "kube-prometheus-stack"
EXPORTER = "x509-certificate-exporter"
API = "monitoring.coreos.com/v1"
USER = "admin"
ADMIN = "grafana-admin"
CONFIG = "alertmanager-config"
DASHBOARDS = Path(__file__).parent / "dashboards"
DASHBOARD_OF = {"longhorn": "longhorn", "traefik": "traefik"}  # dashboard -> the part without which it is empty
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
ETCD_METRICS = 2381
GRAFANA_GB = 2
ALERTMANAGER_GB = 1
USED_FOR_METRICS = 0.8  # of the volume: Prometheus' log and the blocks that it is merging need the rest


class Monitoring(Part):
    """The whole of it in one namespace; pods there may look at their node, and Talos has to be told so."""

    def __init__(self, site: Site, settings: Settings) -> None:
        super().__init__("monitoring", site, settings)
        self._settings = settings
        namespace = self.namespace(NAMESPACE, privileged=True)
        needs = [namespace, self._admin(namespace), *self._alertmanager(namespace)]
        stack = self.chart(STACK, NAMESPACE, values(site.lab, settings), needs)
        self._rules(stack)
        self._dashboards(namespace)
        self._scrapes(stack)
        certificates = self._certificates(namespace)
        self.chart(EXPORTER, NAMESPACE, exporter(), [stack, certificates], main=False)
        host = site.lab.platform.host("monitoring")
        ingress(self, host, NAMESPACE, f"{STACK}-grafana", 80, depends_on=[stack])
        self.register_outputs({})

    def _admin(self, namespace: pulumi.Resource) -> pulumi.Resource:
        password = self.password()
        self.logins["grafana-password"] = password.result
        texts = {"admin-user": USER, "admin-password": password.result}
        return self.object("admin", secret(ADMIN, NAMESPACE, texts), [namespace])

    def _alertmanager(self, namespace: pulumi.Resource) -> list[pulumi.Resource]:
        config, files = receivers.alertmanager(self._settings.receivers)
        text = pulumi.Output.secret(yaml.safe_dump(config, sort_keys=False))
        made = [self.object("alertmanager", secret(CONFIG, NAMESPACE, {"alertmanager.yaml": text}), [namespace])]
        if files:
            hidden = {name: pulumi.Output.secret(content) for name, content in files.items()}
            made.append(self.object("receivers", secret(receivers.SECRET, NAMESPACE, hidden), [namespace]))
        return list(made)

    def _rules(self, stack: pulumi.Resource) -> None:
        on = frozenset(part for part in rules.OF_PART if self.site.lab.platform.on(part))
        for name in rules.files(on):
            metadata = {"name": f"homelab-{name}", "namespace": NAMESPACE}
            rule = {"apiVersion": API, "kind": "PrometheusRule", "metadata": metadata}
            self.object(f"rules-{name}", {**rule, "spec": {"groups": rules.groups(name)}}, [stack])

    def _dashboards(self, namespace: pulumi.Resource) -> None:
        for path in sorted(DASHBOARDS.glob("*.json")):
            if self.site.lab.platform.on(DASHBOARD_OF.get(path.stem, "monitoring")):
                self.object(f"dashboard-{path.stem}", dashboard(path), [namespace])

    def _scrapes(self, stack: pulumi.Resource) -> None:
        for name, manifest in SCRAPES.items():
            if self.site.lab.platform.on(name):
                self.object(f"scrape-{name}", manifest, [stack])

    def _certificates(self, namespace: pulumi.Resource) -> pulumi.Resource:
        cluster = self.site.cluster
        text = pulumi.Output.all(cluster.kubeconfig, cluster.talosconfig).apply(lambda both: pki.certificates(*both))
        return self.object("pki", secret(pki.SECRET, NAMESPACE, {pki.KEY: text}, pki.KIND), [namespace])


def values(lab: Lab, settings: Settings) -> dict[str, Any]:
    """The stack's values."""
    return {
        # Its admission webhook gets its certificate from a hook; without it a wrong rule is found by Prometheus itself.
        "prometheusOperator": {
            "admissionWebhooks": {"enabled": False},
            "tls": {"enabled": False},
            "resources": requests("50m", "96Mi"),
        },
        # Talos runs etcd outside of Kubernetes, on the nodes that the controller-manager's pods are on.
        "kubeEtcd": {
            "service": {
                "port": ETCD_METRICS,
                "targetPort": ETCD_METRICS,
                "selector": {"component": "kube-controller-manager"},
            },
        },
        "kubeProxy": {"enabled": False},
        # Both fire all the time, by design: for services that watch the watcher, which a household has not.
        "defaultRules": {"disabled": {"Watchdog": True, "InfoInhibitor": True}},
        "prometheus": {"prometheusSpec": _prometheus(lab, settings)},
        "alertmanager": {"alertmanagerSpec": _alertmanager(lab, settings)},
        "grafana": _grafana(lab, settings),
        "kube-state-metrics": {"resources": requests("25m", "64Mi")},
        "prometheus-node-exporter": {"resources": requests("25m", "32Mi")},
    }


def _prometheus(lab: Lab, settings: Settings) -> dict[str, Any]:
    everywhere = ("serviceMonitor", "podMonitor", "rule", "probe", "scrapeConfig")
    room = max(1, int(settings.storage_gb * USED_FOR_METRICS))
    return {
        "retention": f"{settings.retention_days}d",
        "retentionSize": f"{room}GB",
        **{f"{kind}SelectorNilUsesHelmValues": False for kind in everywhere},
        **_kept(lab, "storageSpec", settings.storage_gb),
        **_resources("250m", "768Mi"),
    }


def _alertmanager(lab: Lab, settings: Settings) -> dict[str, Any]:
    _, files = receivers.alertmanager(settings.receivers)
    return {
        "useExistingSecret": True,
        "configSecret": CONFIG,
        **({"secrets": [receivers.SECRET]} if files else {}),
        **_kept(lab, "storage", ALERTMANAGER_GB),
        **_resources("25m", "64Mi"),
    }


def _grafana(lab: Lab, settings: Settings) -> dict[str, Any]:
    host, block = lab.platform.host("monitoring"), storage.block_class(lab)
    return {
        "admin": {"existingSecret": ADMIN, "userKey": "admin-user", "passwordKey": "admin-password"},
        "plugins": [plugin.replace(" ", "@") for plugin in settings.grafana_plugins],
        "testFramework": {"enabled": False},
        # Two pods at once would wait for each other's volume for ever.
        "deploymentStrategy": {"type": "Recreate"},
        "persistence": {"enabled": True, "storageClassName": block, "size": f"{GRAFANA_GB}Gi"} if block else {},
        # It would begin as root; the volume's group is right without it.
        "initChownData": {"enabled": False},
        "grafana.ini": {
            "analytics": {"check_for_updates": False, "reporting_enabled": False},
            **({"server": {"root_url": f"https://{host}"}} if host else {}),
        },
        "resources": requests("50m", "192Mi"),
        "sidecar": {"resources": requests("10m", "64Mi")},
    }


def _kept(lab: Lab, key: str, size_gb: int) -> dict[str, Any]:
    """On Longhorn, or as long as the pod lives: Prometheus' data does not survive NFS."""
    block = storage.block_class(lab)
    if block is None:
        return {}
    spec = {
        "storageClassName": block,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{size_gb}G"}},
    }
    return {key: {"volumeClaimTemplate": {"spec": spec}}}


def _resources(cpu: str, memory: str) -> dict[str, Any]:
    return {"resources": requests(cpu, memory)}


def exporter() -> dict[str, Any]:
    """The certificate exporter's values: files of the nodes, Secrets of the cluster, and those that people hold."""
    anywhere = [{"operator": "Exists"}]
    small = _resources("10m", "32Mi")
    return {
        "secretsExporter": {
            "secretTypes": [{"type": "kubernetes.io/tls", "key": "tls.crt"}, {"type": pki.KIND, "key": pki.KEY}],
            **small,
        },
        "hostPathsExporter": {
            # The kubelet's check of a folder's type fails on Talos' mounts.
            "hostPathVolumeType": "",
            "podAnnotations": {ROOT_REASON: "reads certificates that only root may read"},
            **small,
            "daemonSets": {
                "nodes": {"tolerations": anywhere, "watchFiles": list(pki.ON_EVERY_NODE)},
                "control-planes": {
                    "nodeSelector": {CONTROL_PLANE: ""},
                    "tolerations": anywhere,
                    "watchFiles": list(pki.ON_CONTROL_PLANES),
                    "watchKubeconfFiles": list(pki.KUBECONFIGS),
                },
            },
        },
        "prometheusServiceMonitor": {"create": True},
        "prometheusRules": {"create": False},  # ours: rules/certificates.yaml
    }


def dashboard(path: Path) -> dict[str, Any]:
    """A dashboard where Grafana's sidecar finds it."""
    text = json.dumps(json.loads(path.read_text(encoding="utf-8")), separators=(",", ":"))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"dashboard-{path.stem}",
            "namespace": NAMESPACE,
            "labels": {"grafana_dashboard": "1"},
        },
        "data": {f"homelab-{path.name}": text},
    }


def _scrape(kind: str, of: str, namespace: str, labels: dict[str, str], port: str) -> dict[str, Any]:
    endpoints = "podMetricsEndpoints" if kind == "PodMonitor" else "endpoints"
    return {
        "apiVersion": API,
        "kind": kind,
        "metadata": {"name": of, "namespace": NAMESPACE},
        "spec": {
            "namespaceSelector": {"matchNames": [namespace]},
            "selector": {"matchLabels": labels},
            endpoints: [{"port": port}],
        },
    }


SCRAPES = {
    "longhorn": _scrape("ServiceMonitor", "longhorn", "longhorn-system", {"app": "longhorn-manager"}, "manager"),
    "traefik": _scrape("PodMonitor", "traefik", "traefik", {"app.kubernetes.io/name": "traefik"}, "metrics"),
}
"""Part -> how Prometheus finds its metrics. Here, because the kinds come with the stack, which those parts precede."""
