"""What a look at a silent node comes to: nothing is known, unless the cluster has forgotten it."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from providers.engine import Reporter
from providers.errors import UnreachableError
from providers.talos import machine
from providers.talos.client import Mode
from providers.talos.secrets import SecretsBundle
from providers.talos.wire import pack

PLANES = {"node1": "127.109.1.1", "node2": "127.109.1.2"}


def looked(monkeypatch: pytest.MonkeyPatch, answers: dict[str, object], mode: Mode = Mode.SILENT) -> str:
    """The drift of node4, where each control plane's API gives this for its Node; one without an answer is away."""

    @contextmanager
    def secure(address: str, _: object) -> Any:
        if address not in answers:
            raise UnreachableError(f"{address}: silent")
        yield SimpleNamespace(kubeconfig=lambda **__: address)

    @contextmanager
    def kube(access: str, *, server: str, timeout_s: float) -> Any:
        assert server == f"https://{access}:6443"
        yield SimpleNamespace(node=lambda name: answers[access] if name == "node4" else None)

    monkeypatch.setattr(machine, "probe", lambda *_, **__: mode)
    monkeypatch.setattr(machine, "Talos", SimpleNamespace(secure=secure))
    monkeypatch.setattr(machine, "Kube", kube)
    props = {
        "node": "node4", "address": "127.109.1.4", "spec": {"role": "worker"}, "control_planes": PLANES,
        "secrets": pack(SecretsBundle.generate()),
    }  # fmt: skip
    return machine.drift(props, Reporter(""))


def test_one_that_the_cluster_knows_is_only_away(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, {"127.109.1.1": "a Node"}) == ""


def test_one_that_the_cluster_forgot_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "it left after this state was written" in looked(monkeypatch, {"127.109.1.1": None})


def test_any_control_plane_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, {"127.109.1.2": None})


def test_where_nobody_answers_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, {}) == ""


def test_one_of_another_cluster_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, {"127.109.1.1": None}, Mode.FOREIGN) == ""
