"""What is wrong with a settings file: one line a mistake, with its path, its line and the fix."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic_core import PydanticCustomError

from providers.errors import UserError

Where = tuple[str | int, ...]
"""A place in the settings: the keys and list positions that lead to it."""

PLACEHOLDER = "[secret]"
"""What stands for a secret when the file is read without Pulumi."""

WRONG = "wrong"
"""The type of the errors that this package's own validators raise inside pydantic."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_$-]+\Z")
_MIN_SECRET_LENGTH = 3


@dataclass(frozen=True)
class Problem:
    """One mistake or warning; `line` counts from 1 in the stack file and is None where it is not known."""

    where: Where
    message: str
    fix: str
    line: int | None = None

    @property
    def path(self) -> str:
        """The place as an owner reads it, such as `nodes.node3.machine.slot`."""
        return dotted(self.where)

    def __str__(self) -> str:
        at = f" (line {self.line})" if self.line is not None else ""
        return f"{self.path}{at}: {self.message}; {self.fix}"


class SettingsError(UserError):
    """The settings are wrong; `problems` holds every mistake that was found. Nothing was touched."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{file}: {count} mistake{'s' if count > 1 else ''}\n{lines}")


def dotted(where: Where) -> str:
    """`("cluster", "patches", 0)` as `cluster.patches[0]`; keys with other characters are quoted as Pulumi does."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.match(part):
            text += f".{part}" if text else part
        else:
            text += '["' + quoted(part)[1:-1] + '"]'
    return text or "the file"


def quoted(value: object) -> str:
    """A value for a message: on one line, in single quotes, cut at 40 characters."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = text if len(text) <= 40 else text[:37] + "..."
    return "'" + "".join(c if c.isprintable() else "?" for c in text) + "'"


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def wrong(message: str, fix: str) -> PydanticCustomError:
    """What a validator raises: the message and the fix travel through pydantic apart from each other."""
    return PydanticCustomError(WRONG, "{message}; {fix}", {"message": message, "fix": fix})


def redacted(problem: Problem, secrets: Iterable[str]) -> Problem:
    """The problem without any secret that the file's values brought into its words."""
    message, fix = problem.message, problem.fix
    for secret in secrets:
        if len(secret) >= _MIN_SECRET_LENGTH:
            message, fix = message.replace(secret, PLACEHOLDER), fix.replace(secret, PLACEHOLDER)
    return replace(problem, message=message, fix=fix)
