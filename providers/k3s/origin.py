"""Whose a snapshot of k3s is: told by the bootstrap data in it, which nothing but the servers' token opens.

k3s keeps the cluster's authorities in its own datastore (pkg/cluster/encrypt.go): under a key that is made from the
token, sealed with it. So a snapshot that the token opens can be used by the servers that have it, and no other can.
"""

from __future__ import annotations

import base64
import hashlib
import json

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from providers.errors import ProtocolError
from providers.talos.origin import ForeignSnapshotError
from providers.talos.snapshot import Snapshot

_FOLDER = b"/bootstrap/"
_NONCE = 12
_ROUNDS, _KEY = 4096, 32


def authority(snapshot: Snapshot, token: str) -> bytes:
    """The certificate that the snapshot's cluster has for its API: who has another one is another cluster.

    Args:
        snapshot: a verified one.
        token: the short form, without the digest before it.

    Raises:
        ForeignSnapshotError: the token does not open it, or it is not of k3s.
        ProtocolError: it opens, and holds no authority.
    """
    digest = hashlib.sha256(token.encode()).hexdigest()[:12]
    value = snapshot.values.get(_FOLDER + digest.encode())
    if value is None:
        sealed = any(key.startswith(_FOLDER) for key in snapshot.values)
        why = "is sealed with another token than this cluster's" if sealed else "holds no k3s cluster"
        raise ForeignSnapshotError(f"{snapshot.path}: {why}; nothing in it could be used")
    try:
        return base64.b64decode(json.loads(_opened(bytes(value), token))["ServerCA"]["Content"])
    except InvalidTag:
        raise ForeignSnapshotError(
            f"{snapshot.path}: its authorities don't open with this cluster's token; nothing in it could be used"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ProtocolError(f"{snapshot.path}: holds no authority where k3s keeps it") from None


def _opened(value: bytes, token: str) -> bytes:
    salt, _, text = value.partition(b":")
    box = base64.b64decode(text, validate=True)
    key = hashlib.pbkdf2_hmac("sha1", token.encode(), salt, _ROUNDS, _KEY)
    return AESGCM(key).decrypt(box[:_NONCE], box[_NONCE:], None)
