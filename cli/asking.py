"""Questions that an option can answer beforehand; without a terminal, what is missing is said all at once."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import typer

from cli import words
from providers.errors import UserError
from settings.wellformed import read


class Asked:
    """Who is asked: a person at a terminal, or nobody.

    Args:
        interactive: whether there is somebody; by default whether standard input is a terminal.
    """

    def __init__(self, *, interactive: bool | None = None) -> None:
        self.interactive = sys.stdin.isatty() if interactive is None else interactive
        self._missing: list[str] = []

    def text(self, question: str, option: str, given: str = "", default: str = "", kind: Any = str) -> str:
        """An answer of a kind of the settings (`kinds.Address`), as text.

        What can't be asked and has no default is noted for `finish`, and "" meanwhile.

        Raises:
            UserError: the option's value is not of that kind.
        """
        if given:
            if read(kind, given) is None:
                raise UserError(f"{option}: {given!r} is not what it asks for ({question})")
            return given
        if not self.interactive:
            if not default:
                self._missing.append(f"{option} ({question})")
            return default
        return _prompted(question, default, lambda text: read(kind, text) is not None)

    def yes(self, question: str, given: bool | None, *, default: bool) -> bool:
        """Yes or no; the default where nobody is there."""
        if given is not None:
            return given
        return typer.confirm(question, default=default, err=True) if self.interactive else default

    def password(self, question: str) -> str:
        """A password, typed blind; "" where nobody is there or nothing was typed."""
        return getpass.getpass(f"{question}: ") if self.interactive else ""

    def finish(self) -> None:
        """Stop where an answer is missing.

        Raises:
            UserError: there was nobody to ask; names every option that would have answered.
        """
        if self._missing:
            raise UserError("there is nobody to ask; say " + ", ".join(self._missing))


def by_name(option: str, values: Iterable[str]) -> dict[str, str]:
    """An option that is given once a node or board: `NAME=VALUE`.

    Raises:
        UserError: it has no `=`, or names one twice.
    """
    found: dict[str, str] = {}
    for value in values:
        name, equals, answer = value.partition("=")
        if not (name and equals and answer):
            raise UserError(f"{option}: write NAME=VALUE instead of {value!r}")
        if name in found:
            raise UserError(f"{option}: {name} is there twice")
        found[name] = answer
    return found


def known_names(option: str, given: Mapping[str, str], known: Iterable[str]) -> None:
    """Stop where an option names something that is not there.

    Raises:
        UserError: names what there is.
    """
    names = list(known)
    for name in given:
        if name not in names:
            raise UserError(f"{option}: there is no {name!r}; known: {', '.join(names) or 'none'}")


def _prompted(question: str, default: str, fits: Callable[[str], bool]) -> str:
    while True:
        answer = str(typer.prompt(question, default=default or None, err=True)).strip()
        if fits(answer):
            return answer
        words.say(f"{answer!r} does not fit")
