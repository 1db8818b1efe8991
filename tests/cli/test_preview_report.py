"""The report of a change: each kind of change against its expected comment, and what no comment ever holds.

`previews/KIND.json` are documents of `pulumi preview --json`, cut to what differs; `previews/KIND.md` what is made of
them. To write the expected files anew after a wanted change of the words: `python -m tests.cli.test_preview_report`.
"""

from __future__ import annotations

import html
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.changes import clean, document, known, markdown, report
from cli.changes.report import Difference, Report
from cli.changes.row import About, Row
from cli.engine import Engine
from cli.main import app
from cli.preview_report import previewed, taken
from cli.stacks import Stack
from providers.errors import ProtocolError
from tests.cli.test_engine import Script

PREVIEWS = Path(__file__).parent / "previews"
KINDS = sorted(path.stem for path in PREVIEWS.glob("*.json"))
PASSWORD = "opens-this-board"  # stands in one of the documents, as an exception told it
ROOT = Path("/home/ann/homelab")
RED = {  # those that would be merged only after a word
    "another_cluster_taken_over": {"cluster"},
    "application_with_volume_removed": {"torrent"},
    "cluster_ends": {"cluster", "node1", "node2", "node3", "node4"},
    "control_plane_reinstalled": {"node2"},
    "control_plane_removed": {"node3"},
    "longhorn_removed": {"longhorn"},
    "node_role_changed": {"node3"},
    "only_control_plane_reinstalled": {"etcd", "node1"},
    "provider_replaced": {"cluster"},
    "volume_replaced": {"dns"},
    "worker_reinstalled": {"node4"},
    "worker_removed": {"node4"},
}
FAILED = {"program_raises", "quorum_refused", "settings_wrong"}


def raw(kind: str) -> dict[str, Any]:
    text = (PREVIEWS / f"{kind}.json").read_text(encoding="utf-8")
    return dict(clean.tidied(json.loads(text), [PASSWORD], ROOT))


def reported(kind: str, *acknowledged: str) -> Report:
    return report.build("homelab", document.of(raw(kind)), acknowledged)


def comment(kind: str) -> str:
    return markdown.render(reported(kind)) + "\n"


def text_of(report: Report, name: str) -> str:
    return next(row.text for row in report.rows if row.name == name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_comment_of_each_kind_of_change(kind: str) -> None:
    assert comment(kind) == (PREVIEWS / f"{kind}.md").read_text(encoding="utf-8")


def test_there_are_many_kinds_and_none_without_its_comment() -> None:
    assert len(KINDS) >= 15
    assert {path.stem for path in PREVIEWS.glob("*.md")} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_loses_something_needs_a_word_for_each_thing(kind: str) -> None:
    made = reported(kind)
    if kind not in FAILED:
        assert {row.name for row in made.unacknowledged} == RED.get(kind, set())
        assert made.ok is (kind not in RED)
        assert reported(kind, *RED.get(kind, ())).ok
    for name in RED.get(kind, ()):
        assert not reported(kind, *(RED[kind] - {name})).ok
    assert kind not in FAILED or not made.ok


@pytest.mark.parametrize("kind", KINDS)
def test_no_comment_holds_a_secret_or_a_path_of_a_machine(kind: str) -> None:
    text = comment(kind)
    assert PASSWORD not in text
    assert "/home/ann" not in text
    assert "__provider" not in text
    assert "04da6b54" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_says_the_same_without_secrets(kind: str) -> None:
    """What a run without rights leaves behind is enough for the one that comments."""
    saved = json.loads(json.dumps(document.of(raw(kind)).as_json()))
    assert markdown.render(report.build("homelab", document.of(saved))) + "\n" == comment(kind)
    assert PASSWORD not in json.dumps(saved)


def test_an_engine_that_lists_only_what_changes_is_understood() -> None:
    """Without the unchanged ones: parents are missing, and who is a member."""
    cut = raw("chart_upgraded")
    cut["steps"] = [step for step in cut["steps"] if step["op"] != "same"]
    assert text_of(report.build("homelab", document.of(cut)), "monitoring") == "chart 9.1.0 -> 9.2.0, 3 objects change"


def test_an_erased_disk_is_seen_though_its_settings_are_all_secret() -> None:
    """The provider's own warning is enough."""
    hidden = raw("worker_reinstalled")
    for step in hidden["steps"]:
        for state in ("oldState", "newState"):
            if "settings" in step.get(state, {}).get("inputs", {}):
                step[state]["inputs"]["settings"] = "[secret]"
    hidden["diagnostics"] *= 2  # the engine asks twice
    made = report.build("homelab", document.of(hidden))
    assert [row.name for row in made.unacknowledged] == ["node4"]
    assert text_of(made, "node4").count("REINSTALLED") == 1


def test_a_refresh_in_front_of_the_plan_is_none_of_it() -> None:
    whole = raw("nothing")
    whole["steps"] += [{**raw("worker_reinstalled")["steps"][4], "op": "refresh"}]
    assert report.build("homelab", document.of(whole)).rows == ()


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"steps": [1]}', '{"steps": [{"op": "update"}]}'])
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        document.parse(text)


