"""Whose a snapshot is: the secretbox of NaCl against its published vector, and our cluster's marks against others'."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from providers.errors import HomelabError
from providers.talos import origin
from providers.talos.secrets import SecretsBundle
from providers.talos.snapshot import Snapshot

# The vector of NaCl's own tests/secretbox.c (https://nacl.cr.yp.to/), also in "Cryptography in NaCl", section 10.
KEY = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
SEALED = bytes.fromhex(
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a"
    "c0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae"
    "90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5"
)
SECRET = b"/registry/secrets/default/one"


def holding(values: Mapping[bytes, bytes]) -> Snapshot:
    return Snapshot(Path("s.db"), 0, "", 1, {key: memoryview(value) for key, value in values.items()})


def root_ca(bundle: SecretsBundle, namespace: str = "default") -> dict[bytes, bytes]:
    text = b"k8s\0...ca.crt\n" + bundle.kubernetes.crt.encode() + b"..."
    return {f"/registry/configmaps/{namespace}/kube-root-ca.crt".encode(): text}


def with_key(bundle: SecretsBundle, key: bytes) -> SecretsBundle:
    return dataclasses.replace(bundle, secretbox_secret=base64.b64encode(key).decode())


def sealed() -> dict[bytes, bytes]:
    return {SECRET: b"k8s:enc:secretbox:v1:key2:" + NONCE + SEALED}


def test_a_box_opens_with_its_key_alone() -> None:
    assert origin.opens(KEY, NONCE + SEALED)
    for at in (0, 15, 31):
        wrong = bytearray(KEY)
        wrong[at] ^= 1
        assert not origin.opens(bytes(wrong), NONCE + SEALED)


@pytest.mark.parametrize("at", [0, 23, 24, 39, 40, -1])
def test_a_changed_box_does_not_open(at: int) -> None:
    box = bytearray(NONCE + SEALED)
    box[at] ^= 1
    assert not origin.opens(KEY, bytes(box))


def test_a_box_that_is_none() -> None:
    assert not origin.opens(KEY, b"short")
    assert not origin.opens(b"short", NONCE + SEALED)


def test_our_own_passes(bundle: SecretsBundle) -> None:
    origin.refuse_foreign(holding({**root_ca(bundle), **sealed()}), with_key(bundle, KEY))


def test_another_authority(bundle: SecretsBundle) -> None:
    with pytest.raises(origin.ForeignSnapshotError, match="is another cluster's"):
        origin.refuse_foreign(holding(root_ca(SecretsBundle.generate())), bundle)


def test_another_key(bundle: SecretsBundle) -> None:
    with pytest.raises(origin.ForeignSnapshotError, match="sealed with another key"):
        origin.refuse_foreign(holding({**root_ca(bundle), **sealed()}), bundle)


def test_no_kubernetes_in_it(bundle: SecretsBundle) -> None:
    with pytest.raises(HomelabError, match=r"holds no Kubernetes cluster \(1 keys\)"):
        origin.refuse_foreign(holding({b"/other": b""}), bundle)


def field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def lease(seconds: int) -> bytes:
    number = b""
    while seconds > 127:
        number += bytes([seconds & 127 | 128])
        seconds >>= 7
    spec = field(1, b"node1") + b"\x10\x28" + field(4, b"\x08" + number + bytes([seconds]))
    return b"k8s\0" + field(1, b"\x0a\x02v1") + field(2, field(1, b"") + field(2, spec))


def test_the_newest_lease_tells_when() -> None:
    seen = holding({b"/registry/leases/a/b": lease(1_700_000_000), b"/registry/leases/a/c": lease(1_700_000_777)})
    assert origin.written_at(seen) == datetime.fromtimestamp(1_700_000_777, UTC)


@pytest.mark.parametrize("value", [b"", b"{}", b"k8s\0", b"k8s\0\xff\xff", lease(1_700_000_000)[:-3]])
def test_without_a_readable_lease_nobody_knows_when(value: bytes) -> None:
    assert origin.written_at(holding({b"/registry/leases/a/b": value})) is None


def test_the_clusters_own_uid() -> None:
    namespace = b"k8s\0" + field(2, field(1, field(1, b"kube-system") + field(5, b"1234-uid")))
    assert origin.identity(holding({b"/registry/namespaces/kube-system": namespace})) == "1234-uid"
    assert origin.identity(holding({})) == ""
