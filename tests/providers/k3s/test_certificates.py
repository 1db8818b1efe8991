"""Certificates that end: k3s is started anew in time. How the stored kubeconfig follows is in tests/engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from providers.k3s import certificates, files
from providers.k3s.resources import ClusterProvider, NodeProvider
from tests.played import Played
from tests.providers.k3s.stores import Store, played
from tests.providers.k3s.test_node import props
from tools import paths
from twin.hosts.k3s_pki import Authorities
from twin.hosts.units import PROGRAMS
from twin.kubernetes.kubeconfig import kubeconfig
from twin.talos.pki import issue, write_secret

pytestmark = pytest.mark.skipif(not paths.servers_bin().exists(), reason="make tools builds the servers")
assert played


class Renewing(Store):
    """One that leaves a kubeconfig as well."""

    async def start(self) -> None:
        """Its certificate is kept, or renewed."""
        await super().start()
        self._write_kubeconfig()


@pytest.fixture
def given(played: Played, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setitem(PROGRAMS, files.BINARY, lambda host, argv: Renewing(host))
    return props(played)


def age(played: Played, days: int) -> str:
    """Have a server's certificate end in so many days; its kubeconfig."""
    tls = Authorities(played.host().path("/var/lib/rancher/k3s/server/tls"))
    leaf = issue(tls.pair("client-ca"), "system:admin", ["system:masters"], client=True, valid=timedelta(days=days))
    (tls.folder / "client-admin.crt").write_bytes(leaf.crt)
    write_secret(tls.folder / "client-admin.key", leaf.key)
    text = kubeconfig("https://127.0.0.1:6443", tls.pair("server-ca").crt, leaf)
    played.host().put(files.KUBECONFIG, text)
    return text.decode()


def days_to(day: str) -> int:
    return (datetime.fromisoformat(day).replace(tzinfo=UTC) - datetime.now(UTC)).days


def test_a_node_is_started_anew_before_its_certificates_end(played: Played, given: dict[str, Any]):
    provider = NodeProvider()
    made = provider.create(given).outs or {}
    assert days_to(made["certificates_end"]) >= 363
    assert not provider.diff("h1-k3s", made, given).changes
    age(played, 50)
    seen = provider.read("h1-k3s", made).outs or {}
    assert days_to(seen["certificates_end"]) <= 50
    assert provider.diff("h1-k3s", seen, given).changes
    renewed = provider.update("h1-k3s", seen, given).outs or {}
    assert days_to(renewed["certificates_end"]) >= 363
    assert len(played.happened("service_started")) == 2
    provider.update("h1-k3s", renewed, given)
    assert len(played.happened("service_started")) == 2, "once is enough"


def test_a_state_from_before_has_no_day_and_changes_nothing(given: dict[str, Any]):
    assert not NodeProvider().diff("h1-k3s", given, given).changes


def test_a_kubeconfig_that_ends_is_renewed(played: Played, given: dict[str, Any]):
    NodeProvider().create(given)
    inputs = {"cluster": "garage", "endpoint": "https://10.0.0.9:6443"}
    for days, ending in ((29, True), (31, False)):
        text = age(played, days)
        assert certificates.is_ending(text) is ending
        assert ClusterProvider().diff("garage", {**inputs, "kubeconfig": text}, inputs).changes is ending
