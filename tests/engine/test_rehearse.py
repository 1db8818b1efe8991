"""A rehearsal with the real engine: a change that reboots the control planes, done on a twin of the shipped lab."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_rehearse import git
from tests.engine.sandbox import ROOT, Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1500)]

REAL = "Pulumi.homelab.yaml"


def test_what_a_change_costs_is_measured(tmp_path: Path) -> None:
    lab = Sandbox(tmp_path / "lab").prepare()
    shutil.copy(ROOT / REAL, lab.folder)
    (lab.folder / ".gitignore").write_text(".homelab/\n.venv\ntmp/\n__pycache__/\n")
    lab.edit("cli/rehearse.py", "NETWORK = 13 ", f"NETWORK = {random.randrange(201, 250, 2)} ")
    git(lab.folder, "init", "-q", "-b", "main")
    git(lab.folder, "add", "-A")
    git(lab.folder, "commit", "-q", "-m", "as it is")
    text = (lab.folder / REAL).read_text(encoding="utf-8")
    text = text.replace("      version: v1.13.9", "      allow_reboot: true\n      version: v1.13.9", 1)
    patch = "    patches: [{machine: {udev: {rules: ['SUBSYSTEM==drm']}}}]\n"
    head, tail = text.split("    kubernetes: #", 1)
    lab.write(REAL, f"{head}{patch}    kubernetes: #{tail}")
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "rehearse", "--base", "main", "--json"],
        cwd=lab.folder, env=lab.environment(), capture_output=True, text=True, timeout=1400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    told = json.loads(done.stdout)
    print(f"base {told['base_s']:.0f} s, change {told['change_s']:.0f} s, gap {told['gap_s']:.2f} s")
    assert told["ok"]
    assert told["reboots"] == {f"node{number}": 1 for number in (1, 2, 3, 4)}
    assert told["flashed"] == {}
    assert 0 < told["gap_s"] < told["change_s"]
    assert not (lab.folder / ".homelab" / "rehearsal").exists()
