"""The stand-in charts as Helm renders them: the names that others rely on, pinned images, nothing drawn at random."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.twin.test_charts_values import NAMES, PROGRAM
from tools import paths
from twin import chartrepo

HELM = paths.helm()
NAMESPACES = {
    "cilium": "kube-system",
    "csi-driver-nfs": "kube-system",
    "kamaji": "kamaji-system",
    "kube-prometheus-stack": "monitoring",
    "longhorn": "longhorn-system",
    "metallb": "metallb-system",
    "metrics-server": "kube-system",
    "x509-certificate-exporter": "monitoring",
}
RELIED_ON = {
    "cert-manager": """
        Deployment/cert-manager Deployment/cert-manager-webhook Deployment/cert-manager-cainjector
        Service/cert-manager-webhook ServiceAccount/cert-manager ValidatingWebhookConfiguration/cert-manager-webhook
        MutatingWebhookConfiguration/cert-manager-webhook""",
    "cilium": """
        DaemonSet/cilium DaemonSet/cilium-envoy Deployment/cilium-operator Namespace/cilium-secrets
        ConfigMap/cilium-config ConfigMap/cilium-envoy-config Service/cilium-envoy Service/hubble-peer
        Secret/cilium-ca Secret/hubble-server-certs""",
    "csi-driver-nfs": """
        Deployment/csi-nfs-controller DaemonSet/csi-nfs-node CSIDriver/nfs.csi.k8s.io
        ServiceAccount/csi-nfs-controller-sa ServiceAccount/csi-nfs-node-sa
        ClusterRole/nfs-external-provisioner-role ClusterRole/nfs-external-resizer-role""",
    "headlamp": """
        Deployment/headlamp Service/headlamp ServiceAccount/headlamp ClusterRoleBinding/headlamp-admin Secret/oidc""",
    "kamaji": """
        Deployment/kamaji Service/kamaji-webhook-service ServiceAccount/kamaji-controller-manager
        Issuer/kamaji-selfsigned-issuer Certificate/kamaji-serving-cert
        MutatingWebhookConfiguration/kamaji-mutating-webhook-configuration
        ValidatingWebhookConfiguration/kamaji-validating-webhook-configuration
        CustomResourceDefinition/datastores.kamaji.clastix.io
        CustomResourceDefinition/tenantcontrolplanes.kamaji.clastix.io
        CustomResourceDefinition/kubeconfiggenerators.kamaji.clastix.io""",
    "kube-prometheus-stack": """
        Deployment/kube-prometheus-stack-operator Deployment/kube-prometheus-stack-grafana
        Deployment/kube-prometheus-stack-kube-state-metrics DaemonSet/kube-prometheus-stack-prometheus-node-exporter
        Prometheus/kube-prometheus-stack-prometheus Alertmanager/kube-prometheus-stack-alertmanager
        Service/kube-prometheus-stack-prometheus Service/kube-prometheus-stack-alertmanager
        Service/kube-prometheus-stack-operator Service/kube-prometheus-stack-grafana
        Service/kube-prometheus-stack-coredns Service/kube-prometheus-stack-kube-controller-manager
        Service/kube-prometheus-stack-kube-scheduler Service/kube-prometheus-stack-kube-etcd
        Service/kube-prometheus-stack-kube-proxy Secret/kube-prometheus-stack-grafana
        Secret/alertmanager-kube-prometheus-stack-alertmanager Job/kube-prometheus-stack-admission-create
        Job/kube-prometheus-stack-admission-patch ServiceAccount/kube-prometheus-stack-admission
        MutatingWebhookConfiguration/kube-prometheus-stack-admission
        ValidatingWebhookConfiguration/kube-prometheus-stack-admission
        CustomResourceDefinition/prometheuses.monitoring.coreos.com
        CustomResourceDefinition/alertmanagers.monitoring.coreos.com
        CustomResourceDefinition/prometheusrules.monitoring.coreos.com
        CustomResourceDefinition/servicemonitors.monitoring.coreos.com
        CustomResourceDefinition/podmonitors.monitoring.coreos.com
        CustomResourceDefinition/probes.monitoring.coreos.com
        CustomResourceDefinition/scrapeconfigs.monitoring.coreos.com
        CustomResourceDefinition/alertmanagerconfigs.monitoring.coreos.com""",
    "longhorn": """
        DaemonSet/longhorn-manager Deployment/longhorn-driver-deployer Deployment/longhorn-ui Service/longhorn-backend
        Service/longhorn-frontend Service/longhorn-admission-webhook Service/longhorn-recovery-backend
        ConfigMap/longhorn-default-setting ConfigMap/longhorn-default-resource ConfigMap/longhorn-storageclass
        PriorityClass/longhorn-critical ServiceAccount/longhorn-service-account ClusterRole/longhorn-role
        ClusterRoleBinding/longhorn-bind NetworkPolicy/longhorn-manager NetworkPolicy/longhorn-webhook
        NetworkPolicy/longhorn-recovery-backend NetworkPolicy/instance-manager NetworkPolicy/backing-image-manager
        NetworkPolicy/backing-image-data-source Job/longhorn-uninstall
        CustomResourceDefinition/nodes.longhorn.io CustomResourceDefinition/volumes.longhorn.io
        CustomResourceDefinition/replicas.longhorn.io CustomResourceDefinition/settings.longhorn.io
        CustomResourceDefinition/recurringjobs.longhorn.io CustomResourceDefinition/backuptargets.longhorn.io""",
    "metallb": """
        Deployment/metallb-controller DaemonSet/metallb-speaker Service/metallb-webhook-service
        Secret/metallb-webhook-cert ConfigMap/metallb-excludel2
        ValidatingWebhookConfiguration/metallb-webhook-configuration ServiceAccount/metallb-controller
        ServiceAccount/metallb-speaker ClusterRole/metallb:controller ClusterRole/metallb:speaker
        CustomResourceDefinition/ipaddresspools.metallb.io CustomResourceDefinition/l2advertisements.metallb.io
        CustomResourceDefinition/servicel2statuses.metallb.io
        CustomResourceDefinition/configurationstates.metallb.io""",
    "metrics-server": """
        Deployment/metrics-server Service/metrics-server ServiceAccount/metrics-server
        APIService/v1beta1.metrics.k8s.io""",
    "traefik": """
        Deployment/traefik Service/traefik ServiceAccount/traefik ClusterRole/traefik-traefik IngressClass/traefik
        CustomResourceDefinition/ingressroutes.traefik.io CustomResourceDefinition/middlewares.traefik.io
        CustomResourceDefinition/tlsstores.traefik.io CustomResourceDefinition/tlsoptions.traefik.io
        CustomResourceDefinition/serverstransports.traefik.io""",
    "x509-certificate-exporter": """
        Deployment/x509-certificate-exporter Service/x509-certificate-exporter ServiceAccount/x509-certificate-exporter
        ClusterRole/x509-certificate-exporter ConfigMap/x509-certificate-exporter-secrets
        PrometheusRule/x509-certificate-exporter ServiceMonitor/x509-certificate-exporter""",
}
PINNED = re.compile(r"[a-z0-9.-]+\.[a-z]+/[\w./-]+:(?!latest)[\w.-]+(@sha256:[0-9a-f]{64})?")

pytestmark = pytest.mark.skipif(not HELM.exists(), reason="make tools builds helm")
Object = dict[str, Any]


class Loader(yaml.SafeLoader):
    """PyYAML's, which takes a bare `=` for a value of a type of its own and fails."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def template(name: str, values: str = "{}", *more: str) -> subprocess.CompletedProcess[str]:
    words = [str(HELM), "template", name, str(chartrepo.CHARTS / name), "--include-crds", "--values", "-"]
    words += ["--namespace", NAMESPACES.get(name, name), "--kube-version", "1.36.1", *more]
    return subprocess.run(words, input=values, capture_output=True, text=True, timeout=60, check=False)


