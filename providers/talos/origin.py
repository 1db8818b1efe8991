"""Whose a snapshot is, and how old: told by what is in it, never by its name or its file's date."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.poly1305 import Poly1305

from providers.errors import ForeignNodeError, ProtocolError
from providers.talos.fields import child, fields
from providers.talos.secrets import SecretsBundle
from providers.talos.snapshot import Snapshot

_AUTHORITY = re.compile(rb"/registry/configmaps/[^/]+/kube-root-ca\.crt")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_SECRETS, _LEASES, _NAMESPACE = b"/registry/secrets/", b"/registry/leases/", b"/registry/namespaces/kube-system"
_SEALED = b"k8s:enc:secretbox:v1:"
_PLAIN = b"k8s\0"  # an object in protobuf, inside an envelope that holds it as field 2
_RENEWED = (2, 4)  # Lease.spec.renewTime
_UID = (1, 5)  # metadata.uid
_NONCE, _TAG = 24, 16


class ForeignSnapshotError(ForeignNodeError):
    """The snapshot is another cluster's: its keys are not ours, so nothing in it could be used."""


def refuse_foreign(snapshot: Snapshot, bundle: SecretsBundle) -> None:
    """Let a snapshot pass that provably is of the cluster with these secrets.

    Every namespace keeps the certificate of its cluster's authority, in plain; and the Secrets are sealed with a key
    from the machine config. The first says whose it is, the second that the API server will be able to read it.

    Raises:
        ForeignSnapshotError: it is another cluster's, or nobody's that runs Kubernetes.
    """
    authorities = set(_authorities(snapshot))
    if not authorities:
        raise ForeignSnapshotError(f"{snapshot.path}: holds no Kubernetes cluster ({snapshot.keys} keys)")
    key, boxes = base64.b64decode(bundle.secretbox_secret), list(_boxes(snapshot))
    opened = [opens(key, box) for box in boxes]
    ours = {_one_line(pem) for pem in (bundle.kubernetes.signing, *bundle.kubernetes.accepted)}
    # After a rotation the snapshots of before it still name the old authority: then the key alone tells.
    if not ours & authorities and not (opened and all(opened)):
        raise ForeignSnapshotError(f"{snapshot.path}: is another cluster's: its authority is not this cluster's")
    if not all(opened):
        raise ForeignSnapshotError(
            f"{snapshot.path}: its Secrets are sealed with another key than this cluster's; they could not be read"
        )


def refuse_other_authority(snapshot: Snapshot, authority: str) -> None:
    """Let a snapshot pass that names this authority (PEM) as its cluster's.

    Raises:
        ForeignSnapshotError: it names another one, or none.
    """
    if _one_line(authority) not in set(_authorities(snapshot)):
        raise ForeignSnapshotError(f"{snapshot.path}: is another cluster's: its authority is not this cluster's")


def written_at(snapshot: Snapshot) -> datetime | None:
    """When it was taken, from the newest lease in it: they are renewed every few seconds. None without leases."""
    seen = [moment for value in _under(snapshot, _LEASES) if (moment := _renewed(value)) is not None]
    return max(seen, default=None)


def identity(snapshot: Snapshot) -> str:
    """The uid of namespace `kube-system`, which stands for the cluster; empty when there is none."""
    value = snapshot.values.get(_NAMESPACE)
    found = child(value[len(_PLAIN) :], 2, *_UID) if value is not None and value[: len(_PLAIN)] == _PLAIN else None
    return bytes(found).decode(errors="replace") if found is not None else ""


def _under(snapshot: Snapshot, prefix: bytes) -> Iterator[memoryview]:
    return (value for key, value in snapshot.values.items() if key.startswith(prefix))


def _authorities(snapshot: Snapshot) -> Iterator[str]:
    for key, value in snapshot.values.items():
        if _AUTHORITY.fullmatch(key):
            text = bytes(value).decode("utf-8", errors="replace")
            yield from (_one_line(found) for found in _CERTIFICATE.findall(text))


def _one_line(certificate: str) -> str:
    return "".join(certificate.split())


def _boxes(snapshot: Snapshot) -> Iterator[bytes]:
    """The sealed part of each Secret: after the prefix comes the key's name and a colon."""
    for value in _under(snapshot, _SECRETS):
        if value[: len(_SEALED)] == _SEALED:
            yield bytes(value[len(_SEALED) :]).partition(b":")[2]


def _renewed(lease: memoryview) -> datetime | None:
    if lease[: len(_PLAIN)] != _PLAIN:
        return None
    try:
        moment = child(lease[len(_PLAIN) :], 2, *_RENEWED)
        seconds = dict(fields(moment)).get(1) if moment is not None else None
    except ProtocolError:
        return None
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int) else None


def opens(key: bytes, box: bytes) -> bool:
    """Whether a NaCl secretbox (nonce, tag, text) was sealed with a key. Its text is not needed, only the tag's proof.

    https://nacl.cr.yp.to/secretbox.html: XSalsa20 gives the one-time key of Poly1305 as its first 32 bytes.
    """
    if len(box) < _NONCE + _TAG or len(key) != 32:  # NaCl's key size
        return False
    nonce, tag, text = box[:_NONCE], box[_NONCE : _NONCE + _TAG], box[_NONCE + _TAG :]
    inner = _salsa20(key, nonce[:16])
    subkey = struct.pack("<8I", *(inner[at] for at in (0, 5, 10, 15, 6, 7, 8, 9)))
    block = nonce[16:] + bytes(8)
    first = _added(_salsa20(subkey, block), _state(subkey, block))
    try:
        Poly1305.verify_tag(first[:32], text, tag)
    except InvalidSignature:
        return False
    return True


def _state(key: bytes, block: bytes) -> list[int]:
    c, k, n = struct.unpack("<4I", b"expand 32-byte k"), struct.unpack("<8I", key), struct.unpack("<4I", block)
    return [c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3]]


# The words that each quarter of a round mixes: columns, then rows.
_QUARTERS = (
    (0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11),
    (0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14),
)  # fmt: skip


def _salsa20(key: bytes, block: bytes) -> list[int]:
    """Twenty rounds over key and block, before the state is added."""
    x = _state(key, block)
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            x[b] ^= _turned(x[a] + x[d], 7)
            x[c] ^= _turned(x[b] + x[a], 9)
            x[d] ^= _turned(x[c] + x[b], 13)
            x[a] ^= _turned(x[d] + x[c], 18)
    return x


def _turned(word: int, by: int) -> int:
    word &= 0xFFFFFFFF
    return (word << by | word >> (32 - by)) & 0xFFFFFFFF


def _added(left: list[int], right: list[int]) -> bytes:
    return struct.pack("<16I", *((one + other) & 0xFFFFFFFF for one, other in zip(left, right, strict=True)))
