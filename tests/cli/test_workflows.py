"""The workflows are sound, and their steps run as they stand in the files: what is behind a step is ours or a script.

Expressions are filled in as GitHub would, by a table: one that a test does not know fails it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import app
from tests.cli.forge import REPOSITORY, RUN, TOKEN, Forge, serving
from tests.cli.test_preview_report import PREVIEWS
from tests.engine.sandbox import ROOT, Sandbox
from tools import paths

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


@pytest.fixture
def forge() -> Iterator[Forge]:
    with serving() as server:
        yield server


def name(path: Path) -> str:
    return path.name


def workflow(file: str) -> dict[Any, Any]:
    return dict(yaml.safe_load((FOLDER / file).read_text(encoding="utf-8")))


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    return dict(workflow(path.name)["jobs"])


def test_actionlint_finds_nothing() -> None:
    linter = paths.actionlint()
    if not linter.exists():
        pytest.skip("actionlint is not here; `make test` builds it")
    done = subprocess.run(
        [linter, "-config-file", ROOT / ".github" / "actionlint.yaml", *WORKFLOWS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_actionlint_would_find_something(tmp_path: Path) -> None:
    linter = paths.actionlint()
    if not linter.exists():
        pytest.skip("actionlint is not here; `make test` builds it")
    text = (FOLDER / "preview.yml").read_text(encoding="utf-8").replace("pull-requests: write", "pull-requests: maybe")
    (tmp_path / "wrong.yml").write_text(text)
    done = subprocess.run([linter, tmp_path / "wrong.yml"], capture_output=True, text=True)
    assert "maybe" in done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_each_action_is_pinned_by_its_commit_and_says_its_version(path: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", path.read_text(encoding="utf-8"))
    assert used
    for action, rest in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", rest)


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_rights_are_given_job_by_job_and_no_stranger_gets_any(path: Path) -> None:
    found = workflow(path.name)
    assert found["permissions"] == {}
    assert "pull_request_target" not in found[True]  # `on`, to YAML 1.1
    for job in jobs(path).values():
        assert "permissions" in job
        assert job["timeout-minutes"] <= 90


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_no_step_is_a_text_that_a_stranger_wrote(path: Path) -> None:
    """An expression inside a script is part of the script; a branch may be called `$(reboot)`."""
    for job in jobs(path).values():
        for step in job["steps"]:
            assert not _EXPRESSION.search(step.get("run", ""))


def test_what_runs_a_strangers_code_has_neither_secrets_nor_rights() -> None:
    twin = jobs(FOLDER / "preview.yml")["twin"]
    assert twin["permissions"] == {"contents": "read"}
    assert "secrets." not in json.dumps(twin)
    assert "token" not in json.dumps(twin).lower()
    assert "environment" not in twin
    assert twin["runs-on"].startswith("ubuntu")  # never the owner's machine


def test_what_has_the_right_to_comment_runs_nothing_of_the_pull_request() -> None:
    comment = jobs(FOLDER / "preview-comment.yml")["comment"]
    checkouts = [step for step in comment["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert [set(step["with"]) for step in checkouts] == [{"persist-credentials"}]  # so it is the default branch
    assert "secrets." not in json.dumps(comment)


def test_each_pull_request_takes_exactly_one_way() -> None:
    lab, twin = (jobs(FOLDER / "preview.yml")[job]["if"] for job in ("lab", "twin"))
    trusted = lab.split(" && (!github.event.label")[0]
    assert twin.startswith(f"!({trusted})")
    assert "head.repo.full_name == github.repository" in trusted
    assert lab.split("(!github.event.label")[1] == twin.split("(!github.event.label")[1]


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_each_command_of_a_step_exists(path: Path) -> None:
    import typer

    group = typer.main.get_command(app)
    known = {verb: {o for p in c.params for o in p.opts} for verb, c in group.commands.items()}  # type: ignore[attr-defined]
    for job in jobs(path).values():
        for line in "\n".join(step.get("run", "") for step in job["steps"]).splitlines():
            for verb, rest in re.findall(r"(?:bin/homelab|-m cli\.main) ([a-z-]+)([^#;|]*)", line):
                assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= known[verb]


# The steps, as they stand


@dataclass
class Runner:
    """Runs a job's scripts in a folder, one after the other, as GitHub's runner does on Linux."""

    folder: Path
    values: Mapping[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    limit_s: float = 100.0

    def filled(self, text: str) -> str:
        def fill(match: re.Match[str]) -> str:
            if match[1] not in self.values:
                raise AssertionError(f"no value for the expression {match[1]!r}")
            return self.values[match[1]]

        return _EXPRESSION.sub(fill, text)

    def run(self, file: str, job: str, *names: str) -> subprocess.CompletedProcess[str]:
        """Run the named steps; gives what the last one did."""
        made = jobs(FOLDER / file)[job]
        steps = {step.get("name"): step for step in made["steps"]}
        done = None
        for each in names:
            env = {**made.get("env", {}), **steps[each].get("env", {})}
            whole = self.environment | {key: self.filled(str(value)) for key, value in env.items()}
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps[each]["run"]],
                cwd=self.folder, env=whole, capture_output=True, text=True, timeout=self.limit_s,
            )  # fmt: skip
            if done.returncode and each != names[-1]:
                raise AssertionError(f"{each}: {done.stdout}{done.stderr}")
        assert done is not None
        return done


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project with the real lab's settings, and no tools but scripts; `pulumi` previews what `preview.json` says.

    What converges a twin is written down and not done: `tests/engine` does it.
    """
    root = tmp_path / "checkout"
    Sandbox(root).prepare()
    shutil.copy(ROOT / "Pulumi.homelab.yaml", root)
    shutil.copy(ROOT / "requirements.txt", root)
    (root / ".venv").unlink()
    python = ROOT / ".venv" / "bin" / "python"
    script(root / ".venv/bin/python", f'exec {python} "$@"')
    script(
        root / ".venv/bin/homelab",
        f'echo "homelab $*" >> {tmp_path}/calls\n[ "$1" = up ] || exec {python} -m cli.main "$@"',
    )
    script(tmp_path / "bin/make", f'echo "make $*" >> {tmp_path}/calls')
    answer = f"case $1 in preview) cat {tmp_path}/preview.json; exit $(cat {tmp_path}/code);; *) echo '{{}}';; esac"
    script(tmp_path / "bin/pulumi", f'echo "pulumi $*" >> {tmp_path}/calls\n{answer}')
    (tmp_path / "code").write_text("0")
    return root


