"""What `doctor` says to type, where something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import doctor, observe
from tests.cli.lab import lab


def fix_for(tmp_path: Path, seen: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(observe, "mode", lambda *_: seen)
    found = lab(tmp_path)
    return doctor._node(found.settings.nodes["node1"], found).fix


def test_a_node_that_runs_while_its_talosconfig_is_lost_asks_for_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix = fix_for(tmp_path, "configured", monkeypatch)
    assert str(tmp_path / ".homelab" / "homelab" / "talosconfig") in fix
    assert "homelab up --stack homelab" in fix


def test_another_clusters_node_is_wiped_with_that_clusters_own_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "talosctl -n 127.107.2.1 reset" in fix_for(tmp_path, "foreign", monkeypatch)


def test_a_node_without_a_config_only_needs_an_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fix_for(tmp_path, "maintenance", monkeypatch) == "homelab up --stack homelab"
