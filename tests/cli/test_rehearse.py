"""A rehearsal: both programs side by side, one twin, and what the change did to it.

Here both programs are scripts that write down what they were asked; `tests/engine` plays it with real ones.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli import rehearse, rehearse_stage
from cli.rehearse import counted, end, play
from cli.rehearse_stage import FOLDER, build
from cli.stacks import Stack
from providers.errors import HomelabError, UserError
from tests.engine.sandbox import ROOT

NAME = "homelab-rehearsal"
# Stands for the whole program: writes down its folder, its words and what is secret about its environment.
PROGRAM = """
import json, os, pathlib, sys
here = pathlib.Path(".homelab").resolve()
with (here / "calls").open("a") as file:
    told = {key: value for key, value in os.environ.items() if key.startswith(("PULUMI_", "HOMELAB_STACK"))}
    file.write(json.dumps([pathlib.Path.cwd().name, sys.argv[1:], told]) + "\\n")
print("words of a run")
twin = here / "twin" / "homelab-rehearsal"
if sys.argv[1] == "up":
    twin.mkdir(parents=True, exist_ok=True)
    happened = json.loads(pathlib.Path("happens.json").read_text())
    with (twin / "events.jsonl").open("a") as file:
        file.writelines(json.dumps(event) + "\\n" for event in happened["events"])
    sys.exit(happened["code"])
if sys.argv[1] == "down":
    (twin / "events.jsonl").unlink()
    twin.rmdir()
"""


def boots(*modules: int) -> list[dict[str, Any]]:
    return [{"kind": "boot_started", "node": f"module-board1-{module}"} for module in modules]


def happens(root: Path, events: list[dict[str, Any]], code: int = 0) -> None:
    (root / "happens.json").write_text(json.dumps({"events": events, "code": code}))


def git(root: Path, *arguments: str) -> str:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@x", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@x"}
    env = {"PATH": os.environ["PATH"], "HOME": str(root), **who}
    done = subprocess.run(["git", *arguments], cwd=root, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository on `main`, with a change of the settings that is not committed yet."""
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "__init__.py").touch()
    (tmp_path / "cli" / "main.py").write_text(PROGRAM)
    (tmp_path / "twin" / "labs").mkdir(parents=True)
    shutil.copy(ROOT / "twin" / "labs" / "four.yaml", tmp_path / "twin" / "labs")
    shutil.copytree(ROOT / "twin" / "charts" / "metallb", tmp_path / "twin" / "charts" / "metallb")
    shutil.copy(ROOT / "Pulumi.homelab.yaml", tmp_path)
    (tmp_path / ".gitignore").write_text(".homelab/\nignored\n")
    (tmp_path / "old.txt").write_text("only in the commit")
    happens(tmp_path, [{"kind": "flash_done", "node": f"module-board1-{i}"} for i in (1, 2, 3, 4)])
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "as it is")
    (tmp_path / "old.txt").unlink()
    (tmp_path / "new.txt").write_text("not committed yet")
    (tmp_path / "ignored").write_text("of this machine")
    text = (tmp_path / "Pulumi.homelab.yaml").read_text()
    more = "    node5:\n      role: worker\n      address: 192.168.1.75\n      mac: '02:00:00:00:00:05'\n"
    more += "      machine: {board: board2, slot: 1}\n"
    text = text.replace("  homelab:platform:", f"{more}  homelab:platform:", 1)
    text = text.replace("  homelab:nodes:", "    board2: {address: 192.168.1.61}\n  homelab:nodes:", 1)
    (tmp_path / "Pulumi.homelab.yaml").write_text(text)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "of the real lab")
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://of-the-real-lab")
    return tmp_path


def calls(stage: rehearse_stage.Stage) -> list[Any]:
    return [json.loads(line) for line in (stage.folder / "shared" / "calls").read_text().splitlines()]


def test_one_side_is_the_commit_and_the_other_what_is_here_now(root: Path) -> None:
    stage = build(root, "main", NAME)
    assert stage.commit == git(root, "rev-parse", "main")
    assert (stage.base.root / "old.txt").exists()
    assert not (stage.base.root / "new.txt").exists()
    assert not (stage.change.root / "old.txt").exists()
    assert (stage.change.root / "new.txt").exists()
    assert not (stage.change.root / "ignored").exists()
    for side in (stage.base, stage.change):
        assert (side.root / ".homelab").resolve() == stage.folder / "shared"
        assert (side.root / ".venv").readlink() == root / ".venv"


