"""When certificates end, by the real kubeadm; and when they are renewed."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from providers.errors import ProtocolError
from providers.kubeadm import certificates
from tests.providers.kubeadm.played import World


def test_what_the_real_kubeadm_says_of_its_certificates(kubeadm: Path, tmp_path: Path):
    config, pki = tmp_path / "c.yaml", tmp_path / "pki"
    wish = {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration", "certificatesDir": str(pki)}
    config.write_text(yaml.safe_dump({**wish, "kubernetesVersion": "v1.36.1"}))
    subprocess.run([kubeadm, "init", "phase", "certs", "all", "--config", config], check=True, capture_output=True)
    said = subprocess.run(
        [kubeadm, "certs", "check-expiration", "-o", "json", "--config", config],
        check=True,
        capture_output=True,
        text=True,
    )
    found = certificates.parsed(said.stdout)
    assert {"apiserver", "etcd-server", "front-proxy-client"} <= set(found)
    assert "ca" not in found
    assert "super-admin.conf" not in found, "it is missing on all hosts but one, which is no fault"
    left = datetime.fromisoformat(certificates.first_end(found)).replace(tzinfo=UTC) - datetime.now(UTC)
    assert 362 <= left.days <= 366


@pytest.mark.parametrize(
    ("day", "due"),
    [("2026-11-22", True), ("2027-01-19", True), ("2027-02-19", False), ("2026-01-01", True), ("", False)],
)
def test_they_are_renewed_before_they_end(day: str, due: bool):
    assert certificates.is_due(day, datetime(2026, 11, 21, tzinfo=UTC)) is due


def test_renewing_starts_what_uses_them_again():
    world = World()
    world.add("cp1")
    host = world.hosts["cp1"]
    certificates.renew(host)
    assert host.log[0] == "kubeadm certs renew all"
    assert host.log[-1].endswith("stop aa bb")


def test_other_words_are_an_error():
    with pytest.raises(ProtocolError, match="no list of certificates"):
        certificates.parsed("CERTIFICATE EXPIRES")
    assert certificates.first_end({}) == ""
