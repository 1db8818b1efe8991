"""The secrets bundle, its way through machine configs and files, and the certificates made of it."""

import base64
import datetime as dt
import re
import shutil
import subprocess
from datetime import timedelta

import pytest
import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import UserError
from providers.talos import pki
from providers.talos.config import render
from providers.talos.secrets import SecretsBundle, days_left, kubeconfig, read_talosconfig, talosconfig
from tools import paths

NOON = dt.datetime(2030, 1, 1, 12, tzinfo=dt.UTC)


def test_through_the_layout_of_talosctl(bundle):
    assert SecretsBundle.from_dict(bundle.to_dict()) == bundle
    assert SecretsBundle.from_dict(yaml.safe_load(yaml.safe_dump(bundle.to_dict()))) == bundle
    assert set(bundle.to_dict()) == {"cluster", "secrets", "trustdinfo", "certs"}
    assert set(bundle.to_dict()["certs"]) == {"etcd", "k8s", "k8saggregator", "k8sserviceaccount", "os"}


def test_read_back_from_a_control_planes_machine_config(bundle, node_config):
    assert SecretsBundle.from_machine_config(render(node_config, bundle)) == bundle


def test_a_workers_machine_config_is_not_enough(bundle, node_config):
    import dataclasses

    config = render(dataclasses.replace(node_config, role="worker"), bundle)
    with pytest.raises(UserError, match="control plane"):
        SecretsBundle.from_machine_config(config)


def test_everything_that_is_missing_is_named(bundle):
    data = bundle.to_dict()
    del data["certs"]["etcd"]
    data["cluster"]["id"] = ""
    data["certs"]["os"]["key"] = "not base64!"
    with pytest.raises(UserError) as caught:
        SecretsBundle.from_dict(data)
    for path in ("cluster.id is missing", "certs.etcd.crt is missing", "certs.etcd.key", "certs.os.key is not base64"):
        assert path in str(caught.value)
    assert "not base64!" not in str(caught.value)


def test_nothing_secret_in_the_printed_form(bundle):
    shown = repr(bundle) + repr(bundle.issue_client())
    for secret in (
        bundle.bootstrap_token,
        bundle.trustd_token,
        bundle.cluster_secret,
        bundle.secretbox_secret,
        "PRIVATE",
    ):
        assert secret not in shown


def test_two_bundles_share_nothing(bundle):
    other = SecretsBundle.generate()
    assert not set(flat(bundle.to_dict())) & set(flat(other.to_dict()))


def flat(value):
    return [leaf for item in value.values() for leaf in flat(item)] if isinstance(value, dict) else [value]


def test_shapes(bundle):
    token = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
    assert token.fullmatch(bundle.bootstrap_token)
    assert token.fullmatch(bundle.trustd_token)
    assert len(base64.urlsafe_b64decode(bundle.cluster_id)) == 32
    assert len(base64.b64decode(bundle.cluster_secret)) == 32
    assert bundle.service_account_key.startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert bundle.os.key.startswith("-----BEGIN ED25519 PRIVATE KEY-----")
    for pair in (bundle.etcd, bundle.kubernetes, bundle.aggregator):
        assert pair.key.startswith("-----BEGIN EC PRIVATE KEY-----")


@pytest.mark.parametrize(
    ("name", "organization", "kind"),
    [
        ("os", ["talos"], ed25519.Ed25519PublicKey),
        ("kubernetes", ["kubernetes"], ec.EllipticCurvePublicKey),
        ("etcd", ["etcd"], ec.EllipticCurvePublicKey),
        ("aggregator", [], ec.EllipticCurvePublicKey),
    ],
)
def test_authorities(bundle, name, organization, kind):
    certificate = pki.load_certificate(getattr(bundle, name).crt)
    assert isinstance(certificate.public_key(), kind)
    assert [item.value for item in certificate.subject] == organization
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert 3649 < days_left(getattr(bundle, name).crt) <= 3650
    certificate.verify_directly_issued_by(certificate)


