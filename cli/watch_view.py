"""One frame of `homelab watch`. Every colour underlines a word that says the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.observe_scene import FLASHING, Scene, SeenBoard, SeenFlash, SeenNode, SeenSlot
from cli.run_events import Step
from cli.run_log import Run
from cli.words import bytes_of, span, style

FLASH = "Flash"  # the kind of step that writes an image
WIDE, NARROW = 110, 64  # columns from which everything fits a line, and below which nothing does
BAR = 20
UNDER_WAY, ENDED = 12, 3  # how many steps are shown


@dataclass(frozen=True)
class Watched:
    """What a frame shows.

    Attributes:
        now: the moment of the frame; `scene.at` is the moment of the last look.
        scene: None until the first look is over.
        run: the newest run that this machine knows of.
        trouble: why there was no new look, or "".
    """

    now: datetime
    scene: Scene | None
    run: Run | None = None
    trouble: str = ""


def view(state: Watched, width: int) -> RenderableType:
    """A frame that fits `width` columns. What goes on stands first, as a small screen cuts off below."""
    running = state.run is not None and state.run.outcome == "running"
    lab, run = _lab(state, width), _run(state)
    return Group(*_head(state, width), *((*run, *lab) if running else (*lab, *run)))


def _head(state: Watched, width: int) -> Iterator[RenderableType]:
    scene = state.scene
    if scene is None:
        yield Text(f"{state.now:%H:%M:%S} looking at the lab ...")
    else:
        kind = "simulated" if scene.simulated else "real"
        yield Text(f"{scene.cluster.name}: stack {scene.stack}, {kind} hardware", style="bold")
        yield _line(_cluster(state, scene), width)
    for trouble in (state.trouble, scene.locked if scene else ""):
        if trouble:
            yield Text(f"warning: {trouble}", style="yellow")


def _cluster(state: Watched, scene: Scene) -> Iterator[tuple[str, str]]:
    cluster = scene.cluster
    yield f"{state.now:%H:%M:%S}", f"seen {span((state.now - scene.at).total_seconds())} ago"
    yield "API", f"{cluster.api} {cluster.kubernetes or ''}".strip()
    etcd = "unknown" if cluster.members is None else f"{cluster.healthy} of {cluster.members} members healthy"
    yield "etcd", etcd
    yield "VIP", f"{cluster.vip} held by {cluster.holder or 'nobody'}"


def _line(pairs: Iterable[tuple[str, str]], width: int) -> Text:
    """`name value` pairs, on one line where there is room."""
    said = [f"{name} {value}" for name, value in pairs]
    return Text("  |  ".join(said) if width >= WIDE else "\n".join(said))


def _lab(state: Watched, width: int) -> list[RenderableType]:
    shown: list[RenderableType] = []
    for board in state.scene.boards if state.scene else ():
        shown += ["", _board(board), *([_flash(board.flash)] if board.flash else _flashes(board, state.run))]
        doing = {slot.number: _doing(slot.node, state.run) for slot in board.slots if slot.node}
        shown.append(_small(board, doing) if width < NARROW else _table(board, doing, wide=width >= WIDE))
    return shown


def _board(board: SeenBoard) -> Text:
    state = "takes an image, and is left in peace" if board.state == FLASHING else board.state
    said = f" {board.address} " + state + (f", firmware {board.firmware}" if board.firmware else "")
    return Text(board.name, style="bold") + Text(said, style=style(board.state))


def _flash(flash: SeenFlash) -> Text:
    if flash.state == "Error":
        return Text(f"the last flash failed: {flash.text}", style="red")
    if flash.percent is None:
        return Text(f"flash: {bytes_of(flash.written)} written")
    return Text(f"flash: {bar(flash.percent)} {flash.percent} % of {bytes_of(flash.size)}")


def _flashes(board: SeenBoard, run: Run | None) -> list[RenderableType]:
    """How far the running `up` is with the board's modules: while a BMC takes an image, only it knows."""
    names = {slot.node.name for slot in board.slots if slot.node}
    shown: list[RenderableType] = []
    for step in _under_way(run):
        found = re.search(r"(\d+) %", step.word)
        if step.kind == FLASH and step.owner in names and found:
            shown.append(Text(f"flash of {step.owner}: {bar(int(found[1]))} {step.word}"))
    return shown


def bar(percent: int, length: int = BAR) -> str:
    """A share, in signs that every terminal has."""
    full = percent * length // 100
    return f"[{'#' * full}{'-' * (length - full)}]"


