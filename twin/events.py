"""What happened in the lab, one JSON line an event: tests count flashes and boots in it, the bench reads its bounds."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Listener = Callable[[dict[str, Any]], None]


class Events:
    """The journal `events.jsonl` of a twin's state folder, and those who listen to it.

    Every line has `t` (epoch seconds), `mono` (monotonic seconds, for differences), `kind`, and `node` or `board`
    where there is one. It never holds a secret: callers give names, sizes and hashes only.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every event from now on, in the emitter's own stack: it must be quick."""
        self._listeners.append(listener)

    def emit(self, kind: str, node: str | None = None, **data: Any) -> None:
        """Write one event; `data` must be plain JSON values."""
        event: dict[str, Any] = {"t": time.time(), "mono": time.monotonic(), "kind": kind}
        if node is not None:
            event["node"] = node
        event.update(data)
        if not self._file.closed:
            self._file.write(json.dumps(event) + "\n")
        for listener in self._listeners:
            listener(event)

    def close(self) -> None:
        """Close the journal; later events reach listeners only."""
        self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """All events of a journal, oldest first; empty if there is none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
