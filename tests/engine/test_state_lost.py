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


def test_without_a_credential_it_stops_and_touches_nothing(either: Sandbox) -> None:
    credentials, kept = either.folder / ".homelab" / either.stack, either.folder / "kept"
    kept.mkdir()
    for name in FILES:
        shutil.move(credentials / name, kept / name)
    before = len(either.events())
    lose_state(either)
    done = either.up()
    assert done.code != 0
    assert "already configured" in done.output
    assert f".homelab/{either.stack}/talosconfig" in done.output
    assert touched(either, before) == set()
    for name in FILES:
        shutil.move(kept / name, credentials / name)


def test_with_the_talosconfig_everything_is_adopted(either: Sandbox) -> None:
    before = len(either.events())
    lose_state(either)
    either.up().ok()
    assert touched(either, before) == set()
    assert all(node["ready"] is True for node in either.status()["nodes"])
    either.preview_unchanged().ok()
    either.run("destroy-target", "node4", "--yes").ok()
    either.up().ok()
    assert set(either.count("flash_done").values()) == {1}
