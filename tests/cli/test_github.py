"""GitHub's REST API as far as a comment needs it, against a forge on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.github import PullRequest, Target, pull_request, target
from providers.errors import AuthError, ProtocolError, RefusedError, UnreachableError, UserError
from tests.cli.forge import REPOSITORY, RUN, TOKEN, Forge, serving
from tests.cli.test_preview_report import recorded, verb

MARK = "<!-- homelab preview-report: homelab -->"


@pytest.fixture
def forge() -> Iterator[Forge]:
    with serving() as server:
        yield server


def test_the_first_report_is_a_new_comment(forge: Forge) -> None:
    forge.say("nice", f"I saw {MARK} there")
    assert forge.client().upsert(7, MARK, f"{MARK}\none") == "https://github.test/7#1"
    assert [comment["body"] for comment in forge.comments] == ["nice", f"I saw {MARK} there", f"{MARK}\none"]


def test_the_next_one_takes_its_place_wherever_it_stands(forge: Forge) -> None:
    """Stands on the third page: who looks at the first only makes a second one."""
    forge.say(*["talk"] * 234, f"{MARK}\none", *["more"] * 20)
    assert forge.client().upsert(7, MARK, f"{MARK}\ntwo") == "https://github.test/7#235"
    assert [comment["body"] for comment in forge.comments if MARK in comment["body"]] == [f"{MARK}\ntwo"]
    assert len(forge.comments) == 255


def test_a_full_last_page_is_the_last_one(forge: Forge) -> None:
    forge.say(*["talk"] * 100)
    forge.client().upsert(7, MARK, f"{MARK}\none")
    assert [call.split("page=")[-1] for call in forge.calls[:2]] == ["1", "2"]
    assert len(forge.comments) == 101


def test_each_stack_has_a_comment_of_its_own(forge: Forge) -> None:
    other = MARK.replace("homelab -->", "homelab-twin -->")
    forge.client().upsert(7, MARK, f"{MARK}\na")
    forge.client().upsert(7, other, f"{other}\nb")
    assert len(forge.comments) == 2


def test_a_try_that_fails_is_repeated_and_never_makes_two(forge: Forge) -> None:
    forge.failing = [502, 0, 503]
    forge.client().upsert(7, MARK, f"{MARK}\none")
    assert len(forge.comments) == 1
    assert len(forge.calls) == 5


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        (403, RefusedError, "answers 403: Resource not accessible by integration"),
        (404, RefusedError, "answers 404"),
        (422, RefusedError, "answers 422"),
    ],
)
def test_what_github_refuses_is_said_at_once(forge: Forge, status: int, error: type[Exception], word: str) -> None:
    forge.status = status
    with pytest.raises(error, match=word):
        forge.client().upsert(7, MARK, MARK)
    assert len(forge.calls) == 1


def test_a_wrong_token_is_never_tried_again_and_never_shown(forge: Forge) -> None:
    with pytest.raises(AuthError) as raised:
        forge.client("ghs_wrong").upsert(7, MARK, MARK)
    assert "GITHUB_TOKEN" in str(raised.value)
    assert "ghs_wrong" not in str(raised.value)
    assert len(forge.calls) == 1


def test_a_forge_that_is_away(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.github.TRIES_S", 0.05)
    forge.status = 503
    with pytest.raises(UnreachableError, match="answers 503"):
        forge.client().upsert(7, MARK, MARK)
    with pytest.raises(UnreachableError, match="answers 503"):
        forge.client().labelled(7)


def test_labels_are_read_as_they_are_now(forge: Forge) -> None:
    assert forge.client().labelled(7) == PullRequest(7, ("acknowledge:node4", "bug"))
    assert forge.client().labelled(7).acknowledged == {"node4"}


def test_a_forks_pull_request_is_found_by_its_head(forge: Forge) -> None:
    forge.pulls = [
        {"number": 3, "from": "eve:more/nodes", "head": {"sha": "c0ffee"}},
        {"number": 4, "from": "bob:more/nodes", "head": {"sha": "c0ffee"}, "labels": [{"name": "acknowledge:a"}]},
    ]
    assert forge.client().started_by(RUN) == PullRequest(4, ("acknowledge:a",))
    assert forge.client().started_by({**RUN, "head_sha": "beef"}) is None  # pushed to since


@pytest.mark.parametrize("run", [{}, {**RUN, "head_repository": None}, {**RUN, "head_sha": 1}])
def test_a_run_that_names_no_head(forge: Forge, run: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        forge.client().started_by(run)


def test_where_it_goes_is_what_the_environment_says() -> None:
    given = {"GITHUB_REPOSITORY": REPOSITORY, "GITHUB_TOKEN": TOKEN}
    assert target(given) == Target("https://api.github.com", REPOSITORY, TOKEN)
    assert target({**given, "GITHUB_API_URL": "https://ghe.test/api/v3/"}).api == "https://ghe.test/api/v3"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "GITHUB_REPOSITORY"),
        ({"GITHUB_REPOSITORY": "../../evil", "GITHUB_TOKEN": TOKEN}, "GITHUB_REPOSITORY"),
        ({"GITHUB_REPOSITORY": REPOSITORY}, "GITHUB_TOKEN is not set"),
    ],
)
def test_an_environment_that_does_not_say(given: dict[str, str], word: str) -> None:
    with pytest.raises(UserError, match=word):
        target(given)


def test_the_pull_request_is_the_one_of_the_event_else_of_the_ref(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7, "labels": [{"name": "acknowledge:x"}]}}))
    assert pull_request({"GITHUB_EVENT_PATH": str(event)}) == PullRequest(7, ("acknowledge:x",))
    assert pull_request({"GITHUB_REF": "refs/pull/12/merge"}) == PullRequest(12)
    assert pull_request({"GITHUB_REF": "refs/heads/main"}) is None
    event.write_text("no JSON")
    assert pull_request({"GITHUB_EVENT_PATH": str(event)}) is None
    assert pull_request({"GITHUB_EVENT_PATH": "/nowhere"}) is None


# The verb


def environment(forge: Forge, tmp_path: Path, event: dict[str, Any]) -> dict[str, str]:
    path = tmp_path / "event.json"
    path.write_text(json.dumps(event))
    where = {"GITHUB_API_URL": forge.api, "GITHUB_REPOSITORY": REPOSITORY, "GITHUB_TOKEN": TOKEN}
    return {**where, "GITHUB_EVENT_PATH": str(path)}


def test_the_verb_has_one_comment_that_follows_the_pushes(forge: Forge, tmp_path: Path) -> None:
    """The label is taken off meanwhile: what the event said of it does not count."""
    env = environment(forge, tmp_path, {"pull_request": {"number": 7, "labels": [{"name": "acknowledge:node4"}]}})
    first = verb(*recorded("worker_reinstalled"), "--post", env=env)
    assert (first.exit_code, len(forge.comments)) == (0, 1)
    forge.pulls[0]["labels"] = []
    second = verb(*recorded("worker_reinstalled"), "--post", env=env)
    assert (second.exit_code, len(forge.comments)) == (1, 1)
    assert "**not acknowledged**" in forge.comments[0]["body"]
    assert "commented: https://github.test/7#1" in " ".join(second.stderr.split())


def test_a_failed_preview_is_a_comment_too(forge: Forge, tmp_path: Path) -> None:
    env = environment(forge, tmp_path, {"pull_request": {"number": 7}})
    assert verb(*recorded("settings_wrong"), "--post", env=env).exit_code == 1
    assert "is taken by node2" in forge.comments[0]["body"]


def test_the_run_that_comments_for_another_finds_its_pull_request(forge: Forge, tmp_path: Path) -> None:
    forge.pulls = [{"number": 7, "from": "bob:more/nodes", "head": {"sha": "c0ffee"}}]
    env = environment(forge, tmp_path, {"workflow_run": RUN})
    assert verb(*recorded("worker_reinstalled"), "--post", env=env).exit_code == 0  # the other run has ended with 1
    assert len(forge.comments) == 1
    env = environment(forge, tmp_path, {"workflow_run": {**RUN, "head_sha": "beef"}})
    late = verb(*recorded("node_added"), "--post", env=env)
    assert (late.exit_code, len(forge.comments)) == (0, 1)
    assert "nothing to comment on" in " ".join(late.stderr.split())


def test_a_token_never_gets_into_a_comment(forge: Forge, tmp_path: Path) -> None:
    told = tmp_path / "preview.json"
    told.write_text(json.dumps({"diagnostics": [{"message": f"with {TOKEN}!", "severity": "error"}]}))
    env = environment(forge, tmp_path, {"pull_request": {"number": 7}})
    verb("--from", str(told), "--post", env=env)
    assert "with [secret]!" in forge.comments[0]["body"]
