"""How `pulumi` is called, and what is made of its answers; a script stands in for it here."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli import run_log
from cli.engine import Engine, Resource
from cli.stacks import Stack
from providers.errors import HomelabError, UserError
from tests.cli.events import first_up


class Script:
    """A `pulumi` that writes down how it was called and says what it is told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        path = folder / "pulumi"
        path.write_text(
            f'#!/bin/sh\necho "$*" >> {folder}/calls\ncat {folder}/stdout\ncat {folder}/stderr >&2\n'
            f"exit $(cat {folder}/code)\n"
        )
        path.chmod(0o755)
        self.says()

    def does(self, script: str) -> None:
        (self._folder / "pulumi").write_text(f"#!/bin/sh\n{script}")

    def says(self, stdout: str = "", stderr: str = "", code: int = 0) -> None:
        for name, text in (("stdout", stdout), ("stderr", stderr), ("code", str(code))):
            (self._folder / name).write_text(text)

    @property
    def calls(self) -> list[str]:
        path = self._folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def environment(self, backend: Path) -> dict[str, str]:
        return {"PATH": f"{self._folder}:{os.defpath}", "PULUMI_BACKEND_URL": f"file://{backend}"}


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path / "bin")


@pytest.fixture
def engine(tmp_path: Path, script: Script) -> Engine:
    return Engine(Stack("homelab", tmp_path), script.environment(tmp_path / "state"))


def test_selecting_makes_the_backends_folder(engine: Engine, script: Script, tmp_path: Path) -> None:
    engine.select()
    assert (tmp_path / "state").is_dir()
    assert script.calls == ["stack select --create homelab --non-interactive --color never"]


