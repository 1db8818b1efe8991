"""Proof 4: the stack's state is lost. With a talosconfig everything is adopted; without one nothing is touched."""

from __future__ import annotations

import shutil

import pytest

from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

FILES = ("kubeconfig", "talosconfig")
TOUCHING = {
    "flash_started", "power_on", "power_off", "config_applied", "bootstrapped", "reset", "boot_started",
}  # fmt: skip


def lose_state(lab: Sandbox) -> None:
    shutil.rmtree(lab.folder / ".homelab" / "state")


def touched(lab: Sandbox, since: int) -> set[str]:
    return {event["kind"] for event in lab.events()[since:]} & TOUCHING


def test_without_a_credential_it_stops_and_touches_nothing(lab: Sandbox) -> None:
    credentials, kept = lab.folder / ".homelab" / lab.stack, lab.folder / "kept"
    kept.mkdir()
    for name in FILES:
        shutil.move(credentials / name, kept / name)
    before = len(lab.events())
    lose_state(lab)
    done = lab.up()
    assert done.code != 0
    assert "already configured" in done.output
    assert f".homelab/{lab.stack}/talosconfig" in done.output
    assert touched(lab, before) == set()
    for name in FILES:
        shutil.move(kept / name, credentials / name)


def test_with_the_talosconfig_everything_is_adopted(lab: Sandbox) -> None:
    before = len(lab.events())
    lose_state(lab)
    lab.up().ok()
    assert touched(lab, before) == set()
    assert all(node["ready"] is True for node in lab.status()["nodes"])
    lab.preview_unchanged().ok()
    lab.run("destroy-target", "node4", "--yes").ok()
    lab.up().ok()
    assert set(lab.count("flash_done").values()) == {1}
