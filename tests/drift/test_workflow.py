"""The nightly workflow: its script runs as it stands, and it can't write anything anywhere."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.drift import command
from cli.main import app

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".github" / "workflows" / "drift.yml"
TEXT = FILE.read_text(encoding="utf-8")
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)
JOB: dict[str, Any] = WORKFLOW["jobs"]["drift"]
STEPS: list[dict[str, Any]] = JOB["steps"]

HOMELAB = """\
#!/bin/sh
echo "asked: $*"
echo "passphrase: ${PULUMI_CONFIG_PASSPHRASE-none}, token: ${PULUMI_ACCESS_TOKEN-none}"
exit "$CODE"
"""


def step(name: str) -> dict[str, Any]:
    return next(found for found in STEPS if found.get("name") == name)


def run(folder: Path, code: int, **environment: str) -> subprocess.CompletedProcess[str]:
    """The last step's script as a runner would run it, over a `homelab` that ends with `code`."""
    homelab = folder / ".venv" / "bin" / "homelab"
    homelab.parent.mkdir(parents=True)
    homelab.write_text(HOMELAB)
    homelab.chmod(0o755)
    given = dict.fromkeys(step("Look for drift")["env"], "") | {"STACK": "homelab", "TEXTFILE": "", "AWS_REGION": ""}
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step("Look for drift")["run"]],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "CODE": str(code), "GITHUB_STEP_SUMMARY": str(folder / "summary"), **given}
        | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("code", [0, 1, 3])
def test_it_ends_as_the_verb_does_and_tells_the_same(tmp_path: Path, code: int) -> None:
    done = run(tmp_path, code)
    assert done.returncode == code, done.stderr
    assert "asked: drift --stack homelab\n" in done.stdout
    assert done.stdout in (tmp_path / "summary").read_text()


def test_metrics_are_written_where_the_owner_says(tmp_path: Path) -> None:
    assert (
        "drift --stack homelab --textfile /var/lib/x y.prom\n" in run(tmp_path, 0, TEXTFILE="/var/lib/x y.prom").stdout
    )


def test_a_secret_that_is_not_set_is_no_empty_secret(tmp_path: Path) -> None:
    done = run(tmp_path, 0, PULUMI_CONFIG_PASSPHRASE="geheim")
    assert "passphrase: geheim, token: none" in done.stdout


def test_the_verb_takes_what_it_is_given() -> None:
    assert any(known.callback is command and known.name == "drift" for known in app.registered_commands)


def test_it_may_only_read_and_takes_no_code_of_others() -> None:
    assert WORKFLOW["permissions"] == {}
    assert JOB["permissions"] == {"contents": "read"}
    assert set(WORKFLOW[True]) == {"schedule", "workflow_dispatch"}  # YAML 1.1 takes `on` for true


def test_actions_are_pinned_and_secrets_are_only_in_the_step_that_needs_them() -> None:
    assert all(re.search(r"@[0-9a-f]{40}$", found["uses"]) for found in STEPS if "uses" in found)
    assert "secrets." not in str(JOB.get("env")) + str(WORKFLOW.get("env"))
    assert [found.get("name") for found in STEPS if "secrets." in str(found)] == ["Look for drift"]


def test_no_expression_is_in_a_script() -> None:
    assert not [found for found in STEPS if "${{" in found.get("run", "")]
