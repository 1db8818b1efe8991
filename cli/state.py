"""`homelab state`: copies of the stack's state, by hand and before each run; one put back; a lock given up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli import archive, passphrase, stacks, words
from cli.archive import Archive, State
from cli.engine import PUT_IT, Engine
from cli.locks import PROJECT
from cli.options import Json, StackName, Yes
from cli.stacks import Stack
from cli.target import target
from providers.errors import HomelabError, ProtocolError, RefusedError, UserError

KEPT = 10
SUFFIX = ".tar.gz"
AUTOMATIC = "before-"

app = typer.Typer(no_args_is_help=True, help="Keep the stack's state safe: a copy, a copy put back, a lock given up.")


@app.command("backup")
def back_up(
    file: Annotated[Path | None, typer.Argument(help="A file or folder; else .homelab/<stack>/states.")] = None,
    stack: StackName = "twin",
    as_json: Json = False,
) -> None:
    """Write the stack's state, its settings file and Pulumi.yaml into one file, and read it back. It changes nothing.

    Secrets stay encrypted with the stack's passphrase, which is not in the file. Before every `up`, `refresh` and
    `destroy` one is made by itself; the last ten that differ are kept.
    """
    chosen = stacks.find(stack)
    made = make(chosen, State(Engine(chosen).export()), file)
    if as_json:
        print(json.dumps(_as_json(made), indent=2))
    else:
        words.say(f"wrote {made.path}: {_told(made.state)}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `homelab state backup` or a run wrote.")],
    stack: StackName = "twin",
    settings: Annotated[bool, typer.Option("--settings", help="Put the settings file of then back too.")] = False,
    yes: Yes = False,
) -> None:
    """Put a copy of the state in place of the present one. It asks first, and touches no device.

    A damaged copy, another stack's, or one that the passphrase here does not open is refused before anything is
    replaced. The present state is kept beside. The settings file is left alone unless it is missing, or `--settings`.
    """
    found = archive.read(file.expanduser().absolute())
    chosen = _whose(stack, found)
    engine = Engine(chosen)
    refuse_foreign(engine, found)
    if not chosen.settings_file.is_file():
        _put_back(chosen, found)
    engine.require_passphrase()
    engine.select()
    present = State(engine.export())
    for line in story(chosen, found, present):
        words.say(f"  - {line}")
    older = " It is OLDER." if is_older(found, present) else ""
    words.confirm(f"Put it in place of the state of {stack}?{older}", yes=yes)
    if present.urns or settings:
        words.say(f"the present one is kept in {_beside(chosen, present).path}")
    _replace(engine, found)
    if settings:
        _put_back(chosen, found)
    words.say(f"next: `homelab refresh --stack {stack}` notes what is otherwise by now, `homelab up` repairs it")


@app.command()
def unlock(stack: StackName = "twin", yes: Yes = False) -> None:
    """Give up the lock of a run that is gone, on another machine too. It asks first, and touches no device.

    Only when you know that it is gone: two runs at once damage the state, and nothing but you can know. A run that
    was cut off on this machine needs none of this: its lock is released by the next one.
    """
    engine = Engine(stacks.find(stack))
    held = engine.holders()
    if not held:
        words.say(f"stack {stack} is not locked")
        return
    for holder in held:
        words.say(f"  - {holder}")
    words.confirm(f"Give up {'this lock' if len(held) == 1 else 'these locks'} on stack {stack}?", yes=yes)
    engine.unlock()
    words.say(f"stack {stack} is not locked any more")


def folder(stack: Stack) -> Path:
    """Where copies go that were given no place."""
    return stack.folder / "states"


def make(stack: Stack, state: State, to: Path | None, now: datetime | None = None) -> Archive:
    """A copy by hand, read back.

    Raises:
        UserError: there is no state yet, or the file can't be written.
    """
    if not state.urns:
        raise UserError(f"stack {stack.name} has no state yet; `homelab up --stack {stack.name}` makes one")
    when = now or datetime.now(UTC)
    path = target(folder(stack), f"state-{stack.name}-{_stamp(when)}{SUFFIX}", to)
    return archive.read(archive.write(path, stack, state, "by hand", when).path)


def keep(stack: Stack, state: State, verb: str, now: datetime | None = None) -> Archive | None:
    """A copy before a run: none of an empty state, and none of one that the newest copy holds already."""
    copies = automatic(stack)
    if not state.urns or (copies and _holds(copies[0], state)):
        return None
    when = now or datetime.now(UTC)
    path = target(folder(stack), f"{AUTOMATIC}{verb}-{_stamp(when)}{SUFFIX}")
    made = archive.write(path, stack, state, f"before {verb}", when)
    for old in automatic(stack)[KEPT:]:
        old.unlink(missing_ok=True)
    return made


def automatic(stack: Stack) -> list[Path]:
    """The copies that runs made, newest first; by hand and before a restore are others, which are never removed."""
    found = [path for path in folder(stack).glob(f"{AUTOMATIC}*{SUFFIX}") if "-restore-" not in path.name]
    return sorted(found, key=lambda path: path.name.removesuffix(SUFFIX).rsplit("-", 1)[-1], reverse=True)


def forget(stack: Stack) -> None:
    """Remove the copies of a stack that is no more."""
    shutil.rmtree(folder(stack), ignore_errors=True)


def refuse_foreign(engine: Engine, found: Archive) -> None:
    """Hold back a state that is not this stack's, or that could not be read once it is in place.

    Raises:
        RefusedError: with the reason.
    """
    inside = f"urn:pulumi:{engine.stack.name}::{PROJECT}::"
    strange = next((urn for urn in found.state.urns if not urn.startswith(inside)), None)
    if strange is not None:
        raise RefusedError(f"{found.path}: holds {strange}, which is another stack's; nothing was replaced")
    kind, own = found.state.secrets
    if kind == "service" and not engine.backend.is_cloud:
        raise RefusedError(
            f"{found.path}: only Pulumi Cloud opens its secrets, and this state is kept in {engine.backend.shown}; "
            "nothing was replaced"
        )
    if kind == "passphrase":
        _refuse_locked(engine, found, str(own.get("salt", "")))


def _refuse_locked(engine: Engine, found: Archive, salt: str) -> None:
    word = passphrase.given(engine.environment)
    if word is None:
        raise UserError(f"stack {found.stack}: no passphrase is given; {PUT_IT}")
    if not passphrase.opens(word, salt):
        raise RefusedError(
            f"{found.path}: was made with another passphrase than the one here; {PUT_IT}, the one of that time; "
            "nothing was replaced"
        )


def is_older(found: Archive, present: State) -> bool:
    """Whether runs have changed the state since."""
    then, now = found.state.written, present.written
    return bool(present.urns and then and now and then < now)


def story(stack: Stack, found: Archive, present: State) -> Iterator[str]:
    """What it holds against what is there, line by line."""
    state = found.state
    yield f"{found.path.name}: made {found.made:%Y-%m-%d %H:%M} UTC {found.reason}: {_told(state)}"
    yield f"the present state: {_told(present)}" if present.urns else "there is no present state"
    if is_older(found, present):
        yield "runs have changed the lab since: the state forgets what they did, and nothing of it is undone"
    gone, back = sorted(set(present.nodes) - set(state.nodes)), sorted(set(state.nodes) - set(present.nodes))
    if gone:
        yield f"{', '.join(gone)}: not in the copy; `up` takes over what runs and is in the settings"
    if back and present.urns:
        yield f"{', '.join(back)}: only in the copy; `refresh` notes what is not there any more"
    if stack.settings_file.is_file() and stack.settings_file.read_bytes() != found.settings:
        yield f"{stack.settings_file.name} is another by now; it is left alone without `--settings`"


def _told(state: State) -> str:
    when = f", written {state.written.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if state.written else ""
    return f"{len(state.urns)} resources, {', '.join(state.nodes) or 'no nodes'}{when}"


def _whose(stack: str, found: Archive) -> Stack:
    if found.stack != stack:
        raise RefusedError(f"{found.path}: is of stack {found.stack}, not {stack}; say --stack {found.stack}")
    return Stack(stack)


def _put_back(stack: Stack, found: Archive) -> None:
    if stack.settings_file.is_file() and stack.settings_file.read_bytes() == found.settings:
        return
    fresh = stack.settings_file.with_suffix(".fresh")
    fresh.write_bytes(found.settings)
    fresh.replace(stack.settings_file)
    words.say(f"wrote {stack.settings_file.name} as it was then")


def _beside(stack: Stack, present: State) -> Archive:
    now = datetime.now(UTC)
    path = target(folder(stack), f"{AUTOMATIC}restore-{_stamp(now)}{SUFFIX}")
    return archive.write(path, stack, present, "before restore", now)


def _replace(engine: Engine, found: Archive) -> None:
    engine.replace(found.state.text)
    if sorted(State(engine.export()).urns) != sorted(found.state.urns):
        raise HomelabError(f"the state that is in place now is not that of {found.path}; run this again")


def _holds(path: Path, state: State) -> bool:
    try:
        return archive.read(path).state.text == state.text
    except (ProtocolError, UserError):
        return False


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%SZ}"


def _as_json(made: Archive) -> dict[str, object]:
    state = made.state
    return {
        "file": str(made.path),
        "stack": made.stack,
        "made": made.made.isoformat(timespec="seconds"),
        "resources": len(state.urns),
        "nodes": state.nodes,
        "secrets": state.secrets[0],
        "sha256": made.digest,
    }
