"""Tells Prometheus of the backups that are there: it looks into their folder at each scrape, and believes no job.

Runs in a pod of its own, with `keep_backup.py` beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from components.scripts.keep_backup import MB, backups, note

PREFIX = "homelab_etcd_backup"


@dataclass(frozen=True)
class Shelf:
    """Where the backups of a cluster are, and the least size of one."""

    folder: Path
    cluster: str
    minimum_bytes: int


def metrics(shelf: Shelf) -> str:
    """All metrics, in Prometheus' text format. Before the first backup there is no `last_`."""
    return "".join(
        f"# HELP {PREFIX}_{name} {text}\n# TYPE {PREFIX}_{name} gauge\n{PREFIX}_{name} {value}\n"
        for name, text, value in _all(shelf)
    )


def _all(shelf: Shelf) -> Iterator[tuple[str, str, float]]:
    found = backups(shelf.folder, shelf.cluster)
    yield "count", "Backups that are kept.", len(found)
    yield "minimum_bytes", "A smaller backup is none.", shelf.minimum_bytes
    if not found:
        return
    at, path = found[-1]
    yield "last_success_timestamp_seconds", "When the newest was taken.", at.timestamp()
    yield "last_size_bytes", "Its size.", path.stat().st_size
    words = _noted(path)
    for key in ("revision", "keys"):
        if key in words:
            yield f"last_{key}", f"Its {key}, found by verifying it.", words[key]


def _noted(path: Path) -> dict[str, int]:
    try:
        return dict(json.loads(note(path).read_text(encoding="utf-8")))
    except (OSError, ValueError):  # somebody's own copy, without a note
        return {}


def server(shelf: Shelf, address: str, port: int) -> ThreadingHTTPServer:
    """An HTTP server: `/metrics`, and `/healthz` for probes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in ("/metrics", "/healthz"):
                self.send_error(404)
                return
            try:
                body = (metrics(shelf) if self.path == "/metrics" else "ok\n").encode()
            except OSError as error:  # the share is away: no numbers are better than old ones
                self.send_error(503, str(error.strerror))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A scrape every half a minute is no news."""

    return ThreadingHTTPServer((address, port), Handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """The pod's command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--minimum-mb", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args(arguments)
    shelf = Shelf(given.folder, given.cluster, given.minimum_mb * MB)
    server(shelf, "", given.port).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
