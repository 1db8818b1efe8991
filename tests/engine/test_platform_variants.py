"""Platforms that are not the shipped one: other certificates, other storage, other sizes of lab, an owner's values."""

from __future__ import annotations

import base64
import datetime as dt
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from providers.deadline import Deadline
from providers.kubernetes.client import Kube
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]

UP_S = 600.0
ANSWER_S = 60.0  # a busy machine's API server may be away for a moment
WEB = {"image": "nginxinc/nginx-unprivileged:1.29.1", "port": 8080}
DOMAIN = "home.example"


class Objects:
    """What is in a lab's cluster."""

    def __init__(self, lab: Sandbox) -> None:
        self._kubeconfig = (lab.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8")

    def at(self, path: str) -> dict[str, Any]:
        """An object or a list; empty where there is none."""
        with Kube(self._kubeconfig) as kube:
            return kube.patiently(lambda: dict(kube.look(path) or {}), path, Deadline(ANSWER_S))

    def names(self, path: str) -> set[str]:
        """The names of a list."""
        return {item["metadata"]["name"] for item in self.at(path)["items"]}

    @property
    def classes(self) -> set[str]:
        """The StorageClasses."""
        return self.names("/apis/storage.k8s.io/v1/storageclasses")

    @property
    def claims(self) -> dict[str, tuple[str, str]]:
        """Claim -> its StorageClass and phase."""
        items = self.at("/api/v1/persistentvolumeclaims")["items"]
        return {
            f"{item['metadata']['namespace']}/{item['metadata']['name']}": (
                item["spec"]["storageClassName"],
                item["status"]["phase"],
            )
            for item in items
        }


def settings(lab: Sandbox, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a lab's settings."""
    found = yaml.safe_load((lab.folder / lab.settings).read_text(encoding="utf-8"))
    change(found["config"])
    lab.write(lab.settings, yaml.safe_dump(found))


def platform(lab: Sandbox, **parts: Any) -> None:
    """Give a lab a platform with MetalLB; its DNS has a fixed address, as it must."""
    chosen = {
        "charts": {"mirror": f"http://{lab.prefix}.2:8080/charts"},
        "pools": [f"{lab.prefix}.200-{lab.prefix}.250"],
        "addresses": {"dns": f"{lab.prefix}.240"} if "dns" in parts else {},
        "metallb": {},
        **parts,
    }
    settings(lab, lambda config: config.update({"homelab:platform": chosen}))


@contextmanager
def converged(lab: Sandbox) -> Iterator[Objects]:
    """A lab after its first `up`, which a second one would not change; it is ended in the end."""
    try:
        lab.run("up", "--yes", limit_s=UP_S).ok()
        lab.preview_unchanged().ok()
        yield Objects(lab)
    finally:
        lab.end()


def own_certificate() -> tuple[str, str]:
    """A certificate for every host of the domain, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DOMAIN)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"*.{DOMAIN}")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), private.decode()


def store(lab: Sandbox, path: str, secret: str) -> None:
    """`homelab secret`, as an owner would."""
    done = subprocess.run(
        lab.command("secret", path),
        cwd=lab.folder, env=lab.environment(), input=secret, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Objects, str, str]]:
    """Traefik with a certificate of the owner's, and with values of the owner's; with the certificate and its key."""
    lab = Sandbox(tmp_path_factory.mktemp("owned")).prepare()
    certificate, key = own_certificate()
    traefik = {
        "certificate": {"own": {"certificate": certificate}},
        "values": {"deployment": {"replicas": 2}, "log": {"level": "DEBUG"}},
    }
    platform(lab, domain=DOMAIN, traefik=traefik)
    store(lab, "platform.traefik.certificate.own.key", key)
    with converged(lab) as objects:
        yield lab, objects, certificate, key


def test_the_owners_own_certificate_is_traefiks(owned: tuple[Sandbox, Objects, str, str]) -> None:
    lab, objects, certificate, key = owned
    data = objects.at("/api/v1/namespaces/traefik/secrets/traefik-tls")["data"]
    assert base64.b64decode(data["tls.crt"]).decode().strip() == certificate.strip()
    assert base64.b64decode(data["tls.key"]).decode().strip() == key.strip()
    (tls,) = objects.at("/apis/traefik.io/v1alpha1/namespaces/traefik/tlsstores")["items"]
    assert tls["spec"]["defaultCertificate"]["secretName"] == "traefik-tls"
    lines = [line for line in key.splitlines() if len(line) > 32]
    for text in ((lab.folder / lab.settings).read_text(), lab.pulumi("stack", "export"), lab.said()):
        assert not any(line in text for line in lines)


def test_values_of_the_owners_reach_the_chart(owned: tuple[Sandbox, Objects, str, str]) -> None:
    _, objects, _, _ = owned
    deployment = objects.at("/apis/apps/v1/namespaces/traefik/deployments/traefik")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["status"]["readyReplicas"] == 2


def test_values_that_the_chart_does_not_have_are_refused(owned: tuple[Sandbox, Objects, str, str]) -> None:
    lab, _, _, _ = owned
    lab.edit(lab.settings, "replicas: 2", "replica: 2")
    done = lab.run("preview")
    lab.edit(lab.settings, "replica: 2", "replicas: 2")
    assert done.code != 0
    assert "replica" in done.output


def test_a_version_of_the_owners_reaches_the_chart(owned: tuple[Sandbox, Objects, str, str]) -> None:
    lab, _, _, _ = owned
    settings(lab, lambda config: config["homelab:platform"]["metallb"].update(version="0.0.7"))
    done = lab.run("preview")
    settings(lab, lambda config: config["homelab:platform"]["metallb"].clear())
    assert done.code != 0
    assert "0.0.7" in done.output


def test_without_longhorn_and_with_an_nfs_server_in_the_cluster(tmp_path: Path) -> None:
    lab = Sandbox(tmp_path / "lab").prepare()
    nfs = {"node": "node4", "path": "/var/mnt/nfs", "default_class": True}
    shared = {"image": WEB["image"], "port": 8080, "volume": {"path": "/data", "storage_class": "nfs"}}
    platform(lab, nfs=nfs, dns={}, etcd_backup={}, applications={"web": shared})
    with converged(lab) as objects:
        server = objects.at("/apis/apps/v1/namespaces/kube-system/deployments/nfs-server")
        assert server["spec"]["template"]["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "node4"}
        pods = objects.at("/api/v1/namespaces/kube-system/pods?labelSelector=app.kubernetes.io%2Fname%3Dnfs-server")
        assert [(pod["spec"]["nodeName"], pod["status"]["phase"]) for pod in pods["items"]] == [("node4", "Running")]
        assert objects.classes == {"nfs"}
        found = objects.at("/apis/storage.k8s.io/v1/storageclasses/nfs")
        assert found["parameters"]["server"] == f"{lab.prefix}.14"
        assert set(objects.claims) >= {"web/data", "dns/adguard"}
        assert set(objects.claims.values()) == {("nfs", "Bound")}


def test_without_nfs(tmp_path: Path) -> None:
    """What would be on NFS is on Longhorn then."""
    lab = Sandbox(tmp_path / "lab").prepare()
    web = {"image": WEB["image"], "port": 8080, "volume": {"path": "/data"}}
    platform(lab, longhorn={}, dns={}, applications={"web": web})
    with converged(lab) as objects:
        assert objects.classes >= {"longhorn"}
        assert "nfs" not in objects.classes
        assert set(objects.claims) == {"web/data", "dns/adguard"}
        assert set(objects.claims.values()) == {("longhorn", "Bound")}


def test_one_node(tmp_path: Path) -> None:
    """One control plane that does everything; a volume has the one replica that there is room for."""
    lab = Sandbox(tmp_path / "lab").prepare()
    settings(lab, lambda config: [config["homelab:nodes"].pop(f"node{number}") for number in (2, 3, 4)])
    web = {"image": WEB["image"], "port": 8080, "volume": {"path": "/data"}}
    services: dict[str, Any] = {"metrics_server": {}, "cert_manager": {}, "traefik": {}, "longhorn": {}}
    platform(lab, **services, addresses={"traefik": f"{lab.prefix}.234"}, applications={"web": web})
    with converged(lab) as objects:
        assert objects.names("/api/v1/nodes") == {"node1"}
        assert objects.claims["web/data"] == ("longhorn", "Bound")
        replicas = objects.at("/apis/longhorn.io/v1beta2/namespaces/longhorn-system/replicas")["items"]
        assert len(replicas) == 1
        service = objects.at("/api/v1/namespaces/traefik/services/traefik")
        assert [point["ip"] for point in service["status"]["loadBalancer"]["ingress"]] == [f"{lab.prefix}.234"]


def test_sixteen_nodes(tmp_path: Path) -> None:
    lab = Sandbox(tmp_path / "lab", stack="sixteen", lab="sixteen").prepare()
    web = {"image": WEB["image"], "port": 8080, "volume": {"path": "/data"}}
    platform(lab, cert_manager={}, traefik={}, longhorn={}, applications={"web": web})
    with converged(lab) as objects:
        assert len(objects.names("/api/v1/nodes")) == 16
        assert len(objects.names("/apis/longhorn.io/v1beta2/namespaces/longhorn-system/nodes")) == 16
        assert objects.claims["web/data"] == ("longhorn", "Bound")
        replicas = objects.at("/apis/longhorn.io/v1beta2/namespaces/longhorn-system/replicas")["items"]
        assert len({replica["spec"]["nodeID"] for replica in replicas}) == 3
        (point,) = objects.at("/api/v1/namespaces/traefik/services/traefik")["status"]["loadBalancer"]["ingress"]
        assert point["ip"].startswith(f"{lab.prefix}.2")
