"""Machine configs with a PKI of their own for tests of the twin, in the layout of `talosctl gen config`."""

import base64
import secrets
import string
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from twin.talos.pki import Pair, issue

_PEM = serialization.Encoding.PEM
_NONE = serialization.NoEncryption()


def authority(organization: str, *, ed: bool = False) -> Pair:
    """A new authority as Talos makes them: of ten years, Ed25519 or ECDSA."""
    key = ed25519.Ed25519PrivateKey.generate() if ed else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else [])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, True, False, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, None if ed else hashes.SHA256())
    )
    pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, _NONE)
    if ed:
        pem = pem.replace(b"PRIVATE KEY", b"ED25519 PRIVATE KEY")
    return Pair(certificate.public_bytes(_PEM), pem)


def _token() -> str:
    letters = string.ascii_lowercase + string.digits
    return (
        "".join(secrets.choice(letters) for _ in range(6)) + "." + "".join(secrets.choice(letters) for _ in range(16))
    )


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _account_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(_PEM, serialization.PrivateFormat.TraditionalOpenSSL, _NONE)


@dataclass(frozen=True)
class Cluster:
    """The secrets of one cluster."""

    vip: str
    os: Pair = field(default_factory=lambda: authority("talos", ed=True))
    kubernetes: Pair = field(default_factory=lambda: authority("kubernetes"))
    etcd: Pair = field(default_factory=lambda: authority("etcd"))
    aggregator: Pair = field(default_factory=lambda: authority(""))
    account: bytes = field(default_factory=_account_key)
    token: str = field(default_factory=_token)
    machine_token: str = field(default_factory=_token)
    identity: str = field(default_factory=lambda: _b64(secrets.token_bytes(32)))
    secret: str = field(default_factory=lambda: _b64(secrets.token_bytes(32)))
    secretbox: str = field(default_factory=lambda: _b64(secrets.token_bytes(32)))

    def admin(self, *roles: str) -> Pair:
        """A client certificate for the Talos API."""
        return issue(self.os, "", roles or ("os:admin",), client=True)

    def config(self, kind: str, hostname: str, **machine: Any) -> dict[str, Any]:
        """The v1alpha1 document of a node."""
        leading = kind == "controlplane"
        return {
            "version": "v1alpha1",
            "persist": True,
            "machine": {
                "type": kind,
                "token": self.machine_token,
                "ca": _pair(self.os, leading),
                "kubelet": {"image": "ghcr.io/siderolabs/kubelet:v1.36.1"},
                "network": {"hostname": hostname, **({"interfaces": [self._interface()]} if leading else {})},
                "install": {"disk": "/dev/mmcblk0", "image": "factory.talos.dev/metal-installer/x:v1.13.9"},
                "features": {"kubePrism": {"enabled": True, "port": 7445}},
                **machine,
            },
            "cluster": self._cluster(leading),
        }

    def yaml(self, kind: str, hostname: str, **machine: Any) -> bytes:
        """The same as text."""
        return yaml.safe_dump(self.config(kind, hostname, **machine)).encode()

    def _interface(self) -> dict[str, Any]:
        return {"deviceSelector": {"physical": True}, "dhcp": True, "vip": {"ip": self.vip}}

    def _cluster(self, leading: bool) -> dict[str, Any]:
        common = {
            "id": self.identity,
            "secret": self.secret,
            "clusterName": "test",
            "controlPlane": {"endpoint": f"https://{self.vip}:6443"},
            "token": self.token,
            "ca": _pair(self.kubernetes, leading),
            "network": {"podSubnets": ["10.244.0.0/16"], "serviceSubnets": ["10.96.0.0/12"]},
        }
        if not leading:
            return common
        return {
            **common,
            "secretboxEncryptionSecret": self.secretbox,
            "aggregatorCA": _pair(self.aggregator, True),
            "serviceAccount": {"key": _b64(self.account)},
            "apiServer": {"certSANs": [self.vip]},
            "etcd": {"ca": _pair(self.etcd, True)},
            "allowSchedulingOnControlPlanes": True,
        }


def _pair(pair: Pair, key: bool) -> dict[str, str]:
    return {"crt": _b64(pair.crt), **({"key": _b64(pair.key)} if key else {})}
