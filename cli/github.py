"""A comment on a pull request, kept up to date through GitHub's REST API; which one, the run's environment says.

Protocol source: https://docs.github.com/en/rest/issues/comments and /rest/pulls/pulls (2022-11-28); the variables are
those of https://docs.github.com/en/actions/reference/workflows-and-actions/variables. Other forges with the same API
answer at GITHUB_API_URL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from providers.deadline import Deadline
from providers.dynamic import lazily
from providers.errors import AuthError, ProtocolError, RefusedError, UnreachableError, UserError

if TYPE_CHECKING:
    import httpx2
else:
    httpx2 = lazily("httpx2")

API = "https://api.github.com"
PAGE = 100  # the most that a page holds
REQUEST_S = 30.0
TRIES_S = 60.0  # a comment with all of its tries
PAUSE_S = 2.0
PASSING = frozenset({429, 500, 502, 503, 504})
LABEL = "acknowledge:"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+\Z")
_REF = re.compile(r"refs/pull/(\d+)/")


@dataclass(frozen=True)
class Target:
    """Where a comment goes.

    Attributes:
        api: base URL of the REST API.
        repository: `owner/name`.
        token: what opens it; needs the right to write pull requests.
    """

    api: str
    repository: str
    token: str


@dataclass(frozen=True)
class PullRequest:
    """A pull request: its number and the names of its labels, which only people with rights on the repository set."""

    number: int
    labels: tuple[str, ...] = ()

    @property
    def acknowledged(self) -> frozenset[str]:
        """The nodes and parts that a label says may lose what they would lose."""
        return frozenset(label.removeprefix(LABEL).strip() for label in self.labels if label.startswith(LABEL))


def target(environ: Mapping[str, str]) -> Target:
    """Where the environment of a run says that comments go.

    Raises:
        UserError: it does not say where, or gives no token.
    """
    repository, token = environ.get("GITHUB_REPOSITORY", ""), environ.get("GITHUB_TOKEN", "")
    if not _REPOSITORY.match(repository):
        raise UserError("--post: GITHUB_REPOSITORY is not `owner/name`; set it to the repository of the pull request")
    if not token:
        raise UserError("--post: GITHUB_TOKEN is not set; give a token that may write pull requests")
    return Target((environ.get("GITHUB_API_URL") or API).rstrip("/"), repository, token)


def event(environ: Mapping[str, str]) -> Mapping[str, Any]:
    """The event that the run was started by; empty where there is none."""
    path = environ.get("GITHUB_EVENT_PATH")
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}


def pull_request(environ: Mapping[str, str]) -> PullRequest | None:
    """The pull request that the run is about, as its event and its ref tell it; None where it is about none."""
    found = event(environ).get("pull_request")
    if isinstance(found, Mapping) and isinstance(found.get("number"), int):
        return _pull_request(found)
    match = _REF.match(environ.get("GITHUB_REF", ""))
    return PullRequest(int(match[1])) if match else None


class GitHub:
    """One repository's API.

    Args:
        where: which.
        pause_s: seconds before a request is tried again.
    """

    def __init__(self, where: Target, *, pause_s: float = PAUSE_S) -> None:
        self._where = where
        self._pause_s = pause_s

    def labelled(self, number: int) -> PullRequest:
        """A pull request with its labels as they are now.

        Raises:
            RefusedError: there is none of that number, or the token may not read it.
            UnreachableError: GitHub does not answer.
        """
        return _pull_request(self._patiently("GET", f"/pulls/{number}"))

    def started_by(self, run: Mapping[str, Any]) -> PullRequest | None:
        """The open pull request whose head a `workflow_run` was about; None where it has moved on, or is closed.

        The event lists no pull request where its head is in a fork, so it is looked for by that head.

        Raises:
            ProtocolError: it is no event of such a run.
            UnreachableError: GitHub does not answer.
        """
        owner = ((run.get("head_repository") or {}).get("owner") or {}).get("login")
        branch, sha = run.get("head_branch"), run.get("head_sha")
        if not (isinstance(owner, str) and isinstance(branch, str) and isinstance(sha, str)):
            raise ProtocolError("the event of the run names no head; is this a `workflow_run`?")
        path = f"/pulls?state=open&head={quote(f'{owner}:{branch}', safe='')}"
        for found in self._pages(path):
            head = found.get("head")
            if isinstance(head, Mapping) and head.get("sha") == sha:
                return _pull_request(found)
        return None

    def upsert(self, number: int, mark: str, body: str) -> str:
        """Have one comment that begins with `mark`: the one that is there gets the new text, else one is made.

        It is looked for on all pages. A try that failed half-way looks again, so that there are never two.

        Returns:
            The comment's page.

        Raises:
            AuthError: the token is refused.
            RefusedError: it may not comment there, or there is no such pull request.
            UnreachableError: GitHub does not answer.
        """
        deadline = Deadline(TRIES_S)
        while True:
            try:
                return self._upsert_once(number, mark, body)
            except UnreachableError:
                if deadline.remaining < self._pause_s:
                    raise
                deadline.sleep(self._pause_s)

    def _upsert_once(self, number: int, mark: str, body: str) -> str:
        for found in self._pages(f"/issues/{number}/comments"):
            if str(found.get("body") or "").startswith(mark) and isinstance(found.get("id"), int):
                return _page(self._ask("PATCH", f"/issues/comments/{found['id']}", {"body": body}))
        return _page(self._ask("POST", f"/issues/{number}/comments", {"body": body}))

    def _pages(self, path: str) -> Iterator[Mapping[str, Any]]:
        """Every item of a listing, over all of its pages."""
        page = 1
        while True:
            items = self._ask("GET", f"{path}{'&' if '?' in path else '?'}per_page={PAGE}&page={page}")
            if not isinstance(items, list):
                raise ProtocolError(f"{self._where.api}{path}: is no list")
            yield from (item for item in items if isinstance(item, Mapping))
            if len(items) < PAGE:
                return
            page += 1

    def _patiently(self, method: str, path: str) -> Any:
        deadline = Deadline(TRIES_S)
        while True:
            try:
                return self._ask(method, path)
            except UnreachableError:
                if deadline.remaining < self._pause_s:
                    raise
                deadline.sleep(self._pause_s)

    def _ask(self, method: str, path: str, given: Mapping[str, Any] | None = None) -> Any:
        url = f"{self._where.api}/repos/{self._where.repository}{path}"
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._where.token}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        try:
            answer = httpx2.request(method, url, headers=headers, json=given, timeout=REQUEST_S)
        except httpx2.HTTPError as error:
            raise UnreachableError(f"{method} {url}: {type(error).__name__}") from error
        return _content(answer, f"{method} {url}")


def _content(answer: httpx2.Response, what: str) -> Any:
    status = answer.status_code
    if status == 401:
        raise AuthError(f"{what}: the token is refused; set GITHUB_TOKEN to one that may write pull requests")
    if status in PASSING:
        raise UnreachableError(f"{what}: answers {status}")
    if status >= 300:
        raise RefusedError(f"{what}: answers {status}: {_reason(answer)}")
    try:
        return answer.json()
    except ValueError:
        raise ProtocolError(f"{what}: answers with something that is no JSON") from None


def _reason(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return "it gives no reason"


def _page(comment: Any) -> str:
    return str(comment.get("html_url") or "") if isinstance(comment, Mapping) else ""


def _pull_request(found: Any) -> PullRequest:
    if not isinstance(found, Mapping) or not isinstance(found.get("number"), int):
        raise ProtocolError("GitHub: a pull request without a number")
    labels = found.get("labels") or ()
    return PullRequest(found["number"], tuple(str(label.get("name")) for label in labels if isinstance(label, Mapping)))
