"""What `status` says, most of all where nothing answers."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from cli import observe, words
from tests.cli.lab import VIP, lab
from tests.providers.kubernetes.wire import Authority, kubeconfig


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


def test_secrets_stay_out_of_what_is_printed(tmp_path: Path) -> None:
    found = lab(tmp_path)
    assert "geheim" not in repr(found)
    assert "geheim" not in json.dumps(observe.observe(found).as_json())