@cache
def rendered(name: str, values: str = "{}") -> str:
    done = template(name, values, "--api-versions", "monitoring.coreos.com/v1")
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(name: str, values: str = "{}") -> list[Object]:
    return [found for found in yaml.load_all(rendered(name, values), Loader) if found]


def names(found: list[Object]) -> list[str]:
    return [f"{it['kind']}/{it['metadata']['name']}" for it in found]


def set_by(lab: str, name: str) -> str:
    return json.dumps(PROGRAM[lab].get(name, {}))


@pytest.mark.parametrize("name", NAMES)
def test_what_others_rely_on_is_there(name: str) -> None:
    found = names(objects(name))
    assert not set(RELIED_ON[name].split()) - set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lab", PROGRAM)
def test_the_program_s_values_render_the_same_each_time(lab: str, name: str) -> None:
    again = template(name, set_by(lab, name), "--api-versions", "monitoring.coreos.com/v1")
    assert again.stdout == rendered(name, set_by(lab, name))


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_value_fails(name: str) -> None:
    done = template(name, '{"resuorces": {}}')
    assert done.returncode != 0
    assert "resuorces" in done.stderr


def containers(found: Object) -> list[Object]:
    pod = found.get("spec", {}).get("template", {}).get("spec", {})
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


@pytest.mark.parametrize("name", NAMES)
def test_images_are_pinned(name: str) -> None:
    found = objects(name)
    images = [container["image"] for it in found for container in containers(it)]
    images += [it["spec"]["image"] for it in found if it["kind"] in ("Prometheus", "Alertmanager")]
    assert images
    assert [image for image in images if not PINNED.fullmatch(image)] == []


