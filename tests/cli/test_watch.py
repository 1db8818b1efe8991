"""What `watch` draws, at every width and without a colour; and that neither Ctrl-C nor a dead lab disturbs it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from rich.console import Console
from typer.testing import CliRunner

from cli import run_log, watch
from cli.main import app
from cli.observe import Lab
from cli.observe_answers import Answers
from cli.observe_scene import Scene, scene
from cli.run_events import Step
from cli.run_log import Run
from cli.watch_view import Watched, bar, view
from providers.errors import UnreachableError
from tests.cli.events import first_up
from tests.cli.lab import lab
from tests.cli.pictures import picture

SEEN = Path(__file__).parent / "seen"
WIDTHS = (120, 80, 40)
NAMES = ("up", "calm", "away")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
# Rich's own frame for an SVG asks another host for its letters.
FRAME = """<svg class="{unique_id}" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img"
 aria-label="homelab watch"><style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style><defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


def seen(name: str) -> Watched:
    return TypeAdapter(Watched).validate_json((SEEN / f"watch-{name}.json").read_text())


def drawn(state: Watched, width: int, **terminal: Any) -> str:
    out = Console(width=width, file=io.StringIO(), **terminal)
    out.print(view(state, width))
    text: str = out.file.getvalue()  # type: ignore[attr-defined]
    return text


def said(state: Watched, width: int) -> str:
    """What is drawn, with the line breaks of a small screen taken out."""
    return " ".join(drawn(state, width).split())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_a_frame_fits_its_width(name: str, width: int) -> None:
    assert max(map(len, drawn(seen(name), width).splitlines())) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_whatever_the_width_a_running_up_is_told_in_words(width: int) -> None:
    shown = said(seen("up"), width)
    for word in (
        "API answering v1.36.1",
        "etcd 3 of 3 members healthy",
        "VIP 192.168.1.70 held by node1",
        "up runs for 6 min 52 s: 6 steps done, 3 under way, 0 failed",
        "runs node6-flash create 1 min",
        "flash of node6: [########------------]",
        "takes an image, and is left in peace",
        "booting",
        "maintenance",
        "joined, not Ready",
    ):
        assert word in shown


@pytest.mark.parametrize("width", WIDTHS)
def test_whatever_the_width_a_lab_that_is_away_is_told_in_words(width: int) -> None:
    shown = said(seen("away"), width)
    for word in (
        "API unreachable",
        "etcd unknown",
        "held by nobody",
        "warning: pulumi config: incorrect passphrase",
        "board1 192.168.1.60 unreachable",
        "flash: [########------------] 41 % of 1.3 GB",
        "last run: up failed 3 days ago, took 10 min",
        "no answer within 300 s",
    ):
        assert word in shown


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_no_colour_says_what_no_word_says(name: str, width: int) -> None:
    coloured = drawn(seen(name), width, force_terminal=True, color_system="truecolor")
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == drawn(seen(name), width)


def test_each_state_of_a_node_has_a_word_of_its_own() -> None:
    frames = [drawn(seen("calm"), 120)]
    state = seen("calm")
    assert state.scene is not None
    board = state.scene.boards[0]
    slot = board.slots[0]
    assert slot.node is not None
    for change in (
        {"ready": False, "why": "no disk"},
        {"ready": None},
        {"etcd": "silent"},
        {"etcd": "learner"},
        {"vip": False},
        {"cordoned": True},
        {"stage": "rebooting"},
        {"waits": ("time: not in step",)},
    ):
        node = dataclasses.replace(slot.node, **change)
        slots = (dataclasses.replace(slot, node=node), *board.slots[1:])
        changed = dataclasses.replace(state.scene, boards=(dataclasses.replace(board, slots=slots),))
        frames.append(drawn(dataclasses.replace(state, scene=changed), 120))
    assert len(set(frames)) == len(frames)


def test_before_the_first_look_is_over_there_is_a_frame_already() -> None:
    assert said(Watched(NOW, None), 80) == "12:00:00 looking at the lab ..."


def test_an_up_that_waits_for_its_answer_says_so() -> None:
    began = int(NOW.timestamp()) - 30
    run = Run("up", began, None, "running", previewing=True)
    assert "up: looks at what would change for 30 s" in said(Watched(NOW, None, run), 80)
    asks = dataclasses.replace(run, changes={"create": 3})
    assert "and waits for an answer" in said(Watched(NOW, None, asks), 80)


def test_an_up_that_was_told_no_began_nothing() -> None:
    began = int(NOW.timestamp()) - 90
    run = Run("up", began, began + 30, "failed", previewing=True)
    assert "last run: up failed 1 min ago, took 30 s, nothing was begun" in said(Watched(NOW, None, run), 80)


def test_failed_steps_stand_first_and_many_are_counted() -> None:
    began = int(NOW.timestamp()) - 30
    steps = [Step(f"s{i}", "Power", "", "create", began) for i in range(20)]
    bad = Step("bad", "Power", "", "create", began, began + 1, failed=True, word="no power")
    run = Run("up", began, None, "running", previewing=False, steps=(*steps, bad), problems=("it broke",))
    lines = drawn(Watched(NOW, None, run), 80).splitlines()
    assert [line.split()[0] for line in lines[3:5]] == ["failed", "runs"]
    assert "... and 8 more under way" in lines
    assert "  it broke" in lines


def test_a_bar_is_as_full_as_it_says() -> None:
    assert [bar(percent, 10) for percent in (0, 42, 100)] == ["[----------]", "[####------]", "[##########]"]


