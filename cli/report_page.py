"""The report as one page: nothing of it is fetched, and nothing in it runs. Every value is escaped by the template."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cli.observe_scene import SeenNode
from cli.report_lab import Report, attention
from cli.report_timeline import timeline
from cli.watch_view import ready, stage
from cli.words import bytes_of, span

TEMPLATES = Path(__file__).with_name("templates")
SHOWN_RUNS = 10
SHOWN_BACKUPS = 20  # the newest; a folder may hold those of years
PAST = {op: f"{op.rstrip('e')}ed" for op in ("create", "update", "delete", "replace", "refresh")}


def page(report: Report) -> str:
    """The HTML."""
    made = _environment().get_template("report.html.j2")
    now = int(report.made.timestamp())
    runs = [(run, timeline(run, now)) for run in report.runs[:SHOWN_RUNS]]
    return made.render(
        report=report,
        now=report.made,
        scene=report.scene,
        attention=attention(report),
        backups=report.backups[:SHOWN_BACKUPS],
        runs=runs,
    )


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "span": span,
        "bytes": bytes_of,
        "moment": moment,
        "iso": _iso,
        "short": short,
        "unix": _unix,
        "done": done,
    }
    made.globals |= {"stage": stage, "ready": ready, "state_of": state_of}
    return made


def state_of(node: SeenNode) -> str:
    """A node in one word, for its drawing: `ready`, `not ready`, `off` (kept out) or `unknown`."""
    if node.talos == "disabled":
        return "off"
    return {True: "ready", False: "not ready", None: "unknown"}[node.ready]


def done(op: str, planned: bool) -> str:
    """What was done to a resource, or would be: `created`, `to create`; the engine's other words stay."""
    return f"to {op}" if planned else PAST.get(op, op)


def moment(when: datetime) -> str:
    """A moment as people read it."""
    return f"{when:%d %b %Y, %H:%M} UTC"


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="seconds")


def _unix(seconds: int, like: datetime) -> datetime:
    return datetime.fromtimestamp(seconds, like.tzinfo)


def short(text: str, most: int) -> str:
    """What has room in a drawing; the whole of it stands in the table below."""
    return text if len(text) <= most else text[: most - 1] + "…"
