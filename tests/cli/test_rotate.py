"""`homelab rotate`: its steps, a run that ends anywhere between them, and what is refused at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import rotate_prove
from cli.main import app
from cli.rotate import COSTS, begin, carry_out, story
from cli.rotate_logins import keeps_its_users
from cli.rotate_runs import Held, read
from providers.deployment import SECRET, SIGNATURE
from providers.errors import HomelabError, RefusedError, UserError
from providers.talos import rotation, wire
from providers.talos.rotation import NONE, STEPS, advance, wish
from providers.talos.secrets import SecretsBundle

BUNDLE = SecretsBundle.generate()


class Killed(Exception):
    """The run ended here."""


class Program:
    """Keeps the keys as the Secrets resource does. It is killed at one moment: before or after a run noted its step."""

    stack = "twin"

    def __init__(self, dies: int | None = None, *, after: bool = False, converged: bool = True) -> None:
        self.kept = Held(BUNDLE, NONE)
        self.wishes: list[str] = []
        self._dies, self._after, self._converged = dies, after, converged

    def held(self) -> Held:
        return self.kept

    def converged(self) -> bool:
        return self._converged

    def up(self, wish: str) -> None:
        self.wishes.append(wish)
        dies = len(self.wishes) - 1 == self._dies
        if dies and not self._after:
            raise Killed
        self.kept = Held(*advance(self.kept.bundle, self.kept.rotation, wish))
        if dies:
            raise Killed


class Proven:
    """Notes what was proven; the proof itself can fail once."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.steps: list[int] = []
        self._fails_at = fails_at

    def __call__(self, held: Held) -> None:
        if held.rotation.step == self._fails_at:
            self._fails_at = None
            raise HomelabError("m1: the new client is not let in")
        self.steps.append(held.rotation.step)


def ended(program: Program, what: str) -> bool:
    return program.kept.rotation == NONE and program.kept.bundle != BUNDLE and what in STEPS


@pytest.mark.parametrize("what", STEPS)
def test_each_step_is_an_up_and_a_proof(what: str) -> None:
    program, proven = Program(), Proven()
    carry_out(what, program, proven)
    steps = list(range(1, len(STEPS[what]) + 1))
    assert proven.steps == steps
    assert program.wishes == [f"{what}:{step}" for step in (*steps, len(steps) + 1)]
    assert ended(program, what)


