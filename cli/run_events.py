"""What the engine tells of a run, event by event, and the steps that this was made of.

Protocol source: `apitype.EngineEvent` of https://github.com/pulumi/pulumi, one JSON object a line, times in whole
seconds. A line holds a resource's whole state, its secrets blinded; what is kept here has no state at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

TEXT_CHARACTERS = 300
STACK = "pulumi:pulumi:Stack"
ENGINES_OWN = "pulumi:"  # types of which the engine makes resources by itself: the stack, and its providers
QUIET_OPS = frozenset({"same"})
SEVERITIES = frozenset({"info", "warning", "error"})
_COLOURS = re.compile(r"<\{%.*?%\}>|\x1b\[[0-9;]*[mK]")
# The engine blinds what it knows as a secret; an error's text may hold one that it doesn't know.
# Names and digests are long as well, and have no capitals, small letters and digits all together.
_PEM = re.compile(r"-----BEGIN [^-]+-----.*?(-----END [^-]+-----|$)", re.DOTALL)
_CODED = re.compile(r"[A-Za-z0-9+/_=-]{40,}")
_MIXED = (re.compile("[A-Z]"), re.compile("[a-z]"), re.compile("[0-9]"))
HIDDEN = "[...]"


@dataclass(frozen=True)
class Event:
    """One thing that happened in a run.

    Attributes:
        at: Unix time in seconds.
        kind: "begin", "end" and "failed" of a resource's step; "said" by somebody; "counted" and "over" of the run.
        owner: the node, part or other top-level resource that the resource belongs to.
        custom: whether a provider works on it; a component only groups others.
        planning: whether it was only foreseen, by a preview.
        passing: of a text, whether the next one takes its place.
        changes: of "counted", how many resources by what was done to them.
    """

    at: int
    kind: str
    urn: str = ""
    type: str = ""
    op: str = ""
    owner: str = ""
    custom: bool = False
    planning: bool = False
    text: str = ""
    severity: str = ""
    passing: bool = False
    changes: dict[str, int] = field(default_factory=dict)

    def line(self) -> str:
        """The event as it is kept: JSON without what is empty."""
        return json.dumps({key: value for key, value in asdict(self).items() if value not in ("", False, {})})


class Reader:
    """Reads the lines of one run, in their order: the engine's own, or those that `Event.line` gave."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def event(self, line: str) -> Event | None:
        """The line's event; None when it tells of nothing that is shown, or is no event."""
        try:
            told = json.loads(line)
            return self._engines(told) if "sequence" in told else Event(**told)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None  # half a line, as a killed run leaves it

    def _engines(self, told: dict[str, Any]) -> Event | None:
        at = int(told["timestamp"])
        for key, kind in (("resourcePreEvent", "begin"), ("resOutputsEvent", "end"), ("resOpFailedEvent", "failed")):
            if key in told:
                return self._step(at, kind, told[key])
        if "diagnosticEvent" in told:
            return self._said(at, told["diagnosticEvent"])
        if "summaryEvent" in told:
            found = told["summaryEvent"]
            changes = {str(op): int(count) for op, count in (found.get("resourceChanges") or {}).items()}
            return Event(at, "counted", planning=bool(found.get("isPreview")), changes=changes)
        return Event(at, "over") if "cancelEvent" in told else None

    def _step(self, at: int, kind: str, told: dict[str, Any]) -> Event | None:
        about = told["metadata"]
        urn, op = str(about["urn"]), str(about["op"])
        states = [about[age] for age in ("new", "old") if about.get(age)]
        self._parents.setdefault(urn, next((s["parent"] for s in states if s.get("parent")), ""))
        if op in QUIET_OPS or str(about["type"]).startswith(ENGINES_OWN):
            return None
        custom = any(state.get("custom") for state in states)
        planning = bool(told.get("planning"))
        return Event(at, kind, urn, str(about["type"]), op, self._owner(urn), custom=custom, planning=planning)

    def _said(self, at: int, told: dict[str, Any]) -> Event | None:
        severity, urn = str(told.get("severity", "")), str(told.get("urn") or "")
        text, passing = plain(str(told.get("message", ""))), bool(told.get("ephemeral"))
        if severity not in SEVERITIES or not text:
            return None
        return Event(at, "said", urn, owner=self._owner(urn), text=text, severity=severity, passing=passing)

    def _owner(self, urn: str) -> str:
        """The name of the one at the top, below the stack. The engine tells of a parent before its children."""
        seen = {urn}
        while (parent := self._parents.get(urn, "")) and STACK not in parent.split("::")[2:3] and parent not in seen:
            seen.add(urn := parent)
        return name(urn)


@dataclass(frozen=True)
class Step:
    """What was done to one resource.

    Attributes:
        kind: the last word of its type, such as "Flash".
        owner: the node or part that it belongs to.
        op: the engine's word: "create", "update", "delete", ...
        began: Unix time in seconds, as `ended`, which is None while it runs.
        word: what it said last.
    """

    name: str
    kind: str
    owner: str
    op: str
    began: int
    ended: int | None = None
    failed: bool = False
    word: str = ""


def steps(events: Iterable[Event]) -> tuple[Step, ...]:
    """The steps of a run in the order in which they began; those that a preview only foresaw are left out."""
    made: dict[tuple[str, str], Step] = {}
    done: list[Step] = []
    latest: dict[str, tuple[str, str]] = {}
    for event in events:
        key = (event.urn, event.op)
        if event.kind == "begin" and event.custom and not event.planning:
            done += [made.pop(key)] if key in made else []
            latest[event.urn], made[key] = key, _begun(event)
        elif event.kind in ("end", "failed") and key in made and made[key].ended is None:
            made[key] = replace(made[key], ended=event.at, failed=event.kind == "failed")
        elif event.kind == "said" and event.urn in latest:
            made[latest[event.urn]] = replace(made[latest[event.urn]], word=event.text)
    return tuple(sorted((*done, *made.values()), key=lambda step: step.began))


def _begun(event: Event) -> Step:
    return Step(name(event.urn), re.split(r"[:/]", event.type)[-1], event.owner, event.op, event.at)


def condensed(lines: Iterable[str]) -> Iterator[str]:
    """The lines that are kept of a run that has ended: no state, no passing word, nothing foreseen."""
    reader = Reader()
    for line in lines:
        event = reader.event(line)
        if event is not None and not event.passing and not (event.kind in ("begin", "end") and event.planning):
            yield event.line()


def name(urn: str) -> str:
    """A resource's name out of its URN."""
    return urn.rsplit("::", 1)[-1]


def plain(text: str) -> str:
    """One line of a message, without colours and without what could be a key."""
    hidden = _CODED.sub(_hidden, _PEM.sub(HIDDEN, _COLOURS.sub("", text)))
    line = " ".join(hidden.split())
    return line if len(line) <= TEXT_CHARACTERS else line[: TEXT_CHARACTERS - 1] + "…"


def _hidden(word: re.Match[str]) -> str:
    return HIDDEN if all(kind.search(word[0]) for kind in _MIXED) else word[0]
