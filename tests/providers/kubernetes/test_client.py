"""What the client makes of every way an API server can disappoint."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.deadline import Deadline
from providers.errors import (
    AuthError,
    DeadlineError,
    ForeignNodeError,
    HomelabError,
    ProtocolError,
    RefusedError,
    UnreachableError,
    UserError,
)
from providers.kubernetes.client import Kube, NodeView
from tests.providers.kubernetes.wire import HOST, Authority, answering, kubeconfig, status


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.mark.parametrize(
    ("code", "body", "error", "word"),
    [
        (401, status(401, "Unauthorized"), AuthError, "expired"),
        (403, status(403, "nodes is forbidden"), RefusedError, "nodes is forbidden"),
        (422, status(422, "invalid"), RefusedError, "422"),
        (500, status(500, "etcdserver: request timed out"), UnreachableError, "etcdserver"),
        (503, "", UnreachableError, "503"),
        (404, "<html>not found</html>", ProtocolError, "not a Kubernetes API"),
        (200, "<html>welcome</html>", ProtocolError, "not a Kubernetes object"),
        (200, "[]", ProtocolError, "not a Kubernetes object"),
        (302, "", ProtocolError, "not a Kubernetes API"),
    ],
)
def test_answers_become_errors_of_ours(
    authority: Authority, code: int, body: str, error: type[HomelabError], word: str
) -> None:
    with answering(code, body) as url, Kube(kubeconfig(authority, url)) as kube, pytest.raises(error, match=word):
        kube.version()


FIELDS = st.sampled_from(["metadata", "name", "uid", "status", "conditions", "items", "type", "gitVersion", "spec"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(FIELDS, inner),
    max_leaves=8,
)


@given(one=st.dictionaries(FIELDS, VALUES))
@settings(max_examples=60, deadline=None)
def test_any_object_is_an_answer_or_an_error_of_ours(any_kube: tuple[Kube, list[str]], one: dict[str, Any]) -> None:
    kube, body = any_kube
    body[0] = json.dumps(one)
    for ask in (kube.version, kube.nodes, lambda: kube.node("n"), lambda: kube.pods("n")):
        with contextlib.suppress(HomelabError):
            ask()


@pytest.fixture(scope="module")
def any_kube(authority: Authority) -> Iterator[tuple[Kube, list[str]]]:
    body = [""]
    with answering(200, lambda: body[0]) as url, Kube(kubeconfig(authority, url)) as kube:
        yield kube, body


def test_a_missing_node_is_none_and_deleting_it_is_done(authority: Authority) -> None:
    """4c.24"""
    with answering(404, status(404, 'nodes "x" not found')) as url, Kube(kubeconfig(authority, url)) as kube:
        assert kube.node("x") is None
        assert not kube.delete_node("x", Deadline(1))
        assert not kube.cordon("x", Deadline(1))


def test_somebody_elses_404_is_not_a_missing_node(authority: Authority) -> None:
    with answering(404, "<html/>") as url, Kube(kubeconfig(authority, url)) as kube, pytest.raises(ProtocolError):
        kube.delete_node("x", Deadline(1))


def test_another_clusters_certificate(authority: Authority, tmp_path: Path) -> None:
    """4b.16"""
    with (
        answering(200, "{}", Authority("other"), tmp_path) as url,
        Kube(kubeconfig(authority, url)) as kube,
        pytest.raises(ForeignNodeError, match="not this cluster's"),
    ):
        kube.version()


def test_the_clusters_own_certificate(authority: Authority, tmp_path: Path) -> None:
    with (
        answering(200, '{"gitVersion": "v1.36.1"}', authority, tmp_path) as url,
        Kube(kubeconfig(authority, url)) as kube,
    ):
        assert kube.version() == "v1.36.1"


def test_refused_is_told_from_silent(authority: Authority) -> None:
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]
    with Kube(kubeconfig(authority, f"https://{HOST}:{port}")) as kube:
        assert not kube.healthy()
        with pytest.raises(UnreachableError, match="refuses the connection"):
            kube.version()


def test_silence_ends_with_the_timeout(authority: Authority) -> None:
    """4b.18"""
    with socket.create_server((HOST, 0)) as silent:
        url = f"https://{HOST}:{silent.getsockname()[1]}"
        with Kube(kubeconfig(authority, url), timeout_s=0.2) as kube:
            began = time.monotonic()
            with pytest.raises(UnreachableError, match="no answer in time"):
                kube.version()
            assert time.monotonic() - began < 2


def test_a_wait_says_what_it_saw_last(authority: Authority) -> None:
    with answering(503, status(503, "apiserver is shutting down")) as url, Kube(kubeconfig(authority, url)) as kube:
        with pytest.raises(DeadlineError, match=r"node3: Ready: not within 0 s; last seen: .*shutting down"):
            kube.wait_ready("node3", Deadline(0.1))
        with pytest.raises(DeadlineError, match="last seen"):
            kube.delete_node("node3", Deadline(0.1))


def test_waiting_does_not_go_on_after_a_refusal(authority: Authority) -> None:
    with (
        answering(401, status(401, "Unauthorized")) as url,
        Kube(kubeconfig(authority, url)) as kube,
        pytest.raises(AuthError),
    ):
        kube.wait_ready("node3", Deadline(60))


def test_a_node_that_joined_but_is_not_ready_is_told_once(authority: Authority) -> None:
    condition = {"type": "Ready", "status": "False", "message": "cni plugin not initialized"}
    node = {"metadata": {"name": "node3", "uid": "u"}, "status": {"conditions": [condition]}}
    said: list[str] = []
    with (
        answering(200, json.dumps(node)) as url,
        Kube(kubeconfig(authority, url)) as kube,
        pytest.raises(DeadlineError, match="cni plugin"),
    ):
        kube.wait_ready("node3", Deadline(0.6), said.append)
    assert said == ["node3: joined, not Ready (cni plugin not initialized)"]


def test_a_bare_node_can_be_read() -> None:
    view = NodeView.parse({"metadata": {"name": "n", "uid": "u"}})
    assert (view.ready, view.unschedulable, view.addresses) == (False, False, ())
    assert "has not reported" in view.reason


@pytest.mark.parametrize("text", ["", "[]", "a: b", "{", "current-context: x\ncontexts: []", "\x00"])
def test_a_kubeconfig_that_is_none(text: str) -> None:
    with pytest.raises(UserError, match=r"cannot be read.*homelab up"):
        Kube(text)


def test_a_damaged_certificate(authority: Authority) -> None:
    config = json.loads(kubeconfig(authority, "https://127.107.0.9:6443"))
    config["users"][0]["user"]["client-key-data"] = "bm90aGluZw=="
    with pytest.raises(UserError, match="damaged"):
        Kube(json.dumps(config))


def test_the_key_is_not_in_what_is_printed(authority: Authority) -> None:
    from providers.kubernetes.kubeconfig import Access

    access = Access.parse(kubeconfig(authority, "https://127.107.0.9:6443"))
    assert "PRIVATE" not in repr(access)
