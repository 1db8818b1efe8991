"""The other players: webhooks' authorities, cert-manager, Traefik's Ingresses, NFS, jobs, Prometheus' servers."""

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509

from tests.twin.players_lab import Lab, settled, wait
from tools import paths
from twin.kubernetes.api import ApiError
from twin.kubernetes.players.pki import names

pytestmark = [
    pytest.mark.skipif(not paths.servers_bin().exists(), reason="make tools builds the servers"),
    pytest.mark.timeout(180),
]
DEFAULT = "/api/v1/namespaces/default"
ADMISSION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
CERTIFICATES = "/apis/cert-manager.io/v1/namespaces/default/certificates"
CRON_JOBS = "/apis/batch/v1/namespaces/default/cronjobs"
PROGRAMS = [{"name": name, "image": "example.org/it:1"} for name in ("first", "it")]
POD = {"restartPolicy": "OnFailure", "initContainers": PROGRAMS[:1], "containers": PROGRAMS[1:]}
JOB = {"template": {"spec": POD}}
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-"}}
ISSUERS = "/apis/cert-manager.io/v1/clusterissuers"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    made.namespace("cert-manager")
    made.crd("cert-manager.io", "v1", "certificates", "Certificate")
    made.crd("cert-manager.io", "v1", "issuers", "Issuer")
    made.crd("cert-manager.io", "v1", "clusterissuers", "ClusterIssuer", scope="Cluster")
    made.put(CRON_JOBS, "CronJob", "backup", spec={"schedule": "* * * * *", "jobTemplate": {"spec": JOB}})
    yield made
    made.close()


def ready(lab: Lab, path: str) -> bool:
    conditions = lab.status(path).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def bundle(lab: Lab, name: str) -> str:
    hooks = lab.call("get", f"{ADMISSION}/{name}")["webhooks"]
    return str(hooks[0]["clientConfig"].get("caBundle") or "")


def pem(text: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(text))


