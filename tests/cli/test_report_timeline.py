"""Where the time of a run went: bars that fit their line, and sums that count no second twice."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cli.report_timeline import MOST, THINNEST, Bar, timeline
from cli.run_events import Step
from cli.run_log import Run

BEGAN = 1_763_740_000


def step(name: str, kind: str, began: int, ended: int | None, owner: str = "", *, failed: bool = False) -> Step:
    end = None if ended is None else BEGAN + ended
    return Step(name, kind, owner or name, "create", BEGAN + began, end, failed)


def run(*steps: Step, took: int = 100, outcome: str = "done") -> Run:
    return Run("up", BEGAN, None if outcome == "running" else BEGAN + took, outcome, previewing=False, steps=steps)


def drawn(bar: Bar) -> tuple[str, int, int, float, float]:
    return bar.name, bar.began, bar.took, bar.left, bar.width


def test_a_step_lies_where_it_was() -> None:
    (bar,) = timeline(run(step("a", "Flash", 25, 75)), BEGAN + 999).steps
    assert drawn(bar) == ("a", 25, 50, 25.0, 50.0)
    assert bar.state == "done"


def test_steps_side_by_side_take_the_time_of_one() -> None:
    steps = [step(f"n{i}", "Flash", 10 * i, 50 + 10 * i) for i in range(3)] + [step("p", "Power", 80, 85)]
    assert timeline(run(*steps), 0).kinds == (("Flash", 70), ("Power", 5))


def test_a_node_reaches_from_its_first_step_to_its_last() -> None:
    steps = (step("a-flash", "Flash", 10, 20, "a"), step("a-member", "Member", 60, 70, "a"), step("b", "Cluster", 0, 5))
    node, cluster = timeline(run(*steps), 0).owners
    assert drawn(node) == ("a", 10, 60, 10.0, 60.0)
    assert [drawn(part)[1:3] for part in node.parts] == [(10, 10), (60, 10)]
    assert (node.what, cluster.what) == ("2 steps", "1 step")


def test_what_failed_or_never_ended_is_told() -> None:
    steps = (step("a", "Flash", 0, 20, failed=True), step("b", "Flash", 0, None), step("c", "Flash", 0, 10))
    found = timeline(run(*steps, outcome="failed"), 0)
    assert [bar.state for bar in found.steps] == ["failed", "not ended", "done"]
    assert found.steps[1].took == 100


def test_a_run_that_goes_on_is_drawn_up_to_now() -> None:
    found = timeline(run(step("a", "Flash", 0, None), outcome="running"), BEGAN + 40)
    assert found.took == 40
    assert drawn(found.steps[0]) == ("a", 0, 40, 0.0, 100.0)


def test_the_longest_steps_are_drawn_and_the_others_counted() -> None:
    steps = [step(f"s{i}", "Service", i, i + 1) for i in range(MOST)] + [step("long", "Longhorn", 60, 90)]
    found = timeline(run(*steps), 0)
    assert len(found.steps) == MOST
    assert found.left_out == 1
    assert "long" in [bar.name for bar in found.steps]
    assert [bar.began for bar in found.steps] == sorted(bar.began for bar in found.steps)


def test_a_run_without_a_step_took_its_time_all_the_same() -> None:
    found = timeline(run(), 0)
    assert (found.took, found.steps, found.kinds, found.owners) == (100, (), (), ())
    assert timeline(replace(run(), ended=None, outcome="cut off"), 0).took == 0


@given(st.lists(st.tuples(st.integers(0, 5000), st.none() | st.integers(0, 5000)), max_size=20), st.integers(0, 9000))
def test_no_bar_reaches_over_its_line(times: list[tuple[int, int | None]], took: int) -> None:
    steps = [step(f"s{i}", "Flash", at, None if lasts is None else at + lasts) for i, (at, lasts) in enumerate(times)]
    found = timeline(run(*steps, took=took), 0)
    for bar in (*found.steps, *found.owners):
        assert bar.left >= 0
        assert bar.width >= THINNEST or bar.left + bar.width >= 99
        assert bar.left + bar.width <= 100.01
        assert bar.took >= 0
    assert sum(seconds for _, seconds in found.kinds) <= max(found.took, 0)
