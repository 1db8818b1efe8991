"""The command as people meet it: help, refusals, and errors on one line."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cli.main import app

VERBS = ("up", "preview", "refresh", "destroy", "destroy-target", "status", "doctor", "down", "bench")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_says_what_it_does_and_what_it_never_does(verb: str) -> None:
    code, said = run(verb, "--help")
    assert code == 0
    assert any(word in said for word in ("never", "nothing", "no device"))


def test_the_command_alone_lists_its_verbs() -> None:
    _, said = run()
    assert all(verb in said for verb in VERBS)


@pytest.mark.parametrize("verb", ["up", "preview", "refresh", "destroy", "status", "doctor", "down"])
def test_a_mistyped_stack_is_one_line(verb: str) -> None:
    code, said = run(verb, "--stack", "twim")
    assert code == 1
    assert said.startswith("error: no stack 'twim'")
    assert said.count("\n") == 1


def test_a_mistyped_option_is_not_passed_on() -> None:
    code, said = run("up", "--yess")
    assert code == 2
    assert "No such option" in said


def test_a_real_lab_is_never_ended_by_down() -> None:
    code, said = run("down", "--stack", "homelab", "--yes")
    assert code == 1
    assert "is a real lab" in said


@pytest.mark.parametrize("verb", ["up", "refresh", "destroy"])
def test_a_real_lab_is_not_touched_when_nobody_can_be_asked(verb: str) -> None:
    code, said = run(verb, "--stack", "homelab")
    assert code == 1
    assert "nobody to ask" in said
    assert "YES=1" in said


def test_ending_the_twin_is_asked_for() -> None:
    code, said = run("down")
    assert code == 1
    assert "nobody to ask" in said
