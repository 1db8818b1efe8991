"""What `doctor` says to type, where something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import doctor, observe
from tests.cli.lab import garage, lab


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


def test_a_lab_of_hosts_alone_is_asked_for_its_hosts_and_for_no_vip(tmp_path: Path) -> None:
    checks = doctor._lab(garage(tmp_path))
    assert [(check.what, check.ok) for check in checks] == [("host rpi1", False), ("host rpi2", False)]
    assert all("rpi" in check.seen and "docs/runbooks/hosts.md" in check.fix for check in checks)


def test_a_host_whose_key_is_not_set_says_what_to_type(tmp_path: Path) -> None:
    found = garage(tmp_path)
    host = found.settings.hosts["rpi1"]
    locked = host.model_copy(update={"ssh": host.ssh.model_copy(update={"key": None})})
    check = doctor._host(locked, found)
    assert not check.ok
    assert "homelab secret 'clusters.garage.ssh.key'" in check.fix
