"""Tokens that machines join a tenant with, at a real API server."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from providers.deadline import Deadline
from providers.errors import ProtocolError, UnreachableError
from providers.kubernetes.client import Kube
from providers.kubernetes.kubeconfig import Access
from providers.tenant import resources, tokens
from providers.tenant.resources import TokenProvider
from tests.providers.kubernetes.servers import Cluster
from tests.providers.kubernetes.wire import Authority, kubeconfig

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LISTED = f"{tokens.SECRETS}?labelSelector={tokens.LABEL}=true"


def props(api: Cluster) -> dict[str, Any]:
    return {"tenant": "school", "endpoint": "https://192.0.2.1:6443", "admin": api.kubeconfig}


def names(api: Cluster) -> list[str]:
    return [item["metadata"]["name"] for item in api.get(LISTED)["items"]]


def test_a_token_is_one_that_kubeadm_takes_and_it_lasts_a_day(api: Cluster) -> None:
    token = tokens.renew(api.kubeconfig, Deadline(30), NOW)
    first, _, second = token.text.partition(".")
    assert (len(first), len(second)) == (6, 16)
    assert set(token.text) <= set("abcdefghijklmnopqrstuvwxyz0123456789.")
    found = api.get(f"{tokens.SECRETS}/bootstrap-token-{first}")
    data = {key: base64.b64decode(text).decode() for key, text in found["data"].items()}
    assert found["type"] == "bootstrap.kubernetes.io/token"
    assert (data["token-id"], data["token-secret"]) == (first, second)
    assert data["expiration"] == token.as_output()["expires"] == "2026-03-02T12:00:00Z"
    assert data["auth-extra-groups"] == "system:bootstrappers:kubeadm:default-node-token"
    assert second not in repr(token)


def test_another_one_replaces_it_and_foreign_ones_stay(api: Cluster) -> None:
    foreign = {"metadata": {"name": "bootstrap-token-aaaaaa"}, "type": "bootstrap.kubernetes.io/token"}
    api.make(tokens.SECRETS, {"apiVersion": "v1", "kind": "Secret", **foreign})
    before = names(api)
    token = tokens.renew(api.kubeconfig, Deadline(30), NOW)
    assert names(api) == [f"bootstrap-token-{token.text[:6]}"] != before
    assert api.get(f"{tokens.SECRETS}/bootstrap-token-aaaaaa")


def test_the_hash_is_that_of_the_public_key_of_the_clusters_ca(api: Cluster) -> None:
    token = tokens.renew(api.kubeconfig, Deadline(30), NOW)
    key = x509.load_pem_x509_certificate(Access.parse(api.kubeconfig).ca.encode()).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    assert token.ca_hash == f"sha256:{digest}"
    with pytest.raises(ProtocolError, match="no certificate"):
        tokens.ca_hash("nothing")


@pytest.mark.parametrize(
    ("left", "due"),
    [(timedelta(hours=24), False), (timedelta(hours=12, minutes=1), False), (timedelta(hours=11, minutes=59), True)],
)
def test_it_is_renewed_when_under_twelve_hours_are_left(left: timedelta, due: bool) -> None:
    expires = (NOW + left).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert tokens.is_due(expires, NOW) is due


@pytest.mark.parametrize("expires", ["", "soon", "2020-01-01T00:00:00Z"])
def test_one_that_nobody_knows_the_end_of_is_due(expires: str) -> None:
    assert tokens.is_due(expires, NOW)


def test_the_engine_hears_of_it_without_asking_the_tenant() -> None:
    wanted = {"tenant": "school", "endpoint": "https://192.0.2.1:6443", "admin": "no kubeconfig"}
    fresh = (datetime.now(UTC) + timedelta(hours=13)).strftime("%Y-%m-%dT%H:%M:%SZ")
    old = (datetime.now(UTC) + timedelta(hours=11)).strftime("%Y-%m-%dT%H:%M:%SZ")
    provider = TokenProvider()
    assert not provider.diff("school", {**wanted, "join": {"expires": fresh}}, wanted).changes
    assert provider.diff("school", {**wanted, "join": {"expires": old}}, wanted).changes
    moved = {**wanted, "endpoint": "https://192.0.2.2:6443"}
    assert provider.diff("school", {**wanted, "join": {"expires": fresh}}, moved).changes


def test_its_life_as_the_engine_tells_it(api: Cluster) -> None:
    provider, wanted = TokenProvider(), props(api)
    made = provider.create(wanted).outs or {}
    assert names(api) == [f"bootstrap-token-{made['join']['token'][:6]}"]
    after = provider.update("school", made, wanted).outs or {}
    assert after["join"]["token"] != made["join"]["token"]
    assert provider.read("school", after).id == "school"
    assert not provider.read("school", made).id, "the tenant has forgotten it"
    provider.delete("school", after)
    assert names(api) == []


def test_a_tenant_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "GONE_S", 0.3)
    nobody = kubeconfig(Authority(), "https://127.0.0.1:1")
    join = {"token": "abcdef.0123456789abcdef"}
    provider = TokenProvider()
    assert provider.read("school", {"tenant": "school", "admin": nobody, "join": join}).id == "school"
    with Kube(nobody) as kube, pytest.raises(UnreachableError):
        kube.version()
    provider.delete("school", {"tenant": "school", "admin": nobody})