def webhook(lab: Lab, name: str, service: str, namespace: str, **annotations: str) -> None:
    hook = {
        "name": f"{name}.example.org",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "matchConditions": [{"name": "never", "expression": "false"}],
        "clientConfig": {"service": {"name": service, "namespace": namespace, "path": "/"}},
        "rules": [{"apiGroups": ["x.io"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["y"]}],
    }
    given = {key.replace("_", "-"): value for key, value in annotations.items()}
    meta = {"annotations": {f"cert-manager.io/{key}": value for key, value in given.items()}}
    lab.put(ADMISSION, "ValidatingWebhookConfiguration", name, metadata=meta, webhooks=[hook])


def service(lab: Lab, namespace: str, name: str, app: str, **spec: Any) -> str:
    spec = {"selector": {"app": app}, "ports": [{"port": 443}], **spec}
    return lab.put(f"/api/v1/namespaces/{namespace}/services", "Service", name, spec=spec)


def test_a_webhook_has_no_authority_before_its_pod_runs(lab: Lab) -> None:
    webhook(lab, "metallb", "metallb-webhook-service", "default")
    service(lab, "default", "metallb-webhook-service", "metallb-controller")
    lab.put(f"{DEFAULT}/secrets", "Secret", "metallb-webhook-cert")
    settled()
    assert bundle(lab, "metallb") == ""
    lab.workload("Deployment", "metallb-controller", "default")
    ca = pem(wait(lambda: bundle(lab, "metallb")))
    leaf = lab.call("get", f"{DEFAULT}/secrets/metallb-webhook-cert")["data"]["tls.crt"]
    pem(leaf).verify_directly_issued_by(ca)
    assert "metallb-webhook-service.default.svc" in names(pem(leaf))


def test_cert_manager_injects_where_it_is_asked_to(lab: Lab) -> None:
    webhook(
        lab, "cm", "cert-manager-webhook", "cert-manager", inject_ca_from_secret="cert-manager/cert-manager-webhook-ca"
    )
    service(lab, "cert-manager", "cert-manager-webhook", "cert-manager-webhook")
    lab.workload("Deployment", "cert-manager-webhook", "cert-manager")
    settled()
    assert bundle(lab, "cm") == ""
    lab.workload("Deployment", "cert-manager-cainjector", "cert-manager")
    wait(lambda: bundle(lab, "cm"))


def test_a_house_gets_its_own_authority_and_a_certificate(lab: Lab) -> None:
    lab.put(ISSUERS, "ClusterIssuer", "self", spec={"selfSigned": {}})
    lab.put(ISSUERS, "ClusterIssuer", "house", spec={"ca": {"secretName": "house-ca"}})
    root = {
        "isCA": True,
        "commonName": "House CA",
        "secretName": "house-ca",
        "duration": "87600h",
        "privateKey": {"algorithm": "ECDSA", "size": 256},
        "issuerRef": {"name": "self", "kind": "ClusterIssuer"},
    }
    spec = {
        "dnsNames": ["local", "*.local"],
        "ipAddresses": ["192.0.2.1"],
        "secretName": "web-tls",
        "issuerRef": {"name": "house", "kind": "ClusterIssuer"},
    }
    lab.put(CERTIFICATES, "Certificate", "web", spec=spec)
    settled()
    assert not lab.status(f"{CERTIFICATES}/web")
    lab.workload("Deployment", "cert-manager", "cert-manager")
    wait(lambda: ready(lab, f"{ISSUERS}/self"))
    assert not ready(lab, f"{ISSUERS}/house")
    lab.put("/apis/cert-manager.io/v1/namespaces/cert-manager/certificates", "Certificate", "root", spec=root)
    wait(lambda: ready(lab, f"{ISSUERS}/house"))
    wait(lambda: ready(lab, f"{CERTIFICATES}/web"))
    data = lab.call("get", f"{DEFAULT}/secrets/web-tls")["data"]
    pem(data["tls.crt"]).verify_directly_issued_by(pem(data["ca.crt"]))
    assert set(names(pem(data["tls.crt"]))) == {"local", "*.local", "192.0.2.1"}
    assert lab.status(f"{CERTIFICATES}/web")["notAfter"]


def test_a_certificate_is_issued_again_for_other_names_and_for_a_lost_secret(lab: Lab) -> None:
    lab.call("patch", f"{CERTIFICATES}/web", {"spec": {"dnsNames": ["home.example"], "ipAddresses": None}})
    wait(lambda: web_names(lab) == ["home.example"])
    lab.call("delete", f"{DEFAULT}/secrets/web-tls")
    wait(lambda: web_names(lab) == ["home.example"])


def web_names(lab: Lab) -> list[str]:
    secret = lab.get(f"{DEFAULT}/secrets/web-tls")
    return names(pem(secret["data"]["tls.crt"])) if secret else []


def test_an_ingress_shows_the_address_of_traefik(lab: Lab) -> None:
    flag = "--providers.kubernetesingress.ingressendpoint.publishedservice=default/traefik"
    path = service(lab, "default", "traefik", "traefik", type="LoadBalancer", loadBalancerClass="example.org/other")
    classes = "/apis/networking.k8s.io/v1/ingressclasses"
    lab.put(classes, "IngressClass", "traefik", spec={"controller": "traefik.io/ingress-controller"})
    backend = {"service": {"name": "traefik", "port": {"number": 443}}}
    ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses"
    for name in ("traefik", "other"):
        lab.put(ingresses, "Ingress", name, spec={"ingressClassName": name, "defaultBackend": backend})
    lab.call("patch", f"{path}/status", {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}})
    lab.workload("Deployment", "traefik", "default", flag)
    wait(lambda: lab.status(f"{ingresses}/traefik")["loadBalancer"] == {"ingress": [{"ip": "192.0.2.7"}]})
    assert lab.status(f"{ingresses}/other")["loadBalancer"] == {}


def test_a_claim_on_nfs(lab: Lab) -> None:
    parameters = {
        "server": "192.0.2.10",
        "share": "/export",
        "subDir": "${pvc.metadata.namespace}/${pvc.metadata.name}",
    }
    more = {"provisioner": "nfs.csi.k8s.io", "mountOptions": ["nfsvers=4.1"]}
    lab.put("/apis/storage.k8s.io/v1/storageclasses", "StorageClass", "nfs", parameters=parameters, **more)
    size = {"requests": {"storage": "1Gi"}}
    spec = {"accessModes": ["ReadWriteMany"], "storageClassName": "nfs", "resources": size}
    path = lab.put(f"{DEFAULT}/persistentvolumeclaims", "PersistentVolumeClaim", "films", spec=spec)
    settled()
    assert lab.status(path)["phase"] == "Pending"
    lab.workload("Deployment", "csi-nfs-controller", "kube-system")
    wait(lambda: lab.status(path)["phase"] == "Bound")
    volume = lab.items("/api/v1/persistentvolumes")[0]
    assert volume["spec"]["csi"]["volumeAttributes"]["subdir"] == "default/films"
    assert volume["spec"]["mountOptions"] == ["nfsvers=4.1"]
    lab.call("delete", path)
    wait(lambda: not lab.items("/api/v1/persistentvolumes"))


def test_jobs_run_and_end_those_of_a_cron_job_too(lab: Lab) -> None:
    job = lab.put("/apis/batch/v1/namespaces/default/jobs", "Job", "now", spec=JOB)
    wait(lambda: lab.status(job).get("succeeded") == 1)
    wait(lambda: lab.status(f"{CRON_JOBS}/backup").get("lastSuccessfulTime"), 70)


