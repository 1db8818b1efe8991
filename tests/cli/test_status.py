"""What `status` says, most of all where nothing answers."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest

from cli import credentials, observe, words
from tests.cli.lab import VIP, garage, lab
from tests.providers.kubernetes.wire import Authority, answering, kubeconfig


def node(name: str, ready: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def test_the_shape_that_machines_read(tmp_path: Path) -> None:
    found = json.loads(json.dumps(observe.observe(lab(tmp_path)).as_json()))
    assert set(found) == {"cluster", "nodes", "vip"}
    assert found["vip"] == {"address": VIP, "holder": None}
    assert found["nodes"][0] == {
        "name": "node1",
        "role": "controlplane",
        "address": "127.107.2.1",
        "power": "unreachable",
        "talos": "not serving",
        "ready": None,
    }
    assert found["cluster"]["api"] == "unreachable"
    assert found["cluster"]["name"] == "home"


def test_a_lab_that_is_dead_holds_nobody_up(tmp_path: Path) -> None:
    known = dataclasses.replace(lab(tmp_path), kubeconfig=kubeconfig(Authority(), f"https://{VIP}:6443"))
    began = time.monotonic()
    status = observe.observe(known)
    assert time.monotonic() - began < 15
    assert [node.ready for node in status.nodes] == [None, None]


def test_a_password_that_cannot_be_opened_is_not_sent(tmp_path: Path) -> None:
    closed = lab(tmp_path)
    board = closed.settings.boards["board1"].model_copy(update={"password": None})
    assert observe.power(board) == "unknown"


def test_the_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words.show(observe.observe(lab(tmp_path)))
    shown = capsys.readouterr().out
    for word in ("node1", "controlplane", "127.107.2.1", "unreachable", "nobody", VIP):
        assert word in shown


def test_clusters_and_machines_before_their_first_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = observe.observe(garage(tmp_path))
    assert set(status.as_json()) == {"cluster", "nodes", "vip", "clusters", "machines"}
    (cluster,), machines = status.clusters, status.machines
    assert (cluster.name, cluster.kind, cluster.api) == ("garage", "k3s", "unknown")
    assert [(m.name, m.cluster, m.role, m.ready) for m in machines] == [
        ("rpi1", "garage", "controlplane", None),
        ("rpi2", "garage", "worker", None),
    ]
    words.show(status)
    shown = capsys.readouterr().out
    assert "node1" not in shown
    assert "rpi1     garage   controlplane  127.107.2.21  unknown" in shown


def test_a_cluster_says_which_of_its_hosts_are_ready(tmp_path: Path) -> None:
    authority, known = Authority(), garage(tmp_path)
    said = json.dumps({"gitVersion": "v1.36.1", "items": [node("rpi1", "True"), node("rpi2", "False")]})
    with answering(200, said, authority, tmp_path) as url:
        credentials.leave(known.stack, {"kubeconfigs": {"garage": kubeconfig(authority, url)}})
        status = observe.observe(known)
    assert (status.clusters[0].api, status.clusters[0].kubernetes) == ("answering", "v1.36.1")
    assert [machine.ready for machine in status.machines] == [True, False]


def test_secrets_stay_out_of_what_is_printed(tmp_path: Path) -> None:
    found = lab(tmp_path)
    assert "geheim" not in repr(found)
    assert "geheim" not in json.dumps(observe.observe(found).as_json())
