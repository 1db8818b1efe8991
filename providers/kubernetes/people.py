"""A client certificate for a person, signed by the cluster itself, and what its holder may do.

Protocol source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/. The request goes
the way of any other one, so the cluster's key stays in the cluster, and the person's key never leaves this machine.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from providers.deadline import Deadline
from providers.errors import HomelabError, ProtocolError, RefusedError
from providers.kubernetes.client import Kube

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
SIGNER = "kubernetes.io/kube-apiserver-client"
MANAGER = "homelab"
# Group -> ClusterRole. `view` is what Headlamp's login for looking has: everything but Secrets, nodes and roles.
ROLES = {"viewers": "view", "editors": "edit"}


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, PEM."""

    crt: str
    key: str = field(repr=False)


def issue(kube: Kube, user: str, group: str, lifetime: timedelta, deadline: Deadline) -> Issued:
    """Have the cluster sign a certificate for a new key.

    Args:
        kube: with an administrator's credentials: they also approve.
        user: Kubernetes' user name.
        group: what roles are bound to.
        lifetime: the cluster may give less (up to Talos 1.13 a year at most).
        deadline: for all of it.

    Raises:
        RefusedError: the cluster denies or can't sign it; says why.
        DeadlineError: nobody signed.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    path = f"{REQUESTS}/homelab-{secrets.token_hex(4)}"
    try:
        kube.apply(path, _request(path, key, user, group, lifetime), MANAGER)
        kube.merge(f"{path}/approval", _approval(user), deadline)
        crt = kube.patiently(lambda: _signed(kube, path), f"{user}: a signed certificate", deadline)
    finally:
        with contextlib.suppress(HomelabError):  # the cluster forgets it within the hour anyway
            kube.remove(path, deadline)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return Issued(crt, pem.decode())


def bind(kube: Kube, group: str) -> str | None:
    """Let a group do what its role allows; None for a group that has none here."""
    role = ROLES.get(group)
    if role is None:
        return None
    kube.apply(f"{BINDINGS}/homelab-{group}", _binding(group, role), MANAGER)
    return role


def _request(
    path: str, key: ec.EllipticCurvePrivateKey, user: str, group: str, lifetime: timedelta
) -> dict[str, object]:
    names = ((NameOID.ORGANIZATION_NAME, group), (NameOID.COMMON_NAME, user))
    subject = x509.Name([x509.NameAttribute(kind, name) for kind, name in names])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": path.rpartition("/")[2]},
        "spec": {
            "request": base64.b64encode(request.public_bytes(Encoding.PEM)).decode(),
            "signerName": SIGNER,
            "expirationSeconds": int(lifetime.total_seconds()),
            "usages": ["digital signature", "client auth"],
        },
    }


def _approval(user: str) -> dict[str, object]:
    approved = {
        "type": "Approved",
        "status": "True",
        "reason": "HomelabKubeconfig",
        "message": f"asked for with `homelab kubeconfig --user {user}`",
    }
    return {"status": {"conditions": [approved]}}


def _signed(kube: Kube, path: str) -> str | None:
    status = (kube.look(path) or {}).get("status") or {}
    for condition in status.get("conditions", ()):
        if condition.get("type") in ("Denied", "Failed"):
            raise RefusedError(f"the cluster does not sign it: {condition.get('message') or condition.get('reason')}")
    if not status.get("certificate"):
        return None
    try:
        return base64.b64decode(status["certificate"], validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, TypeError):
        raise ProtocolError(f"{kube.server}{path}: its certificate is not PEM") from None


def _binding(group: str, role: str) -> dict[str, object]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"homelab-{group}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    }
