"""What a change of the settings would do to a lab, as one comment for people and one exit code for a CI."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import github, stacks, twin_of_notes, words
from cli.changes import clean, document, known, markdown, report
from cli.changes.report import Report
from cli.engine import Engine
from cli.options import Json, StackName
from providers.errors import HomelabError, UserError

PREVIEW_S = 1800.0
LARGEST_BYTES = 64 << 20  # of a document that was made elsewhere
_CREDENTIALS = ("PULUMI_", "AWS_")
_NAME = re.compile(r"[\w.-]{1,100}\Z")

Given = Annotated[Path | None, typer.Option("--from", help="A document that --save wrote; nothing is previewed.")]
Save = Annotated[Path | None, typer.Option(help="Write the document that the report is made of, without secrets.")]
Out = Annotated[Path | None, typer.Option(help="Write the report there; else it is printed.")]
Post = Annotated[
    bool, typer.Option("--post", help="Have it as the one comment of the pull request that this run is about.")
]
Meant = Annotated[list[str] | None, typer.Option(help="A node or part that may lose what it would lose; repeatable.")]


def command(
    stack: StackName = "twin",
    acknowledge: Meant = None,
    out: Out = None,
    save: Save = None,
    given: Given = None,
    post: Post = False,
    as_json: Json = False,
) -> None:
    """Preview the settings and tell it as a table: which node reboots, which is REINSTALLED, which part changes.

    Exit code 0: nothing would be lost, or all of it is acknowledged, by `--acknowledge` or by a label
    `acknowledge:NAME` of the pull request. Exit code 1: something would be lost unacknowledged, or the preview or the
    report failed; where it only comments for another run (`workflow_run`), that run's exit code tells. It changes
    nothing, and no secret gets into the report.
    """
    environ = os.environ
    _forget_empty(environ)
    raw = _read(given) if given is not None else taken(Engine(stacks.find(stack)))
    audience = _audience(environ, post=post)
    made = report.build(_named(stack), document.of(raw), {*audience.acknowledged, *(acknowledge or ())})
    text = markdown.render(made)
    if save is not None:
        _write(save, json.dumps(document.of(raw).as_json(), indent=1, ensure_ascii=False) + "\n")
    _tell(made, text, out, as_json=as_json, summary=environ.get("GITHUB_STEP_SUMMARY"))
    audience.comment(markdown.marker(stack), text)
    if not made.ok and not audience.stands_in:
        raise typer.Exit(1)


def taken(engine: Engine) -> dict[str, Any]:
    """The document of a preview that is run now, without secrets and without paths of this machine.

    A preview that fails has a document as well: it says why.

    Raises:
        HomelabError: there is no engine, no passphrase, or somebody else works on the stack.
    """
    engine.require_passphrase()
    engine.select()
    raw = previewed(engine)
    told = [*map(_blinded, raw.get("diagnostics") or ()), *_not_on_the_twin(engine)]
    return dict(clean.tidied({**raw, "diagnostics": told}, known.of(engine), engine.stack.root))


def previewed(engine: Engine) -> dict[str, Any]:
    """What `pulumi preview --json` says, with an error among its messages if it fails.

    Raises:
        HomelabError: it does not end.
    """
    asked = [engine.executable, "preview", "--json", "--show-sames", "--stack", engine.stack.name, "--non-interactive"]
    try:
        done = subprocess.run(
            asked,
            cwd=engine.stack.root,
            env=engine.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PREVIEW_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HomelabError(f"pulumi preview: not done within {PREVIEW_S:.0f} s") from None
    raw = _parsed(done.stdout)
    told = list(raw.get("diagnostics") or ())
    if done.returncode != 0 and not any(_is_error(message) for message in told):
        # Before the engine starts there is no document: a wrong passphrase, no such stack.
        why = done.stderr.strip() or f"pulumi preview ended with exit code {done.returncode}"
        told.append({"message": why, "severity": "error"})
    return {**raw, "diagnostics": told}


def _not_on_the_twin(engine: Engine) -> list[dict[str, str]]:
    """What a twin of a real lab can't show, as warnings."""
    notes = replace(twin_of_notes.read(engine.stack.settings_file), ahead=frozenset())
    return [{"message": line, "severity": "warning"} for line in notes.lines()]


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_error(message: object) -> bool:
    return isinstance(message, Mapping) and message.get("severity") == "error"


def _blinded(message: Any) -> Any:
    """A message without what could be a key: the engine prints texts of exceptions as they are."""
    if not isinstance(message, Mapping):
        return message
    return {**message, "message": clean.blinded(clean.without_trace(str(message.get("message") or "")))}


def _read(path: Path) -> dict[str, Any]:
    """A document that was made elsewhere, perhaps by somebody else: it is data, and may be anything."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise UserError(f"{path}: is larger than {LARGEST_BYTES >> 20} MB; this is no preview's document")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"{path}: can't be read: {reason}") from None
    return dict(clean.tidied(document.parse(text).as_json(), known.of_environment(os.environ), stacks.ROOT))


def _named(stack: str) -> str:
    if not _NAME.match(stack):
        raise UserError(f"--stack {stack!r}: is no name of a stack")
    return stack


@dataclass(frozen=True)
class Audience:
    """Who reads a report.

    Attributes:
        hub: where to comment; None where only the file or the terminal is meant.
        pull: the pull request that the run is about, if it is about one.
        stands_in: whether this run only comments for another one, which has given its verdict already.
    """

    hub: github.GitHub | None
    pull: github.PullRequest | None
    stands_in: bool = False

    @property
    def acknowledged(self) -> frozenset[str]:
        """What its labels acknowledge."""
        return self.pull.acknowledged if self.pull is not None else frozenset()

    def comment(self, mark: str, text: str) -> None:
        """Have the report as the pull request's comment, where that is meant."""
        if self.hub is not None and self.pull is not None:
            words.say(f"commented: {self.hub.upsert(self.pull.number, mark, text)}")
        elif self.hub is not None:
            words.say("no open pull request has this commit as its head any more; nothing to comment on")


def _audience(environ: Mapping[str, str], *, post: bool) -> Audience:
    pull = github.pull_request(environ)
    if not post:
        return Audience(None, pull)
    hub = github.GitHub(github.target(environ))
    run = github.event(environ).get("workflow_run")
    if isinstance(run, Mapping):
        return Audience(hub, hub.started_by(run), stands_in=True)
    if pull is None:
        raise UserError("--post: this run is about no pull request; GITHUB_EVENT_PATH or GITHUB_REF would name it")
    return Audience(hub, hub.labelled(pull.number))


def _forget_empty(environ: MutableMapping[str, str]) -> None:
    """A CI gives a secret that it doesn't have as an empty variable, which is not the same as none."""
    for name in [name for name, value in environ.items() if name.startswith(_CREDENTIALS) and not value]:
        del environ[name]


def _tell(made: Report, text: str, out: Path | None, *, as_json: bool, summary: str | None) -> None:
    if out is not None:
        _write(out, text + "\n")
    if as_json:
        print(json.dumps(made.as_json(), indent=2))
    elif out is None:
        print(text)
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None
