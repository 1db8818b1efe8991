"""A whole report: the rows of the table, the plain diff, and whether everything that destroys is acknowledged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cli.changes import cluster, nodes, parts, unseen
from cli.changes.clean import without_trace
from cli.changes.difference import fields, is_hidden
from cli.changes.document import Preview, Step, is_part
from cli.changes.nodes import NodeSteps
from cli.changes.row import About, Row

NODE = "homelab:Node"
_SIGNS = {"create": "+", "delete": "-", "update": "~"}
_CLUSTERS = frozenset({"cluster", "secrets", "kubernetes", "control-plane"})
_MANY = {"reboots": "reboot", "changes": "change", "moves": "move", "LEAVES": "LEAVE"}
_OF_THE_ENGINE = ("pulumi:pulumi:", "pulumi:providers:")


@dataclass(frozen=True)
class Difference:
    """One resource of the plain diff.

    Attributes:
        title: `~ talos:Machine node3-machine`.
        lines: its properties that differ.
        harmful: whether it belongs to a row that loses something; such ones come first.
    """

    title: str
    lines: tuple[str, ...] = ()
    harmful: bool = False


@dataclass(frozen=True)
class Report:
    """What would happen to a lab.

    Attributes:
        stack: of which.
        rows: the table.
        diff: the plain diff.
        failure: why the preview failed; empty where it did not.
        warnings: what the program warned of, apart from what the rows say.
        acknowledged: names of nodes and parts that may lose what they would lose.
    """

    stack: str
    rows: tuple[Row, ...] = ()
    diff: tuple[Difference, ...] = ()
    failure: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    acknowledged: frozenset[str] = frozenset()

    @property
    def harmful(self) -> tuple[Row, ...]:
        """The rows that lose something."""
        return tuple(row for row in self.rows if row.harm)

    @property
    def unacknowledged(self) -> tuple[Row, ...]:
        """The rows that lose something, and nobody has said that they may."""
        return tuple(row for row in self.harmful if row.name not in self.acknowledged)

    @property
    def ok(self) -> bool:
        """Whether the change may be merged as far as this report can tell."""
        return not self.failure and not self.unacknowledged

    @property
    def summary(self) -> str:
        """One line: `nodes: 1 REINSTALLED, 1 reboots; parts: 2 changes`."""
        if self.failure:
            return "the preview failed"
        if not self.rows:
            return "nothing would change"
        groups = ((About.CLUSTER, "cluster"), (About.NODE, "nodes"), (About.PART, "parts"), (About.OTHER, "others"))
        return "; ".join(filter(None, (_counted(self.rows, about, title) for about, title in groups)))

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "stack": self.stack,
            "ok": self.ok,
            "failed": bool(self.failure),
            "summary": self.summary,
            "unacknowledged": [row.name for row in self.unacknowledged],
            "rows": [
                {"about": row.about.value, "name": row.name, "verb": row.verb, "text": row.text, "harm": row.harm}
                for row in self.rows
            ],
            "warnings": list(self.warnings),
            "failure": list(self.failure),
        }


def build(stack: str, preview: Preview, acknowledged: Iterable[str] = ()) -> Report:
    """The report of a preview. One whose document has an error has failed; `acknowledged` as in `Report`."""
    rows = tuple(_rows(preview))
    harmful = {row.name for row in rows if row.harm}
    changes = [step for step in preview.changes if not step.type.startswith(_OF_THE_ENGINE)]
    diff = [_difference(step, preview.owner(step)[1] in harmful) for step in changes]
    return Report(
        stack=stack,
        rows=rows,
        diff=tuple(sorted(diff, key=lambda one: not one.harmful)),
        failure=tuple(map(without_trace, preview.errors)),
        warnings=tuple(_warnings(preview)),
        acknowledged=frozenset(acknowledged),
    )


def _rows(preview: Preview) -> Iterator[Row]:
    owned: dict[tuple[str, str], list[Step]] = {}
    for step in preview.steps:
        owned.setdefault(preview.owner(step), []).append(step)
    machines = [NodeSteps(name, steps, preview) for (kind, name), steps in owned.items() if kind == NODE]
    machines.sort(key=lambda node: _natural(node.name))
    yield from cluster.rows(preview, machines)
    yield from filter(None, map(nodes.row, machines))
    found = sorted((name, steps) for (kind, name), steps in owned.items() if is_part(kind))
    yield from filter(None, (parts.row(name, steps) for name, steps in found))
    yield from _others(preview)
    yield from unseen.rows(preview)


def _others(preview: Preview) -> Iterator[Row]:
    """What is neither a node's nor a part's nor the cluster's: nothing may go unseen."""
    for step in preview.changes:
        if step.type.startswith(("homelab:", *_OF_THE_ENGINE)) or step.name in _CLUSTERS:
            continue
        if not preview.owner(step)[0].startswith("homelab:"):
            verb = "replaced" if step.replaced else {"create": "created", "delete": "deleted"}.get(step.op, "changes")
            yield Row(About.OTHER, step.name, verb, (verb,))


def _counted(rows: Sequence[Row], about: About, title: str) -> str:
    verbs = Counter(row.verb for row in rows if row.about is about)
    if about is About.CLUSTER:
        return "; ".join(f"{row.name} {row.verb}" for row in rows if row.about is about)
    told = ", ".join(
        f"{count} {verb if count == 1 else _MANY.get(verb, verb)}" for verb, count in sorted(verbs.items())
    )
    return f"{title}: {told}" if told else ""


def _difference(step: Step, harmful: bool) -> Difference:
    sign = "+-" if step.replaced else _SIGNS.get(step.op, "~")
    kind = step.type.removeprefix("pulumi-python:dynamic/")
    title = f"{sign} {kind} {step.name}"
    if step.op != "update" and not step.replaced:
        return Difference(title, (), harmful)
    lines = tuple(str(field) for field in fields(step))
    if not lines:
        seen = [f"~ {path}" for path in step.details if path != "__provider"]
        lines = tuple(seen) or (("~ secret changed",) if is_hidden(step) else ())
    return Difference(title, lines, harmful)


def _warnings(preview: Preview) -> Iterator[str]:
    """Warnings about no node: a node's own are in its row."""
    for message in preview.messages:
        of_node = any(step.urn == message.urn and preview.owner(step)[0] == NODE for step in preview.steps)
        if message.severity == "warning" and not of_node and not unseen.is_note(message.text):
            yield message.text


def _natural(name: str) -> tuple[str, int]:
    """Sorts node2 before node10."""
    digits = name[len(name.rstrip("0123456789")) :]
    return name.rstrip("0123456789"), int(digits or 0)
