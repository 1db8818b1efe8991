"""kubeadm's documents: what they say, and that the real kubeadm takes every one of them."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.errors import UserError
from providers.kubeadm import config, kubevip
from providers.kubeadm.wish import Cluster, Node, minor

CLUSTER = Cluster("garage", "v1.36.1", "garage.home.arpa", 8443, "10.0.0.5")
FIRST = Node("cp1", "192.168.1.11", "controlplane", "10.0.0.11", {"rack": "left"})
WORKER = Node("w1", "192.168.1.21", "worker", "10.0.0.21", {}, {"disk": "slow:NoSchedule", "gpu": ":NoExecute"})
TICKET = config.Ticket("abcdef.0123456789abcdef", "sha256:" + "ab" * 32, "cd" * 32)


def documents(text: str) -> dict[str, Any]:
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def arguments(registration: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in registration["kubeletExtraArgs"]}


RENDERED = {
    "init": config.init(CLUSTER, FIRST, config.sans(CLUSTER, [FIRST])),
    "init-tainted-without-kube-proxy": config.init(replace(CLUSTER, taint=True, kube_proxy=False), FIRST, ["10.0.0.5"]),
    "upload": config.init(CLUSTER, FIRST, ["10.0.0.5"], "cd" * 32),
    "join-control-plane": config.join(CLUSTER, FIRST, TICKET),
    "join-worker": config.join(CLUSTER, WORKER, TICKET),
}


@pytest.mark.parametrize("name", RENDERED)
def test_the_real_kubeadm_takes_it(kubeadm: Path, tmp_path: Path, name: str):
    file = tmp_path / "config.yaml"
    file.write_text(RENDERED[name])
    done = subprocess.run([kubeadm, "config", "validate", "--config", file], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr


def test_the_real_kubeadm_would_refuse_a_key_that_does_not_exist(kubeadm: Path, tmp_path: Path):
    file = tmp_path / "config.yaml"
    file.write_text(RENDERED["init"].replace("clusterName", "clusterTitle"))
    done = subprocess.run([kubeadm, "config", "validate", "--config", file], capture_output=True, text=True)
    assert done.returncode != 0


def test_the_certificates_that_kubeadm_makes_hold_every_name(kubeadm: Path, tmp_path: Path):
    from cryptography import x509

    file, pki = tmp_path / "config.yaml", tmp_path / "pki"
    text = config.init(CLUSTER, FIRST, config.sans(CLUSTER, [FIRST, replace(FIRST, name="cp2", node_ip="10.0.0.12")]))
    parts = list(yaml.safe_load_all(text))
    parts[1]["certificatesDir"] = str(pki)
    file.write_text(yaml.safe_dump_all(parts))
    subprocess.run([kubeadm, "init", "phase", "certs", "all", "--config", file], check=True, capture_output=True)
    certificate = x509.load_pem_x509_certificate((pki / "apiserver.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"garage.home.arpa", "cp1", "cp2"} <= set(names.get_values_for_type(x509.DNSName))
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert {"10.0.0.5", "10.0.0.11", "10.0.0.12", "192.168.1.11"} <= addresses


def test_a_cluster_in_a_segment_of_its_own_speaks_there():
    init, join = documents(RENDERED["init"]), documents(RENDERED["join-control-plane"])
    assert init["InitConfiguration"]["localAPIEndpoint"] == {"advertiseAddress": "10.0.0.11", "bindPort": 6443}
    assert arguments(init["InitConfiguration"]["nodeRegistration"])["node-ip"] == "10.0.0.11"
    assert join["JoinConfiguration"]["controlPlane"]["localAPIEndpoint"]["advertiseAddress"] == "10.0.0.11"
    assert arguments(documents(RENDERED["join-worker"])["JoinConfiguration"]["nodeRegistration"]) == {
        "node-ip": "10.0.0.21"
    }


def test_everybody_joins_through_the_endpoint_and_checks_the_ca():
    shown = documents(RENDERED["join-worker"])["JoinConfiguration"]["discovery"]["bootstrapToken"]
    assert shown["apiServerEndpoint"] == "garage.home.arpa:8443"
    assert shown["caCertHashes"] == [TICKET.ca_hash]
    assert "unsafeSkipCAVerification" not in shown


def test_the_taint_is_on_or_off_and_never_kubeadms_own_choice():
    untainted = documents(RENDERED["init"])["InitConfiguration"]["nodeRegistration"]
    tainted = documents(RENDERED["init-tainted-without-kube-proxy"])["InitConfiguration"]["nodeRegistration"]
    assert untainted["taints"] == []
    assert tainted["taints"] == [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]


def test_labels_and_taints_of_the_settings():
    worker = documents(RENDERED["join-worker"])["JoinConfiguration"]["nodeRegistration"]
    assert worker["taints"] == [
        {"key": "disk", "effect": "NoSchedule", "value": "slow"},
        {"key": "gpu", "effect": "NoExecute"},
    ]
    first = documents(RENDERED["init"])["InitConfiguration"]["nodeRegistration"]
    assert arguments(first)["node-labels"] == "rack=left"


def test_a_worker_gets_no_key_to_the_certificates():
    assert "certificateKey" not in RENDERED["join-worker"]
    assert TICKET.certificate_key in RENDERED["join-control-plane"]


def test_without_kube_proxy_kubeadm_installs_none():
    cluster = documents(RENDERED["init-tainted-without-kube-proxy"])["ClusterConfiguration"]
    assert cluster["proxy"] == {"disabled": True}
    assert "proxy" not in documents(RENDERED["init"])["ClusterConfiguration"]


def test_no_token_of_a_day_is_made_at_init():
    (made,) = documents(RENDERED["init"])["InitConfiguration"]["bootstrapTokens"]
    assert made == {"ttl": "2h0m0s", "description": config.DESCRIPTION}


def test_a_tickets_secrets_are_not_in_its_repr():
    assert TICKET.token not in repr(TICKET)
    assert TICKET.certificate_key not in repr(TICKET)


def test_kube_vip_leaves_services_to_the_platform():
    pod = yaml.safe_load(kubevip.manifest(replace(CLUSTER, kube_vip="kube-vip:v1"), "eth0"))
    container = pod["spec"]["containers"][0]
    values = {item["name"]: item.get("value") for item in container["env"]}
    assert (values["address"], values["vip_interface"], values["svc_enable"]) == ("10.0.0.5", "eth0", "false")
    assert container["securityContext"]["capabilities"] == {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}


def test_a_version_names_its_repository():
    assert minor("v1.36.1") == "v1.36"
    with pytest.raises(UserError, match="write all of it"):
        minor("1.36")
