"""The report on the real engine: a real lab's settings change, and are previewed on a twin without its secrets."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_workflows import TWIN, TWIN_STEPS, Runner, script
from tests.engine.sandbox import ROOT, Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

REAL = "Pulumi.homelab.yaml"
WORKER = "    node4:\n"


def fork(folder: Path) -> Sandbox:
    """A copy of the program with the real lab's shipped settings, and a twin of it on addresses of this test's own."""
    program = Sandbox(folder).prepare()
    lab = replace(program, stack="homelab-twin", lab="homelab-twin")
    network = random.randrange(129, 200, 2)
    lab.edit("cli/twin_of_settings.py", "NETWORK = 11 ", f"NETWORK = {network} ")
    shutil.copy(ROOT / REAL, folder)
    return lab


def change(lab: Sandbox, old: str, new: str) -> None:
    """Change the real settings, and the twin's with them."""
    lab.edit(REAL, old, new)
    twin_of(lab)


def twin_of(lab: Sandbox) -> None:
    """Write the twin anew from the real settings."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "twin-of", "homelab"],
        cwd=lab.folder, env=lab.environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def report(lab: Sandbox, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The report's exit code, and what it says to a machine."""
    out = lab.folder / "report.json"
    done = lab.run("preview-report", "--save", str(out), "--json", *arguments)
    text = done.output[done.output.index("{\n") : done.output.rindex("}") + 1]
    return done.code, dict(json.loads(text))


def row(told: dict[str, Any], name: str) -> dict[str, Any]:
    return next(dict(one) for one in told["rows"] if one["name"] == name)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    lab = fork(tmp_path_factory.mktemp("fork"))
    twin_of(lab)
    lab.up().ok()
    yield lab
    lab.end()


def test_the_same_settings_change_nothing(lab: Sandbox) -> None:
    code, told = report(lab)
    assert (code, told["rows"], told["summary"]) == (0, [], "nothing would change")


@pytest.mark.parametrize(
    ("lines", "verb", "text", "code"),
    [
        (
            "      patches: [{machine: {sysctls: {vm.max_map_count: '262144'}}}]\n",
            "changes",
            "changes machine.sysctls",
            0,
        ),
        ("      patches: [{machine: {udev: {rules: ['SUBSYSTEM==drm']}}}]\n", "changes", "needs a reboot for", 0),
        ("      generation: 1\n", "REINSTALLED", "generation 1 -> 2", 1),
        ("      disabled: true\n", "LEAVES", "LEAVES", 1),
    ],
)
def test_what_a_change_of_a_node_would_do(lab: Sandbox, lines: str, verb: str, text: str, code: int) -> None:
    change(lab, WORKER, f"{WORKER}{lines}")
    try:
        found, told = report(lab)
        assert found == code
        assert row(told, "node4")["verb"] == verb
        assert text in row(told, "node4")["text"]
        assert report(lab, "--acknowledge", "node4")[0] == 0
    finally:
        change(lab, f"{WORKER}{lines}", WORKER)


def test_a_control_plane_less(lab: Sandbox) -> None:
    change(lab, "    node3:\n", "    node3:\n      disabled: true\n")
    try:
        code, told = report(lab)
        assert (code, told["unacknowledged"]) == (1, ["node3"])
        assert row(told, "etcd")["text"].startswith("3 -> 2 members, quorum kept")
    finally:
        change(lab, "    node3:\n      disabled: true\n", "    node3:\n")


def test_a_mistake_is_a_report_too(lab: Sandbox) -> None:
    """The twin's settings can't be written then; those of before still can be wrong in the program."""
    settings = (lab.folder / lab.settings).read_text(encoding="utf-8")
    lab.write(
        lab.settings, settings.replace("kubernetes:\n      version: v1.36.1", "kubernetes:\n      version: v1.99.0")
    )
    try:
        code, told = report(lab)
        assert (code, told["failed"]) == (1, True)
        assert "is too new for Talos" in " ".join(told["failure"])
        assert str(lab.folder) not in " ".join(told["failure"])
    finally:
        lab.write(lab.settings, settings)


def test_no_secret_and_no_path_is_in_what_is_saved(lab: Sandbox) -> None:
    change(lab, WORKER, f"{WORKER}      generation: 1\n")
    try:
        report(lab)
        text = (lab.folder / "report.json").read_text(encoding="utf-8")
        assert "opens-this-board" not in text
        assert "PRIVATE KEY" not in text
        assert str(lab.folder) not in text
    finally:
        change(lab, f"{WORKER}      generation: 1\n", WORKER)


def test_a_forks_workflow_as_it_stands(tmp_path: Path) -> None:
    """With an empty environment; only make, which would build the tools that are there, is a script."""
    lab = fork(tmp_path / "checkout")
    python = ROOT / ".venv" / "bin" / "python"
    (lab.folder / ".venv").unlink()
    (lab.folder / ".venv" / "bin").mkdir(parents=True)
    for path in (ROOT / ".venv" / "bin").iterdir():
        (lab.folder / ".venv" / "bin" / path.name).symlink_to(path)
    for name in ("pyvenv.cfg", "lib"):
        (lab.folder / ".venv" / name).symlink_to(ROOT / ".venv" / name)
    (lab.folder / ".venv" / "bin" / "homelab").unlink(missing_ok=True)
    script(lab.folder / ".venv" / "bin" / "homelab", f'exec {python} -m cli.main "$@"')
    script(tmp_path / "bin" / "make", "exit 0")
    runner = Runner(lab.folder, TWIN, {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(Path.home())}, limit_s=600)
    try:
        runner.run("preview.yml", "twin", *TWIN_STEPS[:2])
        lab.edit(REAL, WORKER, f"{WORKER}      generation: 1\n")
        done = runner.run("preview.yml", "twin", *TWIN_STEPS[2:])
        assert done.returncode == 1
        assert re.search(r"\| node4 \| ⚠️ REINSTALLED", done.stdout)
    finally:
        lab.end()