@pytest.mark.parametrize("name", ["cert-manager", "kamaji", "kube-prometheus-stack", "metallb"])
def test_webhooks_are_asked_about_nothing(name: str) -> None:
    hooks = [hook for it in objects(name) for hook in it.get("webhooks", [])]
    assert hooks
    for hook in hooks:
        assert [condition["expression"] for condition in hook["matchConditions"]] == ["false"]
        assert hook["failurePolicy"] == "Ignore"
        assert "caBundle" not in hook["clientConfig"]


def test_the_bare_equals_sign_is_there_to_trip_over() -> None:
    with pytest.raises(yaml.constructor.ConstructorError):
        list(yaml.safe_load_all(rendered("kube-prometheus-stack")))


def test_definitions_can_be_left_to_another_chart() -> None:
    found = names(objects("kube-prometheus-stack", '{"crds": {"enabled": false}}'))
    assert not [name for name in found if name.startswith("CustomResourceDefinition/")]


def test_traefik_wants_to_see_the_kind_of_its_monitor() -> None:
    done = template("traefik", '{"metrics": {"prometheus": {"serviceMonitor": {"enabled": true}}}}')
    assert done.returncode != 0
    assert "monitoring.coreos.com/v1" in done.stderr


def test_the_operator_mounts_what_only_a_hook_makes_until_both_switches_are_off() -> None:
    off = {"admissionWebhooks": {"enabled": False}}
    assert "kube-prometheus-stack-admission" in operator(off)
    assert "kube-prometheus-stack-admission" not in operator({**off, "tls": {"enabled": False}})


def operator(values: Object) -> str:
    """The operator's Deployment, as text."""
    found = objects("kube-prometheus-stack", json.dumps({"prometheusOperator": values}))
    (deployment,) = (it for it in found if names([it]) == ["Deployment/kube-prometheus-stack-operator"])
    return json.dumps(deployment)


def test_longhorn_s_settings_reach_the_files_that_it_reads() -> None:
    values = {
        "defaultSettings": {"defaultDataPath": "/var/mnt/longhorn", "deletingConfirmationFlag": True},
        "defaultBackupStore": {"backupTarget": "nfs://nas:/export"},
        "persistence": {"defaultClassReplicaCount": 2, "defaultClass": False},
    }
    found = {it["metadata"]["name"]: it for it in objects("longhorn", json.dumps(values)) if it["kind"] == "ConfigMap"}
    setting = yaml.safe_load(found["longhorn-default-setting"]["data"]["default-setting.yaml"])
    assert setting["default-data-path"] == "/var/mnt/longhorn"
    assert setting["deleting-confirmation-flag"] is True
    assert "upgrade-checker" not in setting
    resource = yaml.safe_load(found["longhorn-default-resource"]["data"]["default-resource.yaml"])
    assert resource == {"backup-target": "nfs://nas:/export"}
    storage = yaml.safe_load(found["longhorn-storageclass"]["data"]["storageclass.yaml"])
    assert storage["parameters"]["numberOfReplicas"] == "2"
    assert storage["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "false"


def test_an_archive_renders_as_its_folder_does(tmp_path: Path) -> None:
    chart = chartrepo.pack(chartrepo.CHARTS / "metallb")
    (tmp_path / chart.file).write_bytes(chart.archive)
    words = [str(HELM), "template", "metallb", str(tmp_path / chart.file), "--namespace", "metallb-system"]
    done = subprocess.run(
        [*words, "--include-crds", "--kube-version", "1.36.1"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == rendered("metallb")
