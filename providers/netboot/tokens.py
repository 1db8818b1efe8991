"""Join tokens: each machine has its own, good for some hours, kept in the cluster as Kubernetes wants them.

A token that has expired is deleted by the cluster itself (the controller `tokencleaner`).
"""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from providers import pace
from providers.deadline import Deadline
from providers.kubernetes.client import Kube

API_S = 120.0
MANAGER = "homelab"
GROUP = "system:bootstrappers:nodes"  # what Talos and kubeadm let ask for a kubelet's certificate
_LETTERS = string.ascii_lowercase + string.digits
_PATH = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-{}"


@dataclass(frozen=True)
class Token:
    """A join token. `expires` is in seconds since 1970."""

    id: str
    secret: str = field(repr=False)
    expires: int

    @property
    def text(self) -> str:
        """As a machine shows it."""
        return f"{self.id}.{self.secret}"


def new(expires: int) -> Token:
    """A token that nobody knows yet."""
    return Token(_word(6), _word(16), expires)


def manifest(token: Token, whose: str) -> dict[str, Any]:
    """The Secret that makes a token valid. It says whose it is."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": f"bootstrap-token-{token.id}", "namespace": "kube-system"},
        "stringData": {
            "token-id": token.id,
            "token-secret": token.secret,
            "expiration": datetime.fromtimestamp(token.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "description": f"homelab: {whose}",
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": GROUP,
        },
    }


def admit(kube: Kube, token: Token, whose: str) -> None:
    """Make a token valid in a cluster. Errors as all calls of `Kube`."""
    what, deadline = f"{whose}: join token", Deadline(pace.limit(API_S))
    kube.patiently(lambda: kube.apply(_PATH.format(token.id), manifest(token, whose), MANAGER), what, deadline)


def withdraw(kube: Kube, token_id: str) -> None:
    """Make a token invalid; one that has expired is gone already."""
    kube.remove(_PATH.format(token_id), Deadline(pace.limit(API_S)))


def _word(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))
