"""The list of failure modes is covered: every number has a test that exists, or a reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.lines import LINES, Line

TESTS = Path(__file__).parents[1]
NUMBERS = {
    *(f"4a.{number}" for number in range(1, 11)),
    *(f"4b.{number}" for number in range(11, 19)),
    *(f"4c.{number}" for number in range(19, 30)),
    *(f"4d.{number}" for number in (*range(30, 40), 45, 46, 47)),
}


def functions(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name


@pytest.fixture(scope="module")
def existing() -> set[str]:
    return {name for file in TESTS.rglob("test_*.py") for name in functions(file)}


def test_every_line_is_covered(existing: set[str]) -> None:
    assert set(LINES) == NUMBERS
    missing = {number: set(line.tests) - existing for number, line in LINES.items()}
    assert not {number: names for number, names in missing.items() if names}


@pytest.mark.parametrize(("number", "line"), LINES.items())
def test_a_line_has_a_test_or_a_reason(number: str, line: Line) -> None:
    assert line.tests or line.not_yet


def test_every_fault_test_is_in_the_table() -> None:
    listed = {name for line in LINES.values() for name in line.tests}
    here = {name for file in Path(__file__).parent.glob("test_4*.py") for name in functions(file)}
    assert here - listed == {"test_4a_one_up_survives_all_of_them"}
