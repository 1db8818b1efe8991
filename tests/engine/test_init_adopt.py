"""Coming in: settings that `init` wrote converge, and settings that `adopt` wrote change nothing (issue 5, proof 3)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]

PASSWORD = "opens-this-board"
TOUCHING = {
    "flash_started", "power_on", "power_off", "config_applied", "bootstrapped", "reset", "boot_started", "rebooting",
}  # fmt: skip


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A twin whose stack has no settings."""
    sandbox = Sandbox(tmp_path_factory.mktemp("lab")).prepare()
    (sandbox.folder / sandbox.settings).unlink()
    sandbox.write("password", PASSWORD)
    yield sandbox
    sandbox.end()


@pytest.fixture(scope="module")
def lab(blank: Sandbox) -> Sandbox:
    """The same after `init` and `up`: four Ready nodes."""
    told = [
        *(f"--address=node{slot}={blank.prefix}.1{slot}" for slot in range(1, 5)),
        *(f"--mac=node{slot}=02:00:00:0a:00:0{slot}" for slot in range(1, 5)),
    ]
    factory = f"http://{blank.prefix}.2:8080"
    # No --board: the twin's board announces itself.
    found = ("--vip", f"{blank.prefix}.10", "--factory", factory, "--password-file", "password", "--install")
    blank.run("init", *found, *told).ok()
    blank.up().ok()
    return blank


def touched(lab: Sandbox, since: int) -> set[str]:
    return {event["kind"] for event in lab.events()[since:]} & TOUCHING


def test_init_touched_nothing_and_up_converges(lab: Sandbox) -> None:
    status = lab.status()
    assert [node["ready"] for node in status["nodes"]] == [True] * 4
    assert sum(node["role"] == "controlplane" for node in status["nodes"]) == 3
    lab.preview_unchanged().ok()


def test_the_password_is_in_the_file_encrypted(lab: Sandbox) -> None:
    text = (lab.folder / lab.settings).read_text(encoding="utf-8")
    assert PASSWORD not in text
    boards = yaml.safe_load(text)["config"]["homelab:boards"]
    assert boards["board1"]["address"] == f"{lab.prefix}.60:8443"
    assert list(boards["board1"]["password"]) == ["secure"]
    assert "# the operating system of the nodes" in text, "comments outlive the storing of a secret"


def test_init_does_not_write_over_it(lab: Sandbox) -> None:
    before = (lab.folder / lab.settings).read_bytes()
    done = lab.run("init", "--board", f"{lab.prefix}.60:8443")
    assert done.code == 1
    assert "is there already and was not touched" in done.output
    assert (lab.folder / lab.settings).read_bytes() == before


def forget(lab: Sandbox) -> Path:
    """All that this machine knows of the cluster, but its talosconfig and the simulated lab, which stands beside it."""
    kept = lab.folder / "talosconfig"
    shutil.copy2(lab.folder / ".homelab" / lab.stack / "talosconfig", kept)
    shutil.rmtree(lab.folder / ".homelab" / "state")
    for known in (lab.folder / ".homelab" / lab.stack).iterdir():
        if known == lab.twin_state:
            continue
        if known.is_dir():
            shutil.rmtree(known)
        else:
            known.unlink()
    (lab.folder / lab.settings).unlink()
    return kept


def test_adopt_then_up_changes_nothing(lab: Sandbox) -> None:
    kept, before = forget(lab), len(lab.events())
    lab.run("adopt", "--talosconfig", str(kept), "--password-file", "password").ok()
    assert touched(lab, before) == set()
    lab.up().ok()
    assert touched(lab, before) == set()
    assert all(node["ready"] is True for node in lab.status()["nodes"])
    lab.preview_unchanged().ok()


def test_a_config_that_was_edited_by_hand_is_kept(lab: Sandbox) -> None:
    """What others put into the machine configs: `adopt` makes patches of it, and `up` leaves it there."""
    shown = "    # patches: [] # Talos config patches for all nodes"
    lab.edit(lab.settings, shown, f'    patches: [{{machine: {{sysctls: {{net.core.somaxconn: "4096"}}}}}}]\n{shown}')
    lab.up().ok()
    kept, before = forget(lab), len(lab.events())
    lab.run("adopt", "--talosconfig", str(kept), "--password-file", "password").ok()
    assert "somaxconn" in (lab.folder / lab.settings).read_text(encoding="utf-8")
    lab.up().ok()
    assert touched(lab, before) == set()
    lab.preview_unchanged().ok()
