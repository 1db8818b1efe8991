"""What changes in the real lab's settings and can't be seen on its twin: the twin's own notes tell of it."""

from __future__ import annotations

from collections.abc import Iterator

from cli.changes.document import Preview
from cli.changes.row import About, Row
from cli.twin_of_notes import CHANGED, CHANGED_FROM

_ABSENT = "absent"


def is_note(text: str) -> bool:
    """Whether a message is such a note."""
    return text.startswith((CHANGED, CHANGED_FROM))


def rows(preview: Preview) -> Iterator[Row]:
    """A row for each such setting, with what it was and what it becomes."""
    before, after = _values(preview, CHANGED_FROM), _values(preview, CHANGED)
    for path in sorted({*before, *after}):
        words = f"not seen on a twin: {before.get(path, _ABSENT)} -> {after.get(path, _ABSENT)}"
        yield Row(About.OTHER, path, "changes", (words,))


def _values(preview: Preview, kind: str) -> dict[str, str]:
    """Setting -> value, from notes such as `platform.metallb.version: chart 9.9.9; a twin has 0.16.1`."""
    notes = (message.text.removeprefix(kind) for message in preview.messages if message.text.startswith(kind))
    return {path: value.partition(";")[0] for path, _, value in (note.partition(": ") for note in notes)}