def test_an_admins_certificate(bundle):
    cert = bundle.issue_client(clock=lambda: NOON)
    leaf = pki.load_certificate(cert.crt)
    assert [(item.oid, item.value) for item in leaf.subject] == [(NameOID.ORGANIZATION_NAME, "os:admin")]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert leaf.not_valid_after_utc == NOON + timedelta(days=365)
    leaf.verify_directly_issued_by(pki.load_certificate(bundle.os.crt))
    assert cert.key.startswith("-----BEGIN ED25519 PRIVATE KEY-----")


def test_a_readers_certificate(bundle):
    leaf = pki.load_certificate(bundle.issue_client(["os:reader"], timedelta(hours=1)).crt)
    assert [item.value for item in leaf.subject] == ["os:reader"]


def test_a_certificate_of_another_ca_does_not_verify(bundle, other_ca):
    leaf = pki.load_certificate(bundle.issue_client().crt)
    with pytest.raises(InvalidSignature):
        leaf.verify_directly_issued_by(pki.load_certificate(other_ca.crt))


@given(st.integers(min_value=1, max_value=400_000))
def test_days_left(hours):
    authority = pki.new_authority("talos", "ed25519", lambda: NOON)
    cert = pki.new_client(authority, ["os:admin"], lifetime=timedelta(hours=hours), clock=lambda: NOON)
    assert days_left(cert.crt, lambda: NOON) == pytest.approx(hours / 24)
    assert days_left(cert.crt, lambda: NOON + timedelta(hours=hours + 24)) == pytest.approx(-1)


def test_a_talosconfig_reads_back(bundle):
    cert = bundle.issue_client()
    text = talosconfig("home", cert, ["10.0.0.1", "10.0.0.2"], ["10.0.0.3"])
    assert read_talosconfig(text) == cert
    assert read_talosconfig(text, "home") == cert
    assert yaml.safe_load(text)["contexts"]["home"]["endpoints"] == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize("text", ["", "context: x", "contexts: {}", "[]", "context: a\ncontexts: {a: {ca: '!'}}"])
def test_what_is_not_a_talosconfig(text):
    with pytest.raises(UserError):
        read_talosconfig(text)


def test_a_kubeconfig(bundle):
    config = yaml.safe_load(kubeconfig("home", "https://10.0.0.9:6443", bundle.issue_kubernetes_admin()))
    assert config["clusters"][0]["cluster"]["server"] == "https://10.0.0.9:6443"
    user = config["users"][0]["user"]
    leaf = pki.load_certificate(base64.b64decode(user["client-certificate-data"]).decode())
    assert [item.value for item in leaf.subject] == ["system:masters", "admin"]
    leaf.verify_directly_issued_by(pki.load_certificate(bundle.kubernetes.crt))
    assert config["current-context"] == config["contexts"][0]["name"] == "admin@home"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_openssl_agrees(bundle, tmp_path):
    (tmp_path / "ca.crt").write_text(bundle.os.crt)
    (tmp_path / "admin.crt").write_text(bundle.issue_client().crt)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "ca.crt", "admin.crt"]
    seen = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (seen.returncode, seen.stdout) == (0, "admin.crt: OK\n"), seen.stderr


@pytest.mark.parametrize("pem", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_not_a_certificate_or_key(pem):
    with pytest.raises(UserError):
        days_left(pem)
    with pytest.raises(UserError):
        pki.load_key(pem)


def talosctl(folder, *words):
    command = [str(paths.talosctl()), *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60)


def test_a_bundle_that_talosctl_made(tmp_path):
    talosctl(tmp_path, "gen", "secrets", "--output-file", "secrets.yaml")
    data = yaml.safe_load((tmp_path / "secrets.yaml").read_text())
    found = SecretsBundle.from_dict(data)
    assert found.to_dict() == data
    leaf = pki.load_certificate(found.issue_client().crt)
    leaf.verify_directly_issued_by(pki.load_certificate(found.os.crt))


def test_talosctl_takes_our_bundle(bundle, tmp_path):
    (tmp_path / "secrets.yaml").write_text(yaml.safe_dump(bundle.to_dict()))
    talosctl(tmp_path, "gen", "config", "home", "https://10.0.0.9:6443", "--with-secrets", "secrets.yaml")
    assert SecretsBundle.from_machine_config((tmp_path / "controlplane.yaml").read_text()) == bundle
