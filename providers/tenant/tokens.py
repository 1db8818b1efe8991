"""Tokens that machines join a tenant with: bootstrap tokens in its kube-system."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from providers.deadline import Deadline
from providers.errors import ProtocolError
from providers.kubernetes import bootstrap
from providers.kubernetes.client import Kube
from providers.kubernetes.kubeconfig import Access

LIFETIME = timedelta(hours=24)
RENEW_BELOW = timedelta(hours=12)
SECRETS = bootstrap.SECRETS
LABEL = "homelab/join-token"  # which of the tenant's tokens are this program's
MANAGER = "homelab"
DESCRIPTION = "machines of homelab's settings join with it; renewed by `homelab up`"


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
            "expires": self.expires.strftime(bootstrap.TIME),
        }


def is_due(expires: str, now: datetime) -> bool:
    """Whether a token that ends at `expires` has too little left for a machine that begins to join now."""
    try:
        end = datetime.strptime(expires, bootstrap.TIME).replace(tzinfo=UTC)
    except (TypeError, ValueError):
        return True
    return end - now < RENEW_BELOW


def renew(kubeconfig: str, deadline: Deadline, now: datetime) -> Token:
    """Make a token, and remove those that were made before.

    Raises:
        HomelabError: the tenant's API can't be reached in time, or refuses.
    """
    access = Access.parse(kubeconfig)
    token = Token(bootstrap.drawn(), access.server.removeprefix("https://"), ca_hash(access.ca), now + LIFETIME)
    path = bootstrap.path(token.text)
    body = bootstrap.manifest(token.text, token.expires, DESCRIPTION, bootstrap.KUBEADM_GROUP, {LABEL: "true"})
    with Kube(kubeconfig) as tenant:
        tenant.patiently(lambda: tenant.apply(path, body, MANAGER), "a token to join with", deadline)
        remove(tenant, deadline, but=bootstrap.secret_name(token.text))
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
        return tenant.look(bootstrap.path(token)) is not None


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