def test_a_document_nested_too_deep_is_refused() -> None:
    with pytest.raises(ProtocolError):
        document.parse('{"steps": [' + '{"a":' * 300 + "1" + "}" * 300 + "]}")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["settings", "spec", "control_planes", "generation", "metadata", "labels",
                                       "helm.sh/chart", "board", "slot", "name", "talos", "role", "archive"]),
                      inner, max_size=4), max_leaves=12,
)  # fmt: skip
URNS = sorted(
    {step["urn"] for kind in ("first_up", "volume_replaced", "release_upgraded") for step in raw(kind)["steps"]}
)
STEPS = st.fixed_dictionaries({
    "op": st.sampled_from(["create", "update", "delete", "replace", "same", "import", "x"]),
    "urn": st.sampled_from(URNS) | st.text(max_size=30),
    "oldState": st.fixed_dictionaries({"inputs": JSON, "outputs": JSON, "parent": st.sampled_from(URNS) | JSON}) | JSON,
    "newState": st.fixed_dictionaries({"inputs": JSON}) | JSON,
    "detailedDiff": JSON,
})  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(STEPS, max_size=8), st.lists(st.fixed_dictionaries({"message": st.text(), "severity": st.just("error")}))
)
def test_any_document_has_a_comment(steps: list[Any], told: list[Any]) -> None:
    """What a run without rights left behind may be anything."""
    made = report.build("homelab", document.of({"steps": steps, "diagnostics": told}))
    assert_harmless(markdown.render(made))


TEXTS = st.text(max_size=300) | st.text(alphabet="`@#<>|*_[]!~$\\&:/w.a1-\n ", max_size=200)


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, max_size=6), TEXTS, st.integers(2_000, 4_000))
def test_a_comment_never_means_more_than_its_text(texts: list[str], name: str, limit: int) -> None:
    rows = tuple(Row(About.PART, name or "x", "changes", (text,), harm=text) for text in texts)
    diff = tuple(Difference(f"~ {text}", tuple(texts)) for text in texts)
    text = markdown.render(Report("homelab", rows, diff, failure=tuple(texts), warnings=(name,)), limit)
    assert len(text) <= limit
    assert_harmless(text)


def assert_harmless(text: str) -> None:
    """Outside of fenced blocks: no HTML but our own, no mention, no reference, no link, no code but labels."""
    outside = []
    fence = ""
    for line in text.split("\n"):
        opened = re.match(r"`{3,}", line)
        if not fence and opened:
            fence = opened[0]
        elif fence and line == fence:
            fence = ""
        elif not fence:
            outside.append(line)
    assert not fence
    plain = "\n".join(outside[1:])
    assert set(re.findall(r"<[^>]*>", plain)) <= {
        "<details>",
        "<details open>",
        "<summary>",
        "</summary>",
        "</details>",
    }
    assert not re.findall(r"(?<!\\)`(?!acknowledge:)", re.sub(r"`acknowledge:[\w.:/-]*`", "", plain))
    rest = html.unescape(re.sub(r"`acknowledge:[\w.:/-]*`", "", plain))
    assert not re.findall(r"@\w|://\w|(?<!#)#\w", rest)
    assert not re.findall(r"(?<!\\)[\[\]!]|\*\*(?!not acknowledged|$)(?!:)", rest.replace("**not acknowledged**", ""))


def test_a_long_report_keeps_its_rows_and_says_what_it_left_out() -> None:
    rows = tuple(Row(About.NODE, f"node{i}", "reboots", ("reboots",)) for i in range(200))
    diff = [Difference(f"~ x resource{i}", tuple(f"~ p{j}: {'v' * 200}" for j in range(20))) for i in range(100)]
    text = markdown.render(Report("homelab", rows, tuple(diff)))
    assert 50_000 < len(text) <= markdown.LIMIT
    assert all(f"| node{i} | reboots |" in text for i in range(200))
    assert re.search(r"… \d+ more, left out here", text)
    assert text.endswith("</details>\n")


def test_the_harmful_ones_are_shown_before_the_rest_is_cut() -> None:
    made = reported("control_plane_removed")
    assert [one.harmful for one in made.diff] == sorted((one.harmful for one in made.diff), reverse=True)
    assert made.diff[0].title.endswith("node3-member")


def test_too_many_rows_are_cut_as_well() -> None:
    rows = tuple(Row(About.NODE, f"node{i}", "reboots", ("x" * 900,)) for i in range(200))
    text = markdown.render(Report("homelab", rows, (), failure=("why",)))
    assert len(text) <= markdown.LIMIT
    assert re.search(r"\| … \| \d+ more, left out here \|", text)


