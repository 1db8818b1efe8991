"""A forge on loopback that speaks as much of GitHub's REST API as a comment needs, and keeps what it is told."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cli.github import GitHub, Target

TOKEN = "ghs_of-this-run"
REPOSITORY = "ann/homelab"


class Forge(ThreadingHTTPServer):
    """One repository: pull requests, and the comments of pull request 7."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.comments: list[dict[str, Any]] = []
        self.pulls: list[dict[str, Any]] = [{"number": 7, "labels": [{"name": "acknowledge:node4"}, {"name": "bug"}]}]
        self.calls: list[str] = []
        self.failing: list[int] = []  # statuses that are answered first
        self.status = 0  # that is always answered
        self.ignores_pages = False

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def client(self, token: str = TOKEN) -> GitHub:
        return GitHub(Target(self.api, REPOSITORY, token), pause_s=0.01)

    def say(self, *bodies: str) -> None:
        for body in bodies:
            self.comments.append({"id": len(self.comments) + 1, "body": body})


class Handler(BaseHTTPRequestHandler):
    server: Forge

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _answer(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refused(self) -> bool:
        self.server.calls.append(f"{self.command} {self.path}")
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"message": "Bad credentials"})
            return True
        status = self.server.failing.pop(0) if self.server.failing else self.server.status
        if status:
            self._answer(status, {"message": "Resource not accessible by integration"})
        return bool(status)

    def do_GET(self) -> None:
        if self._refused():
            return
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == f"/repos/{REPOSITORY}/pulls/7":
            self._answer(200, self.server.pulls[0])
        elif url.path == f"/repos/{REPOSITORY}/pulls":
            wanted = [p for p in self.server.pulls if p.get("from") == query["head"] and query["state"] == "open"]
            self._answer(200, wanted)
        elif url.path == f"/repos/{REPOSITORY}/issues/7/comments":
            size, page = int(query["per_page"]), int(query["page"])
            self._answer(200, self.server.comments[(page - 1) * size : page * size])
        else:
            self._answer(404, {"message": "Not Found"})

    def do_POST(self) -> None:
        body = self._body()
        if self._refused():
            return
        made = {"id": len(self.server.comments) + 1, **body, "html_url": "https://github.test/7#1"}
        self.server.comments.append(made)
        self._answer(201, made)

    def do_PATCH(self) -> None:
        body = self._body()
        if self._refused():
            return
        number = int(re.search(r"/issues/comments/(\d+)$", self.path)[1])  # type: ignore[index]
        comment = next(one for one in self.server.comments if one["id"] == number)
        comment.update(body)
        self._answer(200, {**comment, "html_url": f"https://github.test/7#{number}"})

    def _body(self) -> dict[str, Any]:
        return dict(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))


@contextmanager
def serving() -> Iterator[Forge]:
    """A forge that listens as long as it is entered."""
    server = Forge()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


# What GitHub tells of a run whose head is in a fork.
RUN = {"head_repository": {"owner": {"login": "bob"}}, "head_branch": "more/nodes", "head_sha": "c0ffee"}
