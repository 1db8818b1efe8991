"""The secrets of one cluster: made once, kept, and enough to get back into every node of it.

The layout is that of `talosctl gen secrets`; `talosctl gen config --with-secrets` takes what `to_dict` gives.
"""

from __future__ import annotations

import base64
import binascii
import secrets as random
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from providers.errors import UserError
from providers.talos import documents
from providers.talos.pki import (
    CLIENT_LIFETIME,
    CertAndKey,
    ClientCert,
    Clock,
    days_left,
    new_authority,
    new_client,
    new_service_account_key,
    now,
)

__all__ = ["ClientCert", "SecretsBundle", "days_left", "kubeconfig", "read_talosconfig", "talosconfig"]

_LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True)
class SecretsBundle:
    """All secrets of one cluster. Keys and certificates are PEM; the rest is as it stands in a machine config."""

    cluster_id: str
    cluster_secret: str = field(repr=False)
    bootstrap_token: str = field(repr=False)
    secretbox_secret: str = field(repr=False)
    trustd_token: str = field(repr=False)
    etcd: CertAndKey
    kubernetes: CertAndKey
    aggregator: CertAndKey
    service_account_key: str = field(repr=False)
    os: CertAndKey

    @classmethod
    def generate(cls, clock: Clock = now) -> SecretsBundle:
        """A new cluster's secrets; `clock` gives the start of the CAs' ten years."""
        return cls(
            cluster_id=base64.urlsafe_b64encode(random.token_bytes(32)).decode(),
            cluster_secret=base64.b64encode(random.token_bytes(32)).decode(),
            bootstrap_token=new_token(),
            secretbox_secret=base64.b64encode(random.token_bytes(32)).decode(),
            trustd_token=new_token(),
            etcd=new_authority("etcd", "ecdsa", clock),
            kubernetes=new_authority("kubernetes", "ecdsa", clock),
            aggregator=new_authority("", "ecdsa", clock),
            service_account_key=new_service_account_key(),
            os=new_authority("talos", "ed25519", clock),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SecretsBundle:
        """The bundle from what `talosctl gen secrets` writes.

        Raises:
            UserError: something is missing or not base64; all of it is named.
        """
        return _Reader(data, "secrets bundle").bundle(_BUNDLE_PATHS)

    @classmethod
    def from_machine_config(cls, text: str) -> SecretsBundle:
        """The bundle from a control plane's machine config: the way back when the stack's state is lost.

        Raises:
            UserError: it is a worker's config, or something is missing; all of it is named.
        """
        config = documents.main(documents.load(text))
        if config.get("machine", {}).get("type") not in ("controlplane", "init"):
            raise UserError("machine config: a worker's holds no cluster secrets; read a control plane's")
        return _Reader(config, "machine config").bundle(_CONFIG_PATHS)

    def to_dict(self) -> dict[str, Any]:
        """The bundle in the layout of `talosctl gen secrets`, which has no place for accepted authorities."""
        return {
            "cluster": {"id": self.cluster_id, "secret": self.cluster_secret},
            "secrets": {
                "bootstraptoken": self.bootstrap_token,
                "secretboxencryptionsecret": self.secretbox_secret,
            },
            "trustdinfo": {"token": self.trustd_token},
            "certs": {
                "etcd": encoded(self.etcd),
                "k8s": encoded(self.kubernetes),
                "k8saggregator": encoded(self.aggregator),
                "k8sserviceaccount": {"key": b64(self.service_account_key)},
                "os": encoded(self.os),
            },
        }

    def issue_client(
        self, roles: Sequence[str] = ("os:admin",), ttl: timedelta = CLIENT_LIFETIME, clock: Clock = now
    ) -> ClientCert:
        """A certificate for the Talos API with these roles (`os:admin`, `os:operator`, `os:reader`, ...)."""
        return new_client(self.os, roles, lifetime=ttl, clock=clock)

    def issue_kubernetes_admin(self, ttl: timedelta = CLIENT_LIFETIME, clock: Clock = now) -> ClientCert:
        """A certificate for the Kubernetes API: user `admin`, group `system:masters`."""
        return new_client(self.kubernetes, ["system:masters"], "admin", ttl, clock)


def talosconfig(name: str, cert: ClientCert, endpoints: Iterable[str], nodes: Iterable[str] = ()) -> str:
    """The file that talosctl reads.

    Args:
        name: the context's name; the cluster's.
        cert: an admin certificate.
        endpoints: the control planes' own addresses, never the VIP (it goes down with etcd).
        nodes: whom commands without `--nodes` address.
    """
    context = {
        "endpoints": list(endpoints),
        "nodes": list(nodes),
        "ca": b64(cert.ca),
        "crt": b64(cert.crt),
        "key": b64(cert.key),
    }
    return documents.dump([{"context": name, "contexts": {name: context}}])


def read_talosconfig(text: str, context: str | None = None) -> ClientCert:
    """The credentials in a talosconfig.

    Args:
        text: the file.
        context: which one; by default the one that the file names as current.

    Raises:
        UserError: it is not a talosconfig, or has no such context.
    """
    found = documents.load(text)
    config = found[0] if found else {}
    name = context or config.get("context", "")
    entry = (config.get("contexts") or {}).get(name)
    if not isinstance(entry, dict):
        raise UserError(f"talosconfig: no context {name!r}")
    reader = _Reader(entry, "talosconfig")
    cert = ClientCert(reader.pem("ca"), reader.pem("crt"), reader.pem("key"))
    reader.finish()
    return cert


def kubeconfig(name: str, server: str, cert: ClientCert, who: str = "admin") -> str:
    """The file that kubectl reads.

    Args:
        name: the cluster's name.
        server: the API's URL, `https://VIP:6443`.
        cert: what `SecretsBundle.issue_kubernetes_admin` gives.
        who: whose certificate it is.
    """
    user = f"{who}@{name}"
    cluster = {"server": server, "certificate-authority-data": b64(cert.ca)}
    credentials = {"client-certificate-data": b64(cert.crt), "client-key-data": b64(cert.key)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": user, "context": {"cluster": name, "namespace": "default", "user": user}}],
        "current-context": user,
    }
    return documents.dump([config])


def b64(text: str) -> str:
    """Base64 of a text, as certificates stand in YAML."""
    return base64.b64encode(text.encode()).decode()


def encoded(pair: CertAndKey) -> dict[str, str]:
    """A pair as it stands in YAML; what is accepted besides has a place of its own there."""
    return {"crt": b64(pair.signing), "key": b64(pair.key)}


def accepted(pair: CertAndKey) -> list[dict[str, str]]:
    """The certificates that are accepted besides the signing one, as they stand in a machine config."""
    return [{"crt": b64(pem)} for pem in pair.accepted]


def new_token() -> str:
    """A token as Talos and Kubernetes want it: `abcdef.0123456789abcdef`."""
    letters = [random.choice(_LETTERS) for _ in range(22)]
    return "".join(letters[:6]) + "." + "".join(letters[6:])


_BUNDLE_PATHS = {
    "cluster_id": "cluster.id",
    "cluster_secret": "cluster.secret",
    "bootstrap_token": "secrets.bootstraptoken",
    "secretbox_secret": "secrets.secretboxencryptionsecret",
    "trustd_token": "trustdinfo.token",
    "etcd": "certs.etcd",
    "kubernetes": "certs.k8s",
    "aggregator": "certs.k8saggregator",
    "service_account_key": "certs.k8sserviceaccount.key",
    "os": "certs.os",
}
_CONFIG_PATHS = {
    "cluster_id": "cluster.id",
    "cluster_secret": "cluster.secret",
    "bootstrap_token": "cluster.token",
    "secretbox_secret": "cluster.secretboxEncryptionSecret",
    "trustd_token": "machine.token",
    "etcd": "cluster.etcd.ca",
    "kubernetes": "cluster.ca",
    "aggregator": "cluster.aggregatorCA",
    "service_account_key": "cluster.serviceAccount.key",
    "os": "machine.ca",
}
# Authorities of a machine config that have a list of accepted ones beside them.
_ACCEPTED = {"machine.ca": "machine.acceptedCAs", "cluster.ca": "cluster.acceptedCAs"}


class _Reader:
    """Picks values by path and collects what is wrong, so that everything is reported at once."""

    def __init__(self, data: Mapping[str, Any], what: str) -> None:
        self._data = data
        self._what = what
        self._wrong: list[str] = []

    def bundle(self, paths: Mapping[str, str]) -> SecretsBundle:
        found = SecretsBundle(
            cluster_id=self.text(paths["cluster_id"]),
            cluster_secret=self.text(paths["cluster_secret"]),
            bootstrap_token=self.text(paths["bootstrap_token"]),
            secretbox_secret=self.text(paths["secretbox_secret"]),
            trustd_token=self.text(paths["trustd_token"]),
            etcd=self.pair(paths["etcd"]),
            kubernetes=self.pair(paths["kubernetes"]),
            aggregator=self.pair(paths["aggregator"]),
            service_account_key=self.pem(paths["service_account_key"]),
            os=self.pair(paths["os"]),
        )
        self.finish()
        return found

    def text(self, path: str) -> str:
        value: Any = self._data
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, str) and value:
            return value
        self._wrong.append(f"{path} is missing")
        return ""

    def pem(self, path: str) -> str:
        return self._decoded(self.text(path), path)

    def _decoded(self, value: object, path: str) -> str:
        try:
            return base64.b64decode(str(value or ""), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            self._wrong.append(f"{path} is not base64 of PEM")
            return ""

    def pair(self, path: str) -> CertAndKey:
        found = CertAndKey(self.pem(f"{path}.crt"), self.pem(f"{path}.key"))
        return found.accepting(*self._accepted(_ACCEPTED[path])) if path in _ACCEPTED else found

    def _accepted(self, path: str) -> list[str]:
        section, _, key = path.partition(".")
        listed = (self._data.get(section) or {}).get(key) or []
        return [self._decoded(entry.get("crt"), path) for entry in listed]

    def finish(self) -> None:
        if self._wrong:
            raise UserError(f"{self._what}: " + "; ".join(self._wrong))