def test_a_failure_that_says_too_much_is_cut() -> None:
    text = markdown.render(Report("homelab", failure=("x" * 100_000,)))
    assert len(text) <= markdown.LIMIT
    assert "the rest is left out" in text


# What is taken out


def test_secrets_are_taken_out_wherever_they_stand() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49\n-----END PRIVATE KEY-----\n"
    tidy = clean.cleaner(["hunter22", "turing", "abcdefghijklmnop", key], ROOT)
    assert tidy("with hunter22!") == "with [secret]!"
    assert tidy("turingpi:Flash turing") == "turingpi:Flash [secret]"  # a short one only as a word of its own
    assert tidy("x-abcdefghijklmnop-y") == "x-[secret]-y"
    assert tidy("| MIGHAgEAMBMGByqGSM49AgEGCCqGSM49 |") == "| [secret] |"  # a line of it is as good as all
    assert tidy(f"key: {key}") == "key: [secret]"


def test_a_document_is_searched_for_thousands_of_secrets_in_a_moment() -> None:
    secrets = ["\n".join(f"{i:04}-{j:04}-of-a-key-that-is-long" for j in range(20)) for i in range(200)]
    texts = [f"nothing {i}" for i in range(20_000)]
    began = time.process_time()
    found = clean.tidied({"a": texts, "x 0007-0003-of-a-key-that-is-long": secrets[199]}, secrets, ROOT)
    assert time.process_time() - began < 5
    assert found == {"a": texts, "x [secret]": "[secret]"}


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN ED25519 PRIVATE KEY-----\nunknown to us\n-----END ED25519 PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\ncut off",
        "LS0tLS1CRUdJTiBFRDI1NTE5IFBSSVZBVEUgS0VZLS0tLS0K",
        "ghp_" + "a1B2" * 9,
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl",
    ],
)
def test_what_looks_like_a_key_is_taken_out_though_nobody_knows_it(text: str) -> None:
    assert clean.cleaner([], ROOT)(f"says {text}") == "says [secret]"


def test_a_message_loses_what_could_be_a_key_of_any_kind() -> None:
    assert clean.blinded("token " + "aB3" * 20) == "token [secret]"
    assert clean.blinded("sha256 " + "0a" * 32) == "sha256 " + "0a" * 32


def test_paths_are_told_from_the_project_on() -> None:
    tidy = clean.cleaner([], ROOT)
    assert tidy("/home/ann/homelab/__main__.py:3 and /home/ann/homelab") == "__main__.py:3 and "
    assert tidy(f"{Path.home()}/.cache/x") == "~/.cache/x"
    assert tidy("/var/lib/longhorn nfs://192.168.1.10:/export") == "/var/lib/longhorn nfs://192.168.1.10:/export"


def test_a_trace_is_left_out_and_the_exception_stays() -> None:
    trace = (
        'Program failed:\nTraceback (most recent call last):\n  File "/x/a.py", line 1, in <module>\n    boom(secret)\n'
        '  File "/x/b.py", line 2, in boom\n    raise ValueError(1)\nValueError: first\n  and more\n'
    )
    assert clean.without_trace(trace) == "Program failed:\nValueError: first\nand more"
    assert clean.without_trace("no trace") == "no trace"


def test_the_secrets_of_an_export_are_known() -> None:
    sealed = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "plaintext": '{"a":["x1","y2"]}'}
    assert set(known.of_resources([{"outputs": {"deep": [sealed]}, "inputs": {"plain": "seen"}}])) == {"x1", "y2"}


def test_secrets_of_the_environment_are_known_by_the_names_of_their_variables() -> None:
    given = {"GITHUB_TOKEN": "ghs_12345678", "AWS_SECRET_ACCESS_KEY": "abcdefgh", "PATH": "/usr/bin:/bin", "KEY": "x"}
    assert set(known.of_environment(given)) == {"ghs_12345678", "abcdefgh"}


# The verb


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path / "bin")


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    (tmp_path / "Pulumi.homelab.yaml").write_text("config: {}\n")
    return Stack("homelab", tmp_path)


def test_a_preview_asks_for_the_unchanged_ones_too(stack: Stack, script: Script, tmp_path: Path) -> None:
    script.says(json.dumps({"steps": []}))
    assert previewed(Engine(stack, script.environment(tmp_path))) == {"steps": [], "diagnostics": []}
    assert script.calls == ["preview --json --show-sames --stack homelab --non-interactive"]