def environment(tmp_path: Path) -> dict[str, str]:
    """All that a fork's run has."""
    return {"PATH": f"{tmp_path}/bin:{os.defpath}", "HOMELAB_CACHE": f"{tmp_path}/cache", "HOME": str(tmp_path)}


def previews(tmp_path: Path, kind: str, code: int = 0) -> None:
    shutil.copy(PREVIEWS / f"{kind}.json", tmp_path / "preview.json")
    (tmp_path / "code").write_text(str(code))


TWIN = {"vars.HOMELAB_STACK || 'homelab'": "homelab"}
TWIN_STEPS = (
    "Install the tools",
    "Make a twin what the base branch says",
    "Install the tools that the change asks for",
    "Preview",
)


def test_a_forks_run_previews_on_a_twin_without_any_secret(checkout: Path, tmp_path: Path) -> None:
    previews(tmp_path, "node_added")
    runner = Runner(checkout, TWIN, environment(tmp_path))
    done = runner.run("preview.yml", "twin", *TWIN_STEPS)
    assert done.returncode == 0, done.stderr
    assert "| node4 | created: installed" in done.stdout
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call for call in calls if call.startswith(("make", "homelab"))] == [
        "make tools-up",
        "homelab twin-of homelab",
        "homelab up --stack homelab-twin",
        "make tools-up",
        "homelab twin-of homelab",
        "homelab preview-report --stack homelab-twin --save preview.json",
    ]
    assert json.loads((checkout / "preview.json").read_text())["steps"]