def test_pods_on_the_hosts_network_stand_behind_a_service(lab: Lab) -> None:
    spec = {"hostNetwork": True, "nodeName": "n2", "containers": PROGRAMS[1:]}
    lab.put(f"{DEFAULT}/pods", "Pod", "exporter", metadata={"labels": {"app": "exporter"}}, spec=spec)
    service(lab, "default", "exporter", "exporter")
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    mine = f"{slices}?labelSelector=kubernetes.io/service-name=exporter"
    (point,) = wait(lambda: [point for found in lab.items(mine) for point in found["endpoints"] or []])
    assert point["conditions"]["ready"]


def test_pods_of_a_node_that_was_away_are_ready_again(lab: Lab) -> None:
    """The node controller says Ready False of them, and only the node's kubelet says otherwise."""
    path = lab.put(f"{DEFAULT}/pods", "Pod", "steady", spec={"nodeName": "n2", "containers": PROGRAMS[1:]})
    wait(lambda: ready(lab, path))
    away = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    said = lab.call("patch", f"{path}/status", away, "strategic-merge-patch")
    assert {c["status"] for c in said["status"]["conditions"] if c["type"] == "Ready"} == {"False"}
    wait(lambda: ready(lab, path))
    assert lab.status(path)["podIP"]


def test_metrics_are_served_as_long_as_metrics_server_runs(lab: Lab) -> None:
    """An aggregated API that is away holds up every namespace that is deleted."""
    lab.workload("Deployment", "metrics-server", "kube-system")
    service(lab, "kube-system", "metrics-server", "metrics-server")
    spec = {
        "group": "metrics.k8s.io",
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
        "service": {"name": "metrics-server", "namespace": "kube-system"},
    }
    path = lab.put("/apis/apiregistration.k8s.io/v1/apiservices", "APIService", "v1beta1.metrics.k8s.io", spec=spec)
    wait(lambda: [c["status"] for c in lab.status(path).get("conditions", [])] == ["True"])
    seen = [found["metadata"]["name"] for found in lab.items("/apis/metrics.k8s.io/v1beta1/nodes")]
    assert seen == ["n1", "n2"]
    lab.namespace("going")
    lab.call("delete", "/api/v1/namespaces/going")
    wait(lambda: lab.get("/api/v1/namespaces/going") is None)


def test_a_webhook_that_nobody_plays_is_refused_at_once(lab: Lab) -> None:
    hook = lab.call("get", f"{ADMISSION}/metallb")["webhooks"][0]
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    changed = {**hook, "matchConditions": [], "rules": [rule], "failurePolicy": "Fail"}
    lab.call("patch", f"{ADMISSION}/metallb", {"webhooks": [changed]})

    def refused() -> bool:
        begun = time.monotonic()
        try:
            lab.call("create", f"{DEFAULT}/configmaps", CONFIG)
        except ApiError as error:
            return "failed calling webhook" in str(error) and time.monotonic() - begun < 5
        return False

    wait(refused)
    lab.call("delete", f"{ADMISSION}/metallb")


def test_prometheus_becomes_a_stateful_set_with_its_claim(lab: Lab) -> None:
    lab.crd("monitoring.coreos.com", "v1", "prometheuses", "Prometheus")
    lab.crd("monitoring.coreos.com", "v1", "alertmanagers", "Alertmanager")
    claim = {"accessModes": ["ReadWriteMany"], "storageClassName": "nfs", "resources": {"requests": {"storage": "1Gi"}}}
    spec = {"replicas": 1, "storage": {"volumeClaimTemplate": {"spec": claim}}}
    path = "/apis/monitoring.coreos.com/v1/namespaces/default/prometheuses"
    lab.put(path, "Prometheus", "house", spec=spec)
    lab.put(path.replace("prometheuses", "alertmanagers"), "Alertmanager", "house", spec={})
    lab.workload(
        "Deployment", "kps-operator", "default", image="quay.io/prometheus-operator/prometheus-operator:v0.93.1"
    )
    wait(lambda: lab.status(f"{path}/house").get("availableReplicas") == 1)
    claims = [found["metadata"]["name"] for found in lab.items(f"{DEFAULT}/persistentvolumeclaims")]
    assert claims == ["prometheus-house-db-prometheus-house-0"]
    sets = "/apis/apps/v1/namespaces/default/statefulsets"
    wait(lambda: lab.status(f"{sets}/alertmanager-house").get("readyReplicas") == 1)
    lab.call("delete", f"{path}/house")
    wait(lambda: lab.get(f"{sets}/prometheus-house") is None)


def test_players_at_rest_cost_nothing(lab: Lab) -> None:
    lab.call("patch", f"{CRON_JOBS}/backup", {"spec": {"suspend": True}})
    settled(2)
    begun = time.process_time()
    settled(3)
    assert time.process_time() - begun < 0.3  # relays, kubelets' leases and etcd's watchers of the twin are in it
