"""What an earlier run left half done, in words, and what to do about it (4d.36, 4d.47).

Each create of this program looks at its device before it acts, so the next `up` takes over what is done and finishes
the rest. The engine knows none of that: it carries each cut-off create along for ever, and warns of it in every run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from cli import locks, run_log, running
from cli.engine import Engine, Pending, pending
from cli.running import Run
from providers.errors import HomelabError

FINISHES = frozenset({"up", "refresh"})  # the verbs after which the marks mean nothing
NAMED = 6


def interrupted(engine: Engine, verb: str, state: str) -> list[str]:
    """What the run before this one left half done; nothing when it came to its end.

    `up` and `refresh` clear the engine's marks, as `pulumi refresh --clear-pending-creates` does. The engine drops
    other marks by itself: what was being changed or deleted is still in the state, and is changed or deleted again.

    Args:
        engine: of a stack that nobody else works on; see `Engine.select`.
        verb: what is about to begin.
        state: what the engine exports.
    """
    run = _cut_off(engine)
    document = json.loads(state)
    cut = pending(document.get("deployment") or {})
    said = list(_words(engine.stack.name, verb, run, cut))
    if cut and verb in FINISHES:
        said += _clear(engine, document)
    return said


def _cut_off(engine: Engine) -> Run | None:
    run = running.last(engine.stack) or _without_an_end(engine)
    return None if run is None or (run.pid and locks.is_pulumi(run.pid)) else run


def _without_an_end(engine: Engine) -> Run | None:
    """The newest run that changed something, by its events: when the note of it is lost with the machine's power."""
    for path in run_log.paths(engine.stack):
        try:
            found = run_log.Tail(path).read()
        except (OSError, ValueError):
            continue
        if found.verb not in running.LOOKS:
            began = datetime.fromtimestamp(found.began, UTC).isoformat()
            return Run(found.verb, 0, began) if found.outcome == "cut off" else None
    return None


def _words(stack: str, verb: str, run: Run | None, cut: Sequence[Pending]) -> Iterator[str]:
    if run is None and not cut:
        return
    begun = "; ".join(f"{doing} {_some([one.name for one in cut if one.doing == doing])}" for doing in _kinds(cut))
    who = run.words if run else "an earlier run"
    yield f"{who} was cut off{f' while {begun}' if begun else ''}"
    yield _advice(stack, verb, created=any(one.doing == "creating" for one in cut))


def _advice(stack: str, verb: str, *, created: bool) -> str:
    up = f"`homelab up --stack {stack}`"
    if verb == "up":
        return "each step looks at its device before it acts: what is done is kept, what is half done is finished"
    if verb == "destroy" and created:
        return f"what was being created is not in the state, so destroy does not undo it; {up} before it takes it over"
    return f"{up} goes on where it was"


def _kinds(cut: Sequence[Pending]) -> list[str]:
    return list(dict.fromkeys(one.doing for one in cut))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _clear(engine: Engine, document: dict[str, dict[str, object]]) -> list[str]:
    del document["deployment"]["pending_operations"]
    try:
        engine.replace(json.dumps(document))
    except HomelabError as error:  # they only cost a warning of the engine's
        return [f"warning: its marks could not be cleared from the state: {error}"]
    return []
