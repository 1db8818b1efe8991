"""A note on this machine that a node left without a reset, because it was dead.

Its disk still holds the cluster's state. Should it come back, it must not rejoin with that (4c.22): a control plane is
known by etcd, which no longer lists it, but a worker looks like one that never left.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from providers.talos.pki import ClientCert

FOLDER = Path(".homelab") / "unwiped"


def _path(node: str, cert: ClientCert) -> Path:
    return FOLDER / f"{hashlib.sha256(cert.ca.encode()).hexdigest()[:12]}-{node}"


def note(node: str, cert: ClientCert) -> None:
    """Remember that `node` still holds the state of the cluster that `cert` is for."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    _path(node, cert).touch()


def noted(node: str, cert: ClientCert) -> bool:
    """Whether it left without a reset."""
    return _path(node, cert).exists()


def forget(node: str, cert: ClientCert) -> None:
    """It was wiped."""
    _path(node, cert).unlink(missing_ok=True)
