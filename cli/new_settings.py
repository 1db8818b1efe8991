"""A stack's first settings file: never over somebody's work, valid or not at all, and no secret in plain."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli import stacks, words
from cli.engine import Engine
from cli.stacks import Stack
from providers.errors import HomelabError, RefusedError, UserError
from settings import Settings, load
from settings.written import untouched, written

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")


def fresh(name: str, root: Path | None = None) -> Stack:
    """A stack that has no settings yet; the example as it was shipped counts as none.

    Raises:
        UserError: the name can't be a stack's.
        RefusedError: it has settings.
    """
    if not _NAME.match(name):
        raise UserError(f"--stack {name!r}: use letters, digits, - and _")
    stack = Stack(name, root or stacks.ROOT)
    if stack.settings_file.exists() and not untouched(stack.settings_file):
        raise RefusedError(
            f"{stack.settings_file.name} is there already and was not touched; edit it, move it away, or name another "
            f"stack with --stack"
        )
    return stack


def checked(text: str, stack: Stack, decrypted: Mapping[str, object] | None = None) -> Settings:
    """The settings that a text holds.

    Raises:
        SettingsError: every mistake in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, stack.settings_file.name)
        file.write_text(text, encoding="utf-8")
        return load(file, decrypted)


def put(text: str, stack: Stack) -> None:
    """Write the file, whole or not at all; one that somebody made meanwhile is kept.

    Raises:
        RefusedError: there is one now.
    """
    fresh(stack.name, stack.root)
    handle, name = tempfile.mkstemp(dir=stack.root, prefix=f".{stack.settings_file.name}.")
    made = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        made.chmod(0o644)  # as git keeps it; what is secret in it is encrypted
        if stack.settings_file.exists():
            made.replace(stack.settings_file)  # the example
        else:
            stack.settings_file.hardlink_to(made)
    except FileExistsError:
        raise RefusedError(f"{stack.settings_file.name} was made meanwhile and was not touched") from None
    finally:
        made.unlink(missing_ok=True)


def store(stack: Stack, secrets: Mapping[str, str]) -> list[str]:
    """Encrypt secrets into the file: path -> value. Where the engine or its passphrase is missing, none is stored.

    Returns:
        The commands to type for those that were not stored.
    """
    engine = Engine(stack)
    left = dict(secrets)
    if not left:
        return []
    try:
        engine.require_passphrase()
        engine.select()
        for path, value in secrets.items():
            engine.set_secret(path, value)
            del left[path]
    except HomelabError as error:
        words.say(f"no password was stored: {error}")
    return [command(path, stack) for path in left]


def command(path: str, stack: Stack) -> str:
    """What to type to store a secret."""
    return f"homelab secret '{path}'" + ("" if stack.name == "homelab" else f" --stack {stack.name}")


def text_of(sections: Mapping[str, Mapping[str, Any]], stack: Stack, origin: str) -> str:
    """The commented file of some sections."""
    return written(sections, stack.name, origin)
