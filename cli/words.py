"""What people see: tables, questions and one-line errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.doctor import Check
from cli.observe import Status
from cli.stacks import Stack
from providers.errors import UserError

GOOD = {"on", "running", "yes", "answering"}
BAD = {"unreachable", "refused", "foreign", "no"}


def console(*, stderr: bool = False) -> Console:
    """Made when needed, so that a redirected output is seen as one."""
    return Console(stderr=stderr, highlight=False, soft_wrap=stderr)


def error(message: str) -> None:
    """One red line; settings have one for each mistake."""
    console(stderr=True).print(Text(f"error: {message}", style="red"))


def say(message: str) -> None:
    """One line to the reader, apart from what a machine may read on stdout."""
    console(stderr=True).print(Text(message))


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless it was answered beforehand.

    Raises:
        UserError: there is nobody to ask.
        typer.Abort: no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{question} There is nobody to ask; say --yes (make: YES=1)")
    typer.confirm(question, abort=True, err=True)


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """A plain table, with good and bad words in their colours."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell, style=style(cell)) for cell in row))
    return made


def style(cell: str) -> str:
    """The colour that underlines what the word says anyway."""
    if cell in GOOD:
        return "green"
    return "red" if cell in BAD else ""


def show(status: Status) -> None:
    """The status, for people: of what there is."""
    out = console()
    if status.nodes:
        _show_nodes(status, out)
    if status.clusters:
        rows = ((c.name, c.kind, c.api, c.kubernetes or "-", c.endpoint or "-") for c in status.clusters)
        out.print(table(("cluster", "kind", "api", "kubernetes", "endpoint"), rows))
        out.print()
    if status.machines:
        machines = ((m.name, m.cluster, m.role, m.address or "-", _ready(m.ready)) for m in status.machines)
        out.print(table(("machine", "cluster", "role", "address", "ready"), machines))


def _show_nodes(status: Status, out: Console) -> None:
    cluster = status.cluster
    etcd = cluster["etcd"]
    members = f"{etcd['healthy']} of {etcd['members']} members healthy" if etcd else "unknown"
    out.print(
        table(
            ("cluster", "api", "kubernetes", "etcd", "vip", "held by"),
            [
                (
                    cluster["name"],
                    cluster["api"],
                    cluster["kubernetes"] or "-",
                    members,
                    status.vip["address"] or "-",
                    status.vip["holder"] or "nobody",
                )
            ],
        )
    )
    out.print()
    rows = ((n.name, n.role, n.address, n.power, n.talos, _ready(n.ready)) for n in status.nodes)
    out.print(table(("node", "role", "address", "power", "talos", "ready"), rows))
    if status.clusters or status.machines:
        out.print()


def _ready(ready: bool | None) -> str:
    return "unknown" if ready is None else ("yes" if ready else "no")


def diagnosis(checks: Iterable[Check]) -> None:
    """What was looked at; under each problem, what to type."""
    out = console()
    for check in checks:
        mark = Text("ok    ", style="green") if check.ok else Text("wrong ", style="red")
        out.print(mark + Text(f"{check.what}: {check.seen}"), soft_wrap=True)
        if not check.ok:
            out.print(Text(f"      -> {check.fix}"), soft_wrap=True)


def document(value: Any) -> str:
    """A dataclass as JSON for `--json`; moments as ISO 8601."""
    return json.dumps(asdict(value), indent=2, default=_moment)


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    raise TypeError(f"{type(value).__name__} is not for JSON")


def span(seconds: float) -> str:
    """A time that passed: `8 s`, `3 min 20 s`, `5 h 12 min`, `12 days`."""
    whole = max(0, round(seconds))
    for unit, length, smaller, part in (("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if length <= whole < 48 * 3600:
            rest = whole % length // part
            return f"{whole // length} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole // 86400} days" if whole >= 48 * 3600 else f"{whole} s"


def bytes_of(count: float) -> str:
    """An amount of data, in decimal units: `1.3 GB`."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count:.0f} bytes"


def lab_kind(stack: Stack) -> str:
    """What is at stake."""
    return "simulated hardware" if stack.is_twin else "REAL hardware"
