"""Bootstrap tokens as a cluster keeps them: Secrets in its kube-system, which let whoever shows one become a node.

Source: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/. A token that has expired is refused
by the API, and its Secret removed by the controller manager.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

SECRETS = "/api/v1/namespaces/kube-system/secrets"
TALOS_GROUP = "system:bootstrappers:nodes"
KUBEADM_GROUP = "system:bootstrappers:kubeadm:default-node-token"
TIME = "%Y-%m-%dT%H:%M:%SZ"
_LETTERS = string.ascii_lowercase + string.digits


def drawn() -> str:
    """The text of a token that nobody knows yet: `ID.SECRET`."""
    first, second = ("".join(secrets.choice(_LETTERS) for _ in range(length)) for length in (6, 16))
    return f"{first}.{second}"


def secret_name(token: str) -> str:
    """The name of a token's Secret, out of its text or its id."""
    return f"bootstrap-token-{token.partition('.')[0]}"


def path(token: str) -> str:
    """Where a token's Secret is, out of its text or its id."""
    return f"{SECRETS}/{secret_name(token)}"


def manifest(
    token: str, expires: datetime, description: str, groups: str, labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The Secret that makes a token valid.

    Args:
        token: its text.
        expires: when it ends, with a time zone.
        description: whose it is.
        groups: of whoever shows it, with commas between them.
        labels: of the Secret.
    """
    first, _, second = token.partition(".")
    named = {"name": secret_name(token), "namespace": "kube-system", **({"labels": dict(labels)} if labels else {})}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": named,
        "stringData": {
            "token-id": first,
            "token-secret": second,
            "expiration": expires.astimezone(UTC).strftime(TIME),
            "description": description,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": groups,
        },
    }