def test_a_forks_run_fails_where_something_would_be_lost(checkout: Path, tmp_path: Path) -> None:
    previews(tmp_path, "worker_reinstalled")
    done = Runner(checkout, TWIN, environment(tmp_path)).run("preview.yml", "twin", *TWIN_STEPS)
    assert done.returncode == 1
    assert (checkout / "preview.json").exists()  # and it is commented all the same


def comments(checkout: Path, tmp_path: Path, forge: Forge) -> Runner:
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"workflow_run": RUN}))
    forge.pulls = [{"number": 7, "from": "bob:more/nodes", "head": {"sha": "c0ffee"}}]
    kept = shutil.move(checkout / ".venv", tmp_path / "made-venv")
    script(tmp_path / "bin/python3", f'[ "$*" = "-m venv .venv" ] && cp -r {kept} .venv')
    script(Path(kept) / "bin/pip", f'echo "pip $*" >> {tmp_path}/calls')
    given = {"GITHUB_EVENT_PATH": str(event), "GITHUB_API_URL": forge.api, "GITHUB_REPOSITORY": REPOSITORY}
    env = {**environment(tmp_path), **given, "RUNNER_TEMP": str(tmp_path / "temp")}
    return Runner(checkout, {**TWIN, "github.token": TOKEN}, env)


def test_what_a_fork_found_is_commented_by_a_run_that_has_the_right(
    checkout: Path,
    tmp_path: Path,
    forge: Forge,
) -> None:
    runner = comments(checkout, tmp_path, forge)
    (tmp_path / "temp" / "preview").mkdir(parents=True)
    shutil.copy(PREVIEWS / "worker_reinstalled.json", tmp_path / "temp" / "preview" / "preview.json")
    done = runner.run("preview-comment.yml", "comment", "Install the Python packages", "Comment")
    assert done.returncode == 0, done.stderr
    assert "REINSTALLED" in forge.comments[0]["body"]
    assert forge.comments[0]["body"].startswith("<!-- homelab preview-report: homelab-twin -->")
    assert "pip install --quiet --require-hashes --requirement requirements.txt" in (tmp_path / "calls").read_text()


@pytest.mark.parametrize("text", ["", "[]", '{"steps": [{"op": 1}]}', "\x00"])
def test_what_is_no_document_is_not_commented(checkout: Path, tmp_path: Path, forge: Forge, text: str) -> None:
    runner = comments(checkout, tmp_path, forge)
    (tmp_path / "temp" / "preview").mkdir(parents=True)
    (tmp_path / "temp" / "preview" / "preview.json").write_text(text)
    done = runner.run("preview-comment.yml", "comment", "Install the Python packages", "Comment")
    assert done.returncode == 1
    assert forge.comments == []
    assert "Traceback" not in done.stderr


LAB = {
    "vars.HOMELAB_STACK": "homelab",
    "github.token": TOKEN,
    **dict.fromkeys(("vars.PULUMI_BACKEND_URL", "vars.AWS_REGION", "secrets.PULUMI_ACCESS_TOKEN"), ""),
    **dict.fromkeys(("secrets.AWS_ACCESS_KEY_ID", "secrets.AWS_SECRET_ACCESS_KEY"), ""),
    "secrets.PULUMI_CONFIG_PASSPHRASE": "correct horse battery",
}


@pytest.mark.parametrize(("kind", "code", "ends"), [("config_reboots", 0, 0), ("settings_wrong", 1, 1)])
def test_a_trusted_branch_is_previewed_against_the_lab(
    checkout: Path,
    tmp_path: Path,
    forge: Forge,
    kind: str,
    code: int,
    ends: int,
) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7}}))
    previews(tmp_path, kind, code)
    given = {"GITHUB_EVENT_PATH": str(event), "GITHUB_API_URL": forge.api, "GITHUB_REPOSITORY": REPOSITORY}
    runner = Runner(checkout, LAB, {**environment(tmp_path), **given})
    done = runner.run("preview.yml", "lab", "Install the tools", "Preview")
    assert done.returncode == ends, done.stderr
    assert forge.comments[0]["body"].startswith("<!-- homelab preview-report: homelab -->")
    assert "correct horse" not in forge.comments[0]["body"] + done.stdout + done.stderr
