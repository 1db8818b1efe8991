"""Tokens that machines join a tenant with: bootstrap tokens in its kube-system.

Source: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/. A token that has expired is refused
by the tenant's API, and its Secret removed by the tenant's controller manager.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from providers.deadline import Deadline
from providers.errors import ProtocolError
from providers.kubernetes.client import Kube
from providers.kubernetes.kubeconfig import Access

LIFETIME = timedelta(hours=24)
RENEW_BELOW = timedelta(hours=12)
SECRETS = "/api/v1/namespaces/kube-system/secrets"
LABEL = "homelab/join-token"  # which of the tenant's tokens are this program's
MANAGER = "homelab"
GROUPS = "system:bootstrappers:kubeadm:default-node-token"
_LETTERS = string.ascii_lowercase + string.digits
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Token:
    """A token that a machine joins with, and what it proves the cluster by.

    Attributes:
        text: the token, `ID.SECRET`.
        endpoint: `ADDRESS:PORT` of the API.
        ca_hash: of the cluster's CA, as `kubeadm join` wants it: `sha256:HEX`.
        expires: when it ends, in UTC.
    """

    text: str = field(repr=False)
    endpoint: str
    ca_hash: str
    expires: datetime

    def as_output(self) -> dict[str, str]:
        """What others read of it."""
        return {
            "token": self.text,
            "endpoint": self.endpoint,
            "ca_hash": self.ca_hash,
            "expires": self.expires.strftime(_TIME),
        }


def is_due(expires: str, now: datetime) -> bool:
    """Whether a token that ends at `expires` has too little left for a machine that begins to join now."""
    try:
        end = datetime.strptime(expires, _TIME).replace(tzinfo=UTC)
    except (TypeError, ValueError):
        return True
    return end - now < RENEW_BELOW


def renew(kubeconfig: str, deadline: Deadline, now: datetime) -> Token:
    """Make a token, and remove those that were made before.

    Raises:
        HomelabError: the tenant's API can't be reached in time, or refuses.
    """
    access = Access.parse(kubeconfig)
    token = Token(_drawn(), access.server.removeprefix("https://"), ca_hash(access.ca), now + LIFETIME)
    own = f"bootstrap-token-{token.text.partition('.')[0]}"
    with Kube(kubeconfig) as tenant:
        body = _manifest(own, token)
        tenant.patiently(lambda: tenant.apply(f"{SECRETS}/{own}", body, MANAGER), "a token to join with", deadline)
        remove(tenant, deadline, but=own)
    return token


def remove(tenant: Kube, deadline: Deadline, but: str = "") -> None:
    """Remove this program's tokens from a tenant, all but one."""
    path = f"{SECRETS}?labelSelector={LABEL}=true"
    found = tenant.patiently(lambda: tenant.look(path), "the tokens that are there", deadline)
    for name in (item["metadata"]["name"] for item in found["items"]):
        if name != but:
            tenant.remove(f"{SECRETS}/{name}", deadline)


def is_there(kubeconfig: str, token: str) -> bool:
    """Whether a tenant still has a token. Raises HomelabError when its API can't say."""
    with Kube(kubeconfig) as tenant:
        return tenant.look(f"{SECRETS}/bootstrap-token-{token.partition('.')[0]}") is not None


def ca_hash(ca: str) -> str:
    """What `kubeadm join` knows a cluster by: the digest of its CA's public key.

    Raises:
        ProtocolError: not a certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(ca.encode())
    except ValueError:
        raise ProtocolError("the CA of a tenant's kubeconfig is no certificate") from None
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(key).hexdigest()}"


def _drawn() -> str:
    first, second = ("".join(secrets.choice(_LETTERS) for _ in range(length)) for length in (6, 16))
    return f"{first}.{second}"


def _manifest(name: str, token: Token) -> Mapping[str, Any]:
    first, _, second = token.text.partition(".")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": name, "namespace": "kube-system", "labels": {LABEL: "true"}},
        "stringData": {
            "token-id": first,
            "token-secret": second,
            "expiration": token.expires.strftime(_TIME),
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": GROUPS,
            "description": "machines of homelab's settings join with it; renewed by `homelab up`",
        },
    }