@pytest.mark.parametrize(
    ("stdout", "stderr", "word"),
    [
        ("", "error: incorrect passphrase\n", "error: incorrect passphrase"),
        ("", "", "pulumi preview ended with exit code 255"),
        ('{"diagnostics": [{"message": "m", "severity": "error"}]}', "x", "m"),
        ('{"diagnostics": [{"message": "m", "severity": "info"}]}', "x", "x"),
    ],
    ids=["before the engine", "without a word", "with its reason", "with others"],
)
def test_a_preview_that_fails_says_why(
    stack: Stack, script: Script, tmp_path: Path, stdout: str, stderr: str, word: str
) -> None:
    script.says(stdout, stderr, 255)
    found = document.of(previewed(Engine(stack, script.environment(tmp_path))))
    assert found.errors == (word,)


def test_what_an_exception_told_is_cleaned_before_anything_is_kept(stack: Stack, tmp_path: Path) -> None:
    """Secrets of the settings, of the state and of the environment: the engine prints them where a message has them."""
    sealed = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "plaintext": '"of-the-state-1"'}
    told = f"correct horse battery, of-the-state-1 and of-a-board in {tmp_path}/cli/x.py"
    answers = {
        "stack": {"deployment": {"resources": [{"urn": "u", "type": "t", "outputs": {"a": sealed}}]}},
        "config": {"homelab:boards": {"objectValue": {"board1": {"password": "of-a-board"}}}},
        "preview": {"diagnostics": [{"message": told, "severity": "error"}]},
    }
    for name, answer in answers.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(answer))
    pulumi = tmp_path / "pulumi"
    pulumi.write_text(f"#!/bin/sh\ncat {tmp_path}/$1.json\n")
    pulumi.chmod(0o755)
    stack.settings_file.write_text("config:\n  homelab:boards: {board1: {password: {secure: v1:x}}}\n")
    environ = {"PATH": f"{tmp_path}:{os.defpath}", "PULUMI_BACKEND_URL": f"file://{tmp_path}/state"}
    engine = Engine(stack, {**environ, "PULUMI_CONFIG_PASSPHRASE": "correct horse battery"})
    assert document.of(taken(engine)).errors == ("[secret], [secret] and [secret] in cli/x.py",)


def verb(*arguments: str, env: dict[str, str] | None = None) -> Any:
    bare = dict.fromkeys((key for key in os.environ if key.startswith("GITHUB_")), "")
    return CliRunner().invoke(app, ["preview-report", "--stack", "homelab", *arguments], env={**bare, **(env or {})})


def recorded(kind: str) -> tuple[str, str]:
    return "--from", str(PREVIEWS / f"{kind}.json")


def test_the_exit_code_is_about_what_would_be_lost(tmp_path: Path) -> None:
    assert verb(*recorded("node_added")).exit_code == 0
    assert verb(*recorded("worker_reinstalled")).exit_code == 1
    assert verb(*recorded("worker_reinstalled"), "--acknowledge", "node4").exit_code == 0
    assert verb(*recorded("worker_reinstalled"), "--acknowledge", "node3").exit_code == 1
    assert verb(*recorded("settings_wrong")).exit_code == 1


def test_a_label_of_the_pull_request_acknowledges(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7, "labels": [{"name": "acknowledge:node4"}]}}))
    assert verb(*recorded("worker_reinstalled"), env={"GITHUB_EVENT_PATH": str(event)}).exit_code == 0


def test_the_report_goes_where_it_is_wanted(tmp_path: Path) -> None:
    out, saved, summary = tmp_path / "report.md", tmp_path / "preview.json", tmp_path / "summary.md"
    done = verb(
        *recorded("worker_reinstalled"), "--out", str(out), "--save", str(saved), "--json",
        env={"GITHUB_STEP_SUMMARY": str(summary)},
    )  # fmt: skip
    assert out.read_text() == summary.read_text() == comment("worker_reinstalled")
    assert verb("--from", str(saved)).output == comment("worker_reinstalled")
    told = json.loads(done.stdout)
    assert (told["ok"], told["unacknowledged"], told["summary"]) == (False, ["node4"], "nodes: 1 REINSTALLED")
    assert told["rows"][0] == {
        "about": "node", "name": "node4", "verb": "REINSTALLED", "harm": "everything on its disk",
        "text": text_of(reported("worker_reinstalled"), "node4"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--from", "/nowhere/x.json"), "can't be read: No such file"),
        ((*recorded("nothing"), "--out", "/nowhere/x.md"), "can't be written"),
        ((*recorded("nothing"), "--stack", "a b"), "is no name of a stack"),
        ((*recorded("nothing"), "--post"), "GITHUB_REPOSITORY is not"),
    ],
)
def test_what_can_not_be_done_is_said(arguments: tuple[str, ...], word: str) -> None:
    done = verb(*arguments)
    assert done.exit_code == 1
    assert word in " ".join(done.stderr.split())


if __name__ == "__main__":
    for each in KINDS:
        (PREVIEWS / f"{each}.md").write_text(comment(each), encoding="utf-8")
