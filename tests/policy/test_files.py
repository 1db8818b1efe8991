"""Each wrong file is refused with exactly the lines in its header, and the shipped example changes nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from policy.__main__ import SCHEMA, main, text
from policy.load import every_key, load
from policy.models import LEAVES, Policy, Reaction
from settings import SettingsError

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
EXAMPLE = ROOT / "policy.yaml"
INVALID = sorted((HERE / "invalid").glob("*.yaml"))


@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_a_wrong_file_is_told_line_by_line(file: Path) -> None:
    expected = [
        line.removeprefix("# expect: ") for line in file.read_text().splitlines() if line.startswith("# expect")
    ]
    assert expected
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert [str(problem) for problem in caught.value.problems] == expected


def test_there_are_enough_wrong_files() -> None:
    assert len(INVALID) >= 10


@pytest.mark.parametrize("name", ["nothing", "empty-sections"])
def test_what_is_commented_out_is_the_default(name: str) -> None:
    assert load(HERE / "valid" / f"{name}.yaml").policy == Policy()


def test_every_rule_that_can_be_written() -> None:
    policy = load(HERE / "valid" / "everything.yaml").policy
    assert policy.is_for("homelab")
    assert not policy.is_for("twin")
    assert policy.wipe.acknowledged == {"node3": 2, "node4": LEAVES, "longhorn": LEAVES}
    assert policy.control_planes.at_least == 3
    assert [str(allowed) for allowed in policy.load_balancers.allowed] == [
        "203.0.113.16-203.0.113.31",
        "203.0.113.40-203.0.113.41",
    ]
    assert policy.versions.floating is policy.load_balancers.public is Reaction.REFUSE
    assert policy.backups.max_age_hours == 24
    assert policy.asks_the_state


def test_no_file_breaks_nobody(tmp_path: Path) -> None:
    policy = load(tmp_path / "policy.yaml").policy
    assert policy == Policy()
    assert policy.is_for("whatever")
    assert not policy.asks_the_state
    assert {policy.versions.floating, policy.load_balancers.public} == {Reaction.WARN}


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        load(tmp_path)


def test_the_shipped_example_changes_nothing() -> None:
    assert load(EXAMPLE).policy == Policy()
    assert EXAMPLE.read_text().splitlines()[0] == "# yaml-language-server: $schema=docs/policy.schema.json"


def test_the_shipped_example_without_its_hashes_is_right(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text().split("#\n", 1)[1].split("#\n", 1)[1].splitlines()
    file = tmp_path / "policy.yaml"
    file.write_text("\n".join(re.sub(r"^# ?", "", line) for line in lines))
    policy = load(file).policy
    assert policy.control_planes.at_least == 3
    assert policy.wipe.acknowledged["node4"] == LEAVES


def test_the_example_and_the_runbook_have_every_key() -> None:
    example = set(re.findall(r"([a-z_]+):", EXAMPLE.read_text()))
    runbook = (ROOT / "docs" / "runbooks" / "policy.md").read_text()
    assert [key for key in every_key() if key.rpartition(".")[2] not in example] == []
    assert [key for key in every_key() if f"`{key}`" not in runbook] == []


def test_the_schema_is_up_to_date() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == text(), "run `python -m policy schema`"
    assert json.loads(text())["additionalProperties"] is False


def test_check_tells_good_from_bad(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(EXAMPLE)]) == 0
    assert main(["check", str(HERE / "invalid" / "types.yaml")]) == 1
    assert "4 mistakes" in capsys.readouterr().err
    assert main(["nonsense"]) == 2