def _table(board: SeenBoard, doing: dict[int, str], *, wide: bool) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    more = ("role", "address") if wide else ()
    for heading in ("slot", "node", *more, "power", "talos", *(("version",) if wide else ()), "ready", "etcd", "doing"):
        made.add_column(heading, overflow="fold")
    for slot in board.slots:
        cells = _cells(slot, doing.get(slot.number, ""), wide=wide)
        made.add_row(*(Text(cell, style=style(cell)) for cell in cells))
    return made


def _cells(slot: SeenSlot, doing: str, *, wide: bool) -> list[str]:
    node = slot.node
    if node is None:
        return [str(slot.number), "-", *(("-", "-") if wide else ()), slot.power]
    more, version = ([node.role, node.address], [node.version or "-"]) if wide else ([], [])
    return [str(slot.number), node.name, *more, slot.power, stage(node), *version, ready(node), node.etcd or "-", doing]


def _small(board: SeenBoard, doing: dict[int, str]) -> Text:
    """Two or three short lines for a slot."""
    lines = []
    for slot in board.slots:
        if slot.node is None:
            lines.append(f"{slot.number} - {slot.power}")
            continue
        etcd = f", etcd {slot.node.etcd}" if slot.node.etcd else ""
        lines.append(f"{slot.number} {slot.node.name} {slot.power}, {stage(slot.node)}")
        lines.append(f"  Ready {ready(slot.node)}{etcd}")
        lines += [f"  {doing[slot.number]}"] if doing[slot.number] else []
    return Text("\n".join(lines))


def stage(node: SeenNode) -> str:
    """Talos' own word where it gave one; else what stands at the node's address."""
    return node.stage or node.talos


def ready(node: SeenNode) -> str:
    """Kubernetes' word, as in `homelab status`."""
    if node.talos == "disabled":
        return "-"
    return "unknown" if node.ready is None else ("yes" if node.ready else "no")


def _doing(node: SeenNode, run: Run | None) -> str:
    """What is done to the node; else what it waits for, and what is special about it."""
    mine = [step for step in _under_way(run) if step.owner == node.name]
    said = [step.word or f"{step.kind}: {step.op}" for step in mine]
    said = said or [*node.waits[:1], *([node.why] if node.why and not node.waits else [])]
    return ", ".join([*said, *(["cordoned"] if node.cordoned else []), *(["VIP"] if node.vip else [])])


def _under_way(run: Run | None) -> list[Step]:
    if run is None or run.outcome != "running":
        return []
    return [step for step in run.steps if step.ended is None]


def _run(state: Watched) -> list[RenderableType]:
    run = state.run
    if run is None:
        return []
    now = int(state.now.timestamp())
    shown: list[RenderableType] = ["", Text(_summary(run, now), style="red" if run.outcome == "failed" else "")]
    if run.outcome == "running":
        ended = sorted((step for step in run.steps if step.ended), key=lambda step: step.ended or 0)
        failed = [step for step in ended if step.failed]
        recent = [step for step in ended if not step.failed][-ENDED:]
        running = _under_way(run)
        shown += [_step(step, now) for step in (*failed, *recent, *running[:UNDER_WAY])]
        left = len(running) - UNDER_WAY
        shown += [Text(f"... and {left} more under way")] if left > 0 else []
    return [*shown, *(Text(f"  {problem}", style="red") for problem in run.problems[:ENDED])]


def _summary(run: Run, now: int) -> str:
    if run.outcome == "running":
        if run.previewing:
            waits = ", and waits for an answer" if run.changes and run.verb != "preview" else ""
            return f"{run.verb}: looks at what would change for {span(now - run.began)}{waits}"
        done, failed = (sum(1 for s in run.steps if s.ended and s.failed is bad) for bad in (False, True))
        counts = f"{done} steps done, {len(_under_way(run))} under way, {failed} failed"
        return f"{run.verb} runs for {span(now - run.began)}: {counts}"
    ended = run.ended or run.began
    nothing = ", nothing was begun" if run.previewing and run.verb != "preview" else ""
    return f"last run: {run.verb} {run.outcome} {span(now - ended)} ago, took {span(ended - run.began)}{nothing}"


def _step(step: Step, now: int) -> Text:
    state = "failed" if step.failed else ("done" if step.ended else "runs")
    colour = {"failed": "red", "done": "green", "runs": ""}[state]
    told = f"  {state:<6} {step.name} {step.op} {span((step.ended or now) - step.began)}"
    word = f": {step.word}" if step.word else ""
    return Text(told + word, style=colour, overflow="ellipsis", no_wrap=True)
