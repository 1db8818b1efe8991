"""Reads the one kind of kubeconfig this project writes: one cluster, one user, everything embedded."""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from providers.errors import UserError


@dataclass(frozen=True)
class Access:
    """Where an API server is and what to show it.

    Attributes:
        server: the base URL.
        ca: the cluster's CA, PEM.
        certificate: the client's certificate, PEM.
        key: the client's private key, PEM.
    """

    server: str
    ca: str
    certificate: str
    key: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Access:
        """Take the current context out of a kubeconfig.

        Raises:
            UserError: not a kubeconfig, or one whose certificates are not embedded.
        """
        try:
            document = yaml.safe_load(text)
            context = _named(document, "contexts", document["current-context"])["context"]
            cluster = _named(document, "clusters", context["cluster"])["cluster"]
            user = _named(document, "users", context["user"])["user"]
            return cls(
                server=str(cluster["server"]).rstrip("/"),
                ca=_pem(cluster, "certificate-authority-data"),
                certificate=_pem(user, "client-certificate-data"),
                key=_pem(user, "client-key-data"),
            )
        except (yaml.YAMLError, KeyError, TypeError, ValueError) as exc:
            reason = f"{type(exc).__name__} {exc}".splitlines()[0]
            raise UserError(f"kubeconfig: cannot be read ({reason}); `homelab up` writes a new one") from None

    def tls(self) -> ssl.SSLContext:
        """A context that trusts this cluster only and shows the client's certificate.

        Raises:
            UserError: a certificate or key is damaged.
        """
        try:
            context = ssl.create_default_context(cadata=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            # OpenSSL's Python binding takes client keys from files only; they live for the length of this call.
            with tempfile.TemporaryDirectory(prefix="homelab-") as folder:
                pem = Path(folder, "client.pem")
                pem.touch(mode=0o600)
                pem.write_text(f"{self.certificate.strip()}\n{self.key.strip()}\n", encoding="ascii")
                context.load_cert_chain(pem)
        except ssl.SSLError as exc:
            raise UserError(f"kubeconfig: a certificate in it is damaged ({exc.reason or exc})") from None
        return context


def _named(document: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    for entry in document[kind]:
        if entry["name"] == name:
            found: Mapping[str, Any] = entry
            return found
    raise KeyError(f"{kind}: {name}")


def _pem(section: Mapping[str, Any], key: str) -> str:
    try:
        return base64.b64decode(section[key], validate=True).decode("ascii")
    except binascii.Error:
        raise ValueError(f"{key} is not base64") from None