def test_a_commit_that_nobody_knows(root: Path) -> None:
    with pytest.raises(UserError, match="--base nowhere: is no commit"):
        build(root, "nowhere", NAME)
    with pytest.raises(UserError, match="is no commit"):
        build(root, "--output=x", NAME)


def test_the_change_is_played_after_the_base_over_the_same_hardware(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    happens(root, [*boots(1, 2, 1), {"kind": "flash_done", "node": "module-board2-1"}, {"kind": "other", "node": "x"}])
    stage = build(root, "main", NAME)
    outcome = play(stage, "homelab")
    assert outcome.ok
    assert outcome.base == stage.commit
    assert (outcome.reboots, outcome.flashed) == ({"node1": 2, "node2": 1}, {"node5": 1})
    assert outcome.scale == 0.01
    asked = [(where, words) for where, words, _ in calls(stage)]
    assert asked == [(where, ["up", "--stack", NAME, "--yes"]) for where in ("base", "change")]
    hardware = [side.stack.lab_file.read_text() for side in (stage.base, stage.change)]
    assert hardware[0] == hardware[1]
    assert "module-board2-1" in hardware[0]
    settings = [side.stack.settings_file.read_text() for side in (stage.base, stage.change)]
    assert ["node5" in text for text in settings] == [False, True]
    assert "127.13.0.71:" not in settings[0]
    assert "127.13.0.71" in settings[0]
    assert capfd.readouterr().out == ""  # a run's own words are not what a machine reads


def test_nothing_of_the_real_lab_gets_into_it(root: Path) -> None:
    stage = build(root, "main", NAME)
    play(stage, "homelab")
    assert [env for _, _, env in calls(stage)] == [{"PULUMI_CONFIG_PASSPHRASE": "twin"}] * 2
    assert set(root.glob("Pulumi.*.yaml")) == {root / "Pulumi.homelab.yaml"}
    assert {path.name for path in (root / ".homelab").iterdir()} == {"rehearsal"}


def test_a_change_that_does_not_go_through(root: Path) -> None:
    happens(root, boots(4), code=255)
    outcome = play(build(root, "main", NAME), "homelab")
    assert not outcome.ok
    assert outcome.reboots == {"node4": 1}


def test_a_base_that_does_not_come_up_is_no_verdict_on_the_change(root: Path) -> None:
    happens(root, [], code=1)
    git(root, "commit", "-q", "-a", "-m", "broken")
    stage = build(root, "main", NAME)
    with pytest.raises(HomelabError, match="did not become what"):
        play(stage, "homelab")
    assert [where for where, _, _ in calls(stage)] == ["base"]


def test_what_a_rehearsal_made_is_ended_by_the_next_one(root: Path) -> None:
    stage = build(root, "main", NAME)
    play(stage, "homelab")
    assert stage.change.stack.twin_state.exists()
    end(root, NAME)
    assert not (root / FOLDER).exists()
    end(root, NAME)


def test_the_verb_tells_it_and_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr("cli.rehearse.stacks.find", lambda name: Stack(name, root))
    happens(root, boots(3))
    rehearse.command(base="main", stack="homelab", keep=False, as_json=True)
    told = json.loads(capfd.readouterr().out)
    assert (told["ok"], told["reboots"], told["flashed"]) == (True, {"node3": 1}, {})
    assert told["gap_s"] >= 0
    assert told["change_s"] > 0
    assert not (root / FOLDER).exists()


def test_the_verb_tells_people_in_a_table(root: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr("cli.rehearse.stacks.find", lambda name: Stack(name, root))
    happens(root, boots(3, 3))
    rehearse.command(base="main", stack="homelab", keep=True)
    said = " ".join(capfd.readouterr().out.split())
    assert "went through yes" in said
    assert "rebooted node3 2x" in said
    assert "written nobody" in said
    assert (root / FOLDER).exists()


def test_a_twin_is_not_rehearsed() -> None:
    with pytest.raises(UserError, match="stack twin is a twin"):
        rehearse.command(stack="twin")


def test_modules_that_no_settings_name_keep_their_own_name() -> None:
    assert counted(boots(1, 9), "boot_started", {"module-board1-1": "node1"}) == {"node1": 1, "module-board1-9": 1}
