"""Join tokens: each machine has its own, good for some hours, kept in the cluster as Kubernetes wants them.

A token that has expired is deleted by the cluster itself (the controller `tokencleaner`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from providers import pace
from providers.deadline import Deadline
from providers.kubernetes import bootstrap
from providers.kubernetes.client import Kube

API_S = 120.0
MANAGER = "homelab"
# Talos lets the one ask for a kubelet's certificate, kubeadm and Kamaji the other; each knows nothing of its neighbour.
GROUPS = f"{bootstrap.TALOS_GROUP},{bootstrap.KUBEADM_GROUP}"


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
    first, _, second = bootstrap.drawn().partition(".")
    return Token(first, second, expires)


def manifest(token: Token, whose: str) -> dict[str, Any]:
    """The Secret that makes a token valid. It says whose it is."""
    return bootstrap.manifest(token.text, datetime.fromtimestamp(token.expires, UTC), f"homelab: {whose}", GROUPS)


def admit(kube: Kube, token: Token, whose: str) -> None:
    """Make a token valid in a cluster. Errors as all calls of `Kube`."""
    what, deadline = f"{whose}: join token", Deadline(pace.limit(API_S))
    path, body = bootstrap.path(token.id), manifest(token, whose)
    kube.patiently(lambda: kube.apply(path, body, MANAGER), what, deadline)


def withdraw(kube: Kube, token_id: str) -> None:
    """Make a token invalid; one that has expired is gone already."""
    kube.remove(bootstrap.path(token_id), Deadline(pace.limit(API_S)))