def test_selecting_releases_a_dead_runs_lock(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """4d.46"""
    path = tmp_path / "state" / ".pulumi" / "locks" / "organization" / "homelab" / "homelab" / "x.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"pid": os.getpid(), "hostname": socket.gethostname(), "username": "ann"}))
    engine.select()
    assert not path.exists()
    assert "released the lock that an ended run had left" in capsys.readouterr().err


def test_a_verb_keeps_the_engines_exit_code_and_words(
    engine: Engine, script: Script, capfd: pytest.CaptureFixture[str]
) -> None:
    script.says("Updating", "warning: pending operations", 255)
    assert engine.run("up", "--yes", "--target", "**::node3") == 255
    assert [re.sub(r"--event-log \S+ ", "", call) for call in script.calls] == [
        "up --stack homelab --yes --target **::node3"
    ]
    assert capfd.readouterr().out == "Updating"


def test_a_run_leaves_a_record_of_the_engines_events(engine: Engine, script: Script, tmp_path: Path) -> None:
    script.does(
        f'test "$PULUMI_DEBUG_COMMANDS" = true || exit 9\n'  # without it the engine knows no --event-log
        f"while [ $# -gt 0 ]; do [ $1 = --event-log ] && cp {tmp_path}/told $2; shift; done; exit 3\n"
    )
    (tmp_path / "told").write_text("".join(first_up()))
    assert engine.run("up") == 3
    (run,) = run_log.last(engine.stack, 20)
    assert (run.verb, run.outcome) == ("up", "failed")
    assert [step.name for step in run.steps][:2] == ["node1-flash", "node1-power"]


@pytest.mark.parametrize(
    "entry",
    [
        {"value": '{"b": {"password": "p"}}', "objectValue": {"b": {"password": "p"}}, "secret": True},
        {"value": '{"b": {"password": "p"}}', "secret": True},
    ],
    ids=["objects", "text"],
)
def test_the_configuration_comes_as_objects(engine: Engine, script: Script, entry: dict[str, Any]) -> None:
    script.says(json.dumps({"homelab:boards": entry, "other:name": {"value": "x"}}))
    assert engine.config() == {"homelab:boards": {"b": {"password": "p"}}, "other:name": "x"}


def test_the_state_without_a_resource(engine: Engine, script: Script) -> None:
    for deployment in ({}, {"resources": None}, None):
        script.says(json.dumps({"version": 3, "deployment": deployment}))
        assert engine.resources() == []


def test_nodes_are_the_labs_own(engine: Engine, script: Script) -> None:
    urns = {"homelab:Node": "node1", "homelab:ControlPlane": "cp", "kubernetes:core/v1:Node": "node1"}
    resources = [{"urn": f"urn:pulumi:s::homelab::{kind}::{name}", "type": kind} for kind, name in urns.items()]
    script.says(json.dumps({"deployment": {"resources": resources}}))
    assert [resource.type for resource in engine.resources() if resource.is_node] == ["homelab:Node"]
    assert Resource(resources[0]["urn"], "homelab:Node").name == "node1"


@pytest.mark.parametrize(
    ("stderr", "word"),
    [
        (
            "warning: x\nerror: incorrect passphrase\n",
            r"pulumi stack export: incorrect passphrase; put .* into \.homelab/passphrase .*",
        ),
        ("something else\n", "pulumi stack export: something else"),
        ("", "pulumi stack export: it gave no reason"),
    ],
)
def test_what_the_engine_says_against_it(engine: Engine, script: Script, stderr: str, word: str) -> None:
    script.says("", stderr, 1)
    with pytest.raises(HomelabError, match=f"^{word}$"):
        engine.resources()


def test_what_is_no_json(engine: Engine, script: Script) -> None:
    script.says("Please choose a stack")
    with pytest.raises(HomelabError, match="gave no JSON"):
        engine.outputs()


def test_removing_a_stack_that_is_not_there(engine: Engine, script: Script, tmp_path: Path) -> None:
    engine.remove()
    assert script.calls == []
    state = tmp_path / "state" / ".pulumi" / "stacks" / "homelab" / "homelab.json"
    state.parent.mkdir(parents=True)
    state.touch()
    script.says("", "error: no stack named 'homelab' found\n", 255)
    engine.remove()
    script.says("", "error: broken\n", 255)
    with pytest.raises(HomelabError, match="broken"):
        engine.remove()
    assert script.calls[0].startswith("stack rm --force --yes --preserve-config homelab")


def test_without_an_engine(tmp_path: Path) -> None:
    engine = Engine(Stack("homelab", tmp_path), {"PATH": str(tmp_path)})
    with pytest.raises(UserError, match="make up"):
        engine.run("up")


def test_an_interrupt_is_pulumis_to_end(tmp_path: Path) -> None:
    """4d.36: killing pulumi half-way leaves pending operations; it ends by itself after a Ctrl-C."""
    pulumi = tmp_path / "pulumi"
    pulumi.write_text('#!/bin/sh\ntrap "echo ended well; exit 7" INT\necho runs\nwhile :; do sleep 0.02; done\n')
    pulumi.chmod(0o755)
    code = (
        "import sys; from pathlib import Path; from cli.engine import Engine; from cli.stacks import Stack\n"
        f"sys.exit(Engine(Stack('x', Path({str(tmp_path)!r})), {{'PATH': '{tmp_path}:/usr/bin:/bin'}}).run('up'))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as run:
        assert run.stdout
        assert run.stdout.readline() == b"runs\n"
        os.killpg(run.pid, signal.SIGINT)  # what a terminal does
        assert run.stdout.read() == b"ended well\n"
    assert run.returncode == 7


def test_a_missing_passphrase_is_told_with_the_place_where_it_goes(engine: Engine) -> None:
    engine.stack.settings_file.write_text("config: {}\n")
    with pytest.raises(UserError, match=r"no passphrase is given; put .* into \.homelab/passphrase"):
        engine.require_passphrase()


@pytest.mark.parametrize("given", ["PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"])
def test_a_passphrase_may_be_a_word_or_a_file(engine: Engine, given: str) -> None:
    engine.stack.settings_file.write_text("config: {}\n")
    engine.environment[given] = "x"
    engine.require_passphrase()


def test_a_stack_with_another_provider_of_secrets_needs_no_passphrase(engine: Engine) -> None:
    engine.stack.settings_file.write_text("secretsprovider: gcpkms://key\nconfig: {}\n")
    engine.require_passphrase()
