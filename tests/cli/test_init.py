"""From boards to a settings file: valid for every answer, never over somebody's work, no secret in plain."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli import found, init, layout, new_settings
from cli.asking import Asked, by_name
from cli.found import Where
from cli.layout import Answers
from cli.main import app
from cli.stacks import Stack
from providers.discovery.boards import Board, Slot, blind
from providers.discovery.modules import Evidence
from providers.errors import AuthError, RefusedError, UserError
from providers.talos.client import Mode
from settings import SettingsError, load
from settings.written import EXAMPLE
from tests.providers.discovery.house import PASSWORD, House, house
from tests.providers.turingpi.lab import forget_sessions

NOBODY = Asked(interactive=False)
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.ResponseKey")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    forget_sessions()
    boards: dict[str, dict[str, Any]] = {"a": {"modules": (1, 2, 4)}, "b": {"modules": (1,)}}
    with house(tmp_path_factory.mktemp("house"), boards) as made:
        made.flashed("a-1", "a-2", "a-4")
        yield made


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_BACKEND_URL"):
        monkeypatch.delenv(name, raising=False)


def seen(number: int, *, on: bool = True, **evidence: Any) -> Slot:
    return Slot(number, on, Evidence(console=on, **evidence))


def boards_of(count: int, modules: int) -> dict[str, Board]:
    """Boards whose modules all told their address and card."""
    return {
        f"board{board}": Board(
            f"192.168.7.{200 + board}",
            slots={
                slot: seen(slot, address=f"192.168.7.{10 * board + slot}", mac=f"02:00:00:00:0{board}:0{slot}")
                if slot <= modules
                else seen(slot, on=False)
                for slot in (1, 2, 3, 4)
            },
        )
        for board in range(1, count + 1)
    }


def read(sections: Mapping[str, Any], folder: Path) -> Any:
    stack = Stack("lab", folder)
    return new_settings.checked(new_settings.text_of(sections, stack, "A test's."), stack)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 4),
    modules=st.integers(1, 4),
    install=st.sampled_from([None, True, False]),
    name=st.sampled_from(["", "cellar"]),
    leaders=st.sampled_from([None, 1]),
)
def test_every_answer_makes_valid_settings(
    tmp_path_factory: Any, count: int, modules: int, install: bool | None, name: str, leaders: int | None
) -> None:
    answers = Answers(vip="192.168.7.9", install=install, name=name, control_planes=leaders)
    made = read(layout.sections(boards_of(count, modules), answers, NOBODY), tmp_path_factory.mktemp("init"))
    assert len(made.nodes) == count * modules
    assert len(made.control_planes) == (leaders or (3 if count * modules >= 3 else 1))
    assert {node.generation for node in made.nodes.values()} == {1 if install else 0}
    assert made.cluster.name == (name or "home")
    assert {warning.where[-1] for warning in made.warnings} == {"password"}
    on = [node.board for node in made.control_planes]
    assert len(set(on)) == min(count, len(on)), "control planes are spread over the boards"


def test_what_is_missing_is_said_all_at_once() -> None:
    boards = {"board1": blind("192.168.7.60")}
    with pytest.raises(UserError) as caught:
        layout.sections(boards, Answers(slots={"board1": "1,3"}), Asked(interactive=False))
    for option in ("--vip", "--address node1=...", "--mac node1=...", "--address node2=...", "--mac node2=..."):
        assert option in str(caught.value)


def test_options_answer_for_modules_that_nobody_saw(tmp_path: Path) -> None:
    answers = Answers(
        vip="192.168.7.9",
        slots={"board1": "2,4"},
        address={"node1": "192.168.7.12", "node2": "192.168.7.14"},
        mac={"node1": "02-00-00-00-00-0A", "node2": "02:00:00:00:00:0b"},
    )
    made = read(layout.sections({"board1": blind("192.168.7.60")}, answers, NOBODY), tmp_path)
    assert [(node.slot, node.mac) for node in made.nodes.values()] == [
        (2, "02:00:00:00:00:0a"),
        (4, "02:00:00:00:00:0b"),
    ]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (Answers(vip="192.168.7.300"), "--vip: '192.168.7.300'"),
        (Answers(vip="192.168.7.9", mac={"node1": "01:00:00:00:00:01"}), "--mac node1=...: '01:00"),
        (Answers(vip="192.168.7.9", mac={"node9": "02:00:00:00:00:01"}), "--mac: there is no 'node9'"),
        (Answers(vip="192.168.7.9", slots={"board1": "0,1"}), "--slots board1=0,1"),
        (Answers(vip="192.168.7.9", slots={"board7": "1"}), "--slots: there is no 'board7'"),
        (Answers(vip="192.168.7.9", control_planes=2), "--control-planes 2"),
        (Answers(vip="192.168.7.9", control_planes=5), "there are 4 modules"),
    ],
)
def test_a_wrong_answer_names_its_option(answers: Answers, words: str) -> None:
    with pytest.raises(UserError) as caught:
        layout.sections(boards_of(1, 4), answers, Asked(interactive=False))
    assert words in str(caught.value)


def test_a_cluster_that_runs_is_never_installed_over() -> None:
    boards = {
        "board1": Board(
            "192.168.7.60", slots={1: seen(1, address="192.168.7.11", mac="02:00:00:00:00:01", state=Mode.FOREIGN)}
        )
    }
    with pytest.raises(UserError, match="homelab adopt"):
        layout.sections(boards, Answers(vip="192.168.7.9", install=True), NOBODY)
    made = layout.sections(boards, Answers(vip="192.168.7.9"), NOBODY)
    assert "generation" not in made["nodes"]["node1"]


@pytest.mark.parametrize("values", [["node1"], ["=x"], ["a="], ["a=1", "a=2"]])
def test_an_option_by_name_is_read_strictly(values: list[str]) -> None:
    with pytest.raises(UserError, match="--mac"):
        by_name("--mac", values)


def test_boards_and_modules_of_a_twin_become_settings(
    lab: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    where = Where([lab.address("a"), lab.address("b")], None, [], "root", password)
    looked = found.find(Stack("cellar", tmp_path), where, NOBODY)
    answers = Answers(
        vip=f"{lab.net}.9",
        slots={"board2": "1"},
        address={"node4": f"{lab.net}.21"},
        mac={"node4": "02:00:00:00:02:01"},
    )
    sections = layout.sections(looked.boards, answers, NOBODY)
    stack = Stack("cellar", tmp_path)
    init.write(
        stack, sections, "A test's.", {f"boards.{name}.password": text for name, text in looked.passwords.items()}
    )
    made = load(stack.settings_file)
    assert [(node.board, node.slot, str(node.address), node.mac) for node in made.nodes.values()] == [
        ("board1", 1, f"{lab.net}.11", "02:00:00:00:01:01"),
        ("board1", 2, f"{lab.net}.12", "02:00:00:00:01:02"),
        ("board1", 4, f"{lab.net}.14", "02:00:00:00:01:04"),
        ("board2", 1, f"{lab.net}.21", "02:00:00:00:02:01"),
    ]
    said = capsys.readouterr().err
    assert PASSWORD not in stack.settings_file.read_text() + said
    assert "homelab secret 'boards.board1.password' --stack cellar" in said
    assert PASSWORD not in repr(looked)


def test_a_twins_boards_are_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    with house(tmp_path / "house", mdns=True) as made:
        labs = tmp_path / "twin" / "labs"
        labs.mkdir(parents=True)
        (labs / "cellar.yaml").write_text(f"subnet: {made.spec.subnet}\n")
        looked = found.find(Stack("cellar", tmp_path), Where([], None, [], "root", None), Asked(interactive=False))
        assert {name: board.address for name, board in looked.boards.items()} == {"board1": made.address("board1")}


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> Asked:
    """Somebody at a terminal."""
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*lines, ""])))
    return Asked(interactive=True)


def test_somebody_at_a_terminal_is_asked_until_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    boards = {"board1": Board("192.168.7.60", slots={1: seen(1), 2: seen(2, address="192.168.7.12")})}
    asked = typed(
        monkeypatch, "192.168.7.300", "192.168.7.9", "192.168.7.11", "02:00:00:00:00:01", "02:00:00:00:00:02", "y"
    )
    made = read(layout.sections(boards, Answers(), asked), tmp_path)
    assert str(made.cluster.endpoint.vip) == "192.168.7.9"
    assert [str(node.address) for node in made.nodes.values()] == ["192.168.7.11", "192.168.7.12"]
    assert {node.generation for node in made.nodes.values()} == {1}
    said = capsys.readouterr()
    assert "'192.168.7.300' does not fit" in said.err
    assert said.out.strip() == "", "what machines read stays free of questions"


def test_nothing_is_installed_unless_somebody_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = read(layout.sections(boards_of(1, 1), Answers(), typed(monkeypatch, "192.168.7.9", "")), tmp_path)
    assert made.nodes["node1"].generation == 0


def test_init_changes_no_device(lab: House, tmp_path: Path) -> None:
    kinds = ("power_on", "power_off", "flash_started", "config_applied")
    before = [lab.events(kind) for kind in kinds]
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    found.find(Stack("cellar", tmp_path), Where([lab.address("a")], None, [], "root", password), NOBODY)
    assert [lab.events(kind) for kind in kinds] == before


def test_a_refused_password_ends_it(lab: House, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wrong")
    with pytest.raises(AuthError):
        found.find(Stack("cellar", tmp_path), Where([lab.address("b")], None, [], "root", password), NOBODY)
    forget_sessions()


def test_without_a_board_somebody_has_to_say_one(tmp_path: Path) -> None:
    where = Where([], "127.0.113.0/30", [], "root", None)
    with pytest.raises(UserError, match="nobody to ask; say --board"):
        found.find(Stack("cellar", tmp_path), where, Asked(interactive=False))
    with pytest.raises(UserError, match=r"127\.0\.113\.9: no Turing Pi's BMC answers"):
        found.find(Stack("cellar", tmp_path), Where(["127.0.113.9"], None, [], "root", None), NOBODY)
    with pytest.raises(UserError, match="--sweep"):
        found.find(Stack("cellar", tmp_path), Where([], "lan", [], "root", None), NOBODY)


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.homelab.yaml"
    file.write_text("config: {}\n")
    with pytest.raises(RefusedError, match=r"Pulumi\.homelab\.yaml is there already"):
        new_settings.fresh("homelab", tmp_path)
    with pytest.raises(RefusedError):
        new_settings.put("x", Stack("homelab", tmp_path))
    assert file.read_text() == "config: {}\n"


def test_the_untouched_example_is_no_work_of_anybody(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.homelab.yaml"
    file.write_bytes(EXAMPLE.read_bytes())
    stack = new_settings.fresh("homelab", tmp_path)
    new_settings.put("config: {}\n", stack)
    assert file.read_text() == "config: {}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["Pulumi.homelab.yaml"]


def test_answers_that_make_no_valid_file_leave_none(tmp_path: Path) -> None:
    sections = layout.sections(boards_of(1, 2), Answers(vip="192.168.7.201"), NOBODY)
    with pytest.raises(SettingsError, match="is also the address of board1"):
        init.write(Stack("cellar", tmp_path), sections, "A test's.", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a b", "", "x/y"])
def test_a_stack_needs_a_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--stack"):
        new_settings.fresh(name, tmp_path)


def test_the_verb_refuses_a_stack_that_has_settings() -> None:
    done = CliRunner().invoke(app, ["init", "--stack", "twin", "--board", "127.0.113.9"])
    assert done.exit_code == 1
    assert "Pulumi.twin.yaml is there already" in done.output


def test_the_verb_lists_as_json(lab: House, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    done = CliRunner().invoke(
        app,
        [
            "init",
            "--stack",
            "nobodys",
            "--list",
            "--json",
            "--board",
            lab.address("b"),
            "--password-file",
            str(password),
        ],
    )
    assert done.exit_code == 0, done.output
    assert '"power": false' in done.stdout


@pytest.mark.parametrize("verb", ["init", "adopt"])
def test_every_option_has_its_help(verb: str) -> None:
    done = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "changes no device" in " ".join(done.output.split())