@pytest.mark.parametrize("once", [True, False], ids=["asked-for", "no-terminal"])
def test_one_frame(tmp_path: Path, *, once: bool) -> None:
    out = Console(width=120, file=io.StringIO())
    watch.show(watch.Watcher(lab(tmp_path)), out, once=once, as_json=False)
    assert "home: stack homelab, real hardware" in out.file.getvalue()  # type: ignore[attr-defined]


def test_one_state_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch.show(watch.Watcher(lab(tmp_path)), Console(), once=False, as_json=True)
    told = capsys.readouterr().out
    found = json.loads(told)
    assert set(found) == {"now", "scene", "run", "trouble"}
    assert "geheim" not in told
    assert [board["name"] for board in found["scene"]["boards"]] == ["board1"]
    assert datetime.fromisoformat(found["now"]).tzinfo is not None


@pytest.mark.parametrize("verb", ["watch", "report"])
def test_the_verbs_say_what_they_do_and_never_do(verb: str) -> None:
    helped = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert helped.exit_code == 0
    assert "changes nothing" in helped.output
    lost = CliRunner().invoke(app, [verb, "--stack", "twim"])
    assert lost.exit_code == 1
    assert lost.output.startswith("error: no stack 'twim'")


def test_only_a_board_that_is_being_written_on_is_left_in_peace(tmp_path: Path) -> None:
    here = lab(tmp_path)
    asked: list[list[str]] = []

    def look(given: Lab, in_peace: list[str]) -> Scene:
        asked.append(in_peace)
        return scene(given, Answers({}, {}), NOW, in_peace)

    watcher = watch.Watcher(here, look)
    with run_log.recorded(here.stack, "up") as record:
        assert record.path is not None
        for lines in (first_up()[:3], first_up()[:6], first_up()[:8]):
            record.path.write_text("".join(lines))
            watcher.look()
    watcher.look()
    assert asked == [[], ["board1"], [], []]
    with run_log.recorded(here.stack, "up") as record:  # as a killed run leaves it: with a flash that never ends
        assert record.path is not None
        record.path.write_text("".join(first_up()[:6]))
    watcher.look()
    assert asked[-1] == []


def test_a_look_that_fails_is_told_and_the_last_one_stays(tmp_path: Path) -> None:
    fails = [False]

    def look(given: Lab, in_peace: list[str]) -> Scene:
        if fails[0]:
            raise UnreachableError("the network is gone")
        return scene(given, Answers({}, {}), NOW, in_peace)

    watcher = watch.Watcher(lab(tmp_path), look)
    first = watcher.state()
    fails[0] = True
    second = watcher.state()
    assert (second.scene, second.trouble) == (first.scene, "the network is gone")
    fails[0] = False
    assert watcher.state().trouble == ""


def test_it_looks_again_and_again_and_ends_when_told(tmp_path: Path) -> None:
    enough, ended, count = threading.Event(), threading.Event(), [0]

    def look(given: Lab, in_peace: list[str]) -> Scene:
        count[0] += 1
        if count[0] == 3:
            enough.set()
        raise UnreachableError("the lab is away")

    watcher = watch.Watcher(lab(tmp_path), look)
    thread = threading.Thread(target=watcher.keep_looking, args=(ended, 0.01))
    thread.start()
    assert enough.wait(10)
    ended.set()
    thread.join(10)
    assert not thread.is_alive()


def until(handle: int, word: bytes, limit_s: float = 60) -> bytes:
    """What a terminal shows, up to a word."""
    shown, end = b"", time.monotonic() + limit_s
    while word not in shown and time.monotonic() < end:
        if select.select([handle], [], [], 0.2)[0]:
            shown += os.read(handle, 65536)
    return shown


def test_a_ctrl_c_ends_it_cleanly_and_a_dead_lab_does_not(tmp_path: Path) -> None:
    code = (
        "import signal; from pathlib import Path; from cli import watch, words; from tests.cli.lab import lab\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in what a shell runs in the background
        f"watch.live(watch.Watcher(lab(Path({str(tmp_path)!r}))), words.console()); print('ended well')"
    )
    outside, inside = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=inside, stdout=inside, stderr=inside, env=env, start_new_session=True
    ) as run:
        os.close(inside)
        try:
            assert b"looking at the lab" in until(outside, b"looking at the lab")
            assert b"API unreachable" in until(outside, b"API unreachable")
            began = time.monotonic()
            os.killpg(run.pid, signal.SIGINT)  # what a terminal does
            shown = until(outside, b"ended well")
            assert b"ended well" in shown
            assert b"Traceback" not in shown
            assert run.wait(10) == 0
            assert time.monotonic() - began < 10
        finally:
            run.kill()
            os.close(outside)


def test_the_picture_of_the_docs_asks_no_other_host(tmp_path: Path) -> None:
    out = Console(width=120, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    out.print(view(seen("up"), 120))
    path = picture("watch.svg", tmp_path)
    path.write_text(out.export_svg(title="homelab watch", code_format=FRAME, unique_id="watch"))
    text = path.read_text()
    assert "node6-flash" in text.replace("&#160;", " ")
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]


def test_the_shipped_picture_is_the_one_that_is_drawn() -> None:
    out = Console(width=120, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    out.print(view(seen("up"), 120))
    drawn_now = out.export_svg(title="homelab watch", code_format=FRAME, unique_id="watch")
    shipped = (Path(__file__).parents[2] / "docs" / "watch.svg").read_text()
    assert shipped == drawn_now, "HOMELAB_PICTURES=docs writes it anew"