@pytest.mark.parametrize("what", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_killed_in_any_run_and_taken_up_again(what: str, after: bool) -> None:
    for dies in range(len(STEPS[what]) + 1):
        program, proven = Program(dies, after=after), Proven()
        with pytest.raises(Killed):
            carry_out(what, program, proven)
        first = program.kept.bundle
        begin(what, program)
        carry_out(what, program, proven)
        if ended(program, what):
            assert {*proven.steps} == {*range(1, len(STEPS[what]) + 1)}
        if dies == 0 and after:
            assert made_once(what, first, program.kept.bundle)


def made_once(what: str, first: SecretsBundle, last: SecretsBundle) -> bool:
    """Whether the new key of the first run is the one that it ended with."""
    if what == "os-ca":
        return first.os.accepted == (last.os.crt,)
    if what == "kubernetes-ca":
        return first.kubernetes.accepted == (last.kubernetes.crt,)
    return what == "bootstrap-tokens" or first == last


def test_a_proof_that_failed_is_done_again_before_the_next_step() -> None:
    program, proven = Program(), Proven(fails_at=2)
    with pytest.raises(HomelabError, match="not let in"):
        carry_out("os-ca", program, proven)
    assert program.kept.rotation.step == 2
    carry_out("os-ca", program, proven)
    assert proven.steps == [1, 2, 3]
    assert program.wishes == ["os-ca:1", "os-ca:2", "", "os-ca:3", "os-ca:4"]


def test_another_rotation_is_finished_first() -> None:
    program = Program()
    program.up("os-ca:1")
    with pytest.raises(RefusedError, match=r"os-ca is being rotated.*homelab rotate os-ca --stack twin"):
        begin("kubernetes-ca", program)
    begin("os-ca", program)


def test_a_lab_with_other_changes_is_brought_up_first() -> None:
    with pytest.raises(RefusedError, match="homelab up --stack twin"):
        begin("os-ca", Program(converged=False))


def test_one_under_way_goes_on_whatever_else_has_changed() -> None:
    program = Program(converged=False)
    program.up("os-ca:1")
    begin("os-ca", program)


def test_a_step_that_was_not_taken_stops_it() -> None:
    class Deaf(Program):
        def up(self, wish: str) -> None:
            self.wishes.append(wish)

    with pytest.raises(HomelabError, match="step 1 was not taken"):
        carry_out("os-ca", Deaf(), Proven())


def test_only_etcd_goes_on_with_a_cluster_that_does_not_answer() -> None:
    for what in STEPS:
        program, proven = Program(dies=0, after=True), Proven()
        with pytest.raises(Killed):
            carry_out(what, program, proven)

        class Away(Program):
            def up(self, wish: str) -> None:
                if not wish:
                    raise HomelabError("up did not finish")
                super().up(wish)

        away = Away()
        away.kept = program.kept
        if what == "etcd-ca":
            carry_out(what, away, proven)
            assert ended(away, what)
        else:
            with pytest.raises(HomelabError, match="did not finish"):
                carry_out(what, away, proven)


def test_what_is_done_is_told_as_done() -> None:
    program = Program()
    program.up("os-ca:1")
    lines = story("os-ca", program.kept)
    assert lines[0] == "downtime: none"
    assert lines[2].startswith("done 1: ")
    assert lines[3].startswith("step 2: ")


def test_every_rotation_says_what_it_costs() -> None:
    assert set(STEPS) < set(COSTS)
    done = CliRunner().invoke(app, ["rotate", "--list", "--json"])
    assert done.exit_code == 0
    listed = {item["what"]: item for item in json.loads(done.stdout)}
    assert set(listed) == set(COSTS)
    assert listed["os-ca"]["downtime"] == "none"
    assert listed["service-account"]["downtime"] != "none"
    assert len(listed["kubernetes-ca"]["steps"]) == 3
    assert "os-ca" in CliRunner().invoke(app, ["rotate"]).stdout


def test_what_cannot_be_rotated_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    done = CliRunner().invoke(app, ["rotate", "os-cert"])
    assert done.exit_code == 1
    assert "did you mean 'os-ca'?" in done.output


def test_what_has_no_steps_has_no_preview() -> None:
    done = CliRunner().invoke(app, ["rotate", "grafana-password", "--preview"])
    assert done.exit_code == 1
    assert "has no steps" in done.output


def state(**outputs: Any) -> list[dict[str, Any]]:
    secret = {key: {SIGNATURE: SECRET, "plaintext": json.dumps(value)} for key, value in outputs.items()}
    return [{"urn": "urn:pulumi:twin::homelab::pulumi-python:dynamic/talos:Secrets::secrets", "outputs": secret}]


def test_the_keys_are_read_from_the_state() -> None:
    made, kept = advance(BUNDLE, NONE, "os-ca:1")
    found = read(state(bundle=wire.pack(made), rotation=rotation.pack(kept)), "twin")
    assert found == Held(made, kept)
    assert read(state(bundle=wire.pack(BUNDLE)), "twin") == Held(BUNDLE, NONE)
    with pytest.raises(UserError, match="has no cluster yet"):
        read([], "twin")


def test_a_reason_gives_nothing_away() -> None:
    assert rotate_prove.fingerprint("a") != rotate_prove.fingerprint("b")
    assert BUNDLE.service_account_key not in rotate_prove.fingerprint(BUNDLE.service_account_key)


def test_grafana_with_a_volume_keeps_its_users() -> None:
    def deployment(*volumes: Any) -> dict[str, Any]:
        return {"spec": {"template": {"spec": {"volumes": list(volumes)}}}}

    assert keeps_its_users(deployment({"name": "storage", "persistentVolumeClaim": {"claimName": "x"}}))
    assert not keeps_its_users(deployment({"name": "storage", "emptyDir": {}}))
    assert not keeps_its_users(None)


def test_the_program_and_the_command_mean_the_same_wish() -> None:
    from cli.rotate_runs import WISH
    from components.control_plane import ROTATE

    assert WISH == ROTATE
    assert wish("os-ca", 1) == "os-ca:1"
