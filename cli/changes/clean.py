"""Takes out of a document what nobody else may read: secrets, and where things are on this machine.

The engine hides what it knows to be a secret, but prints what an exception or a log line says as it is. So everything
is looked through for the secrets that are known here, and for what looks like a private key whosever it is.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cli.changes.difference import SECRET

SHORTEST = 4  # a shorter one can't be told from a word
BARE = 12  # from here on a secret is taken out of the middle of a word too
_LINE = 24  # a line of a longer secret that gives it away
_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_CODED_KEY = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/=]{16,}")  # the same in base64; certificates begin so too
_TOKEN = re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,})")
# Names and digests are long as well, and have no capitals, small letters and digits all together.
_CODED = re.compile(r"[A-Za-z0-9+/_=-]{40,}")
_MIXED = (re.compile("[A-Z]"), re.compile("[a-z]"), re.compile("[0-9]"))
_TRACE = "Traceback (most recent call last):"

Clean = Callable[[str], str]


def tidied(value: Any, secrets: Iterable[str], root: Path) -> Any:
    """A document without secrets, what looks like one, and folders of this machine.

    A lab has thousands of lines that give a key away, and a document hardly ever holds one: looked for in all of it at
    once, that costs a moment, and text by text minutes.
    """
    whole = "\n\0".join(_every_text(value))
    return cleaned(value, cleaner([piece for piece in _pieces(secrets) if piece in whole], root))


def cleaner(secrets: Iterable[str], root: Path) -> Clean:
    """What takes the secrets, anything like a private key or a token, and this machine's folders out of a text."""
    hidden = _pattern(secrets)
    folders = _folders(root)

    def clean(text: str) -> str:
        text = hidden.sub(SECRET, text) if hidden is not None else text
        for pattern in (_KEY, _CODED_KEY, _TOKEN):
            text = pattern.sub(SECRET, text)
        for folder, short in folders:
            text = folder.sub(short, text)
        return text

    return clean


def cleaned(value: Any, clean: Clean) -> Any:
    """A document with every text in it cleaned, keys included."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): cleaned(item, clean) for key, item in value.items()}
    return [cleaned(item, clean) for item in value] if isinstance(value, list) else value


def blinded(text: str) -> str:
    """A message without what could be a key of whatever kind: nobody knows what an exception quotes."""
    return _CODED.sub(lambda word: SECRET if all(kind.search(word[0]) for kind in _MIXED) else word[0], text)


def texts(value: Any) -> Iterator[str]:
    """Every text inside a value, such as a configuration in plain."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def _every_text(value: Any) -> Iterator[str]:
    """Every text inside a value, the keys of maps too."""
    yield from texts(value)
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, Mapping):
            yield from map(str, one)
            stack.extend(one.values())
        elif isinstance(one, list):
            stack.extend(one)


def without_trace(text: str) -> str:
    """A message without the stack of a Python exception: what was said before it, and the exception itself."""
    head, mark, rest = text.partition(_TRACE)
    if not mark:
        return text
    lines = rest.splitlines()
    last = max((i for i, line in enumerate(lines) if line.lstrip().startswith(("File ", "^", "~~"))), default=0)
    told = [line for line in lines[last + 1 :] if line.strip()]
    # Below a frame stands its source line, indented; the exception begins at the margin of the trace.
    margin = min((len(line) - len(line.lstrip()) for line in told), default=0)
    begin = next((i for i, line in enumerate(told) if len(line) - len(line.lstrip()) == margin), 0)
    return "\n".join(part for part in (head.strip(), *(line.strip() for line in told[begin:])) if part)


def _pattern(secrets: Iterable[str]) -> re.Pattern[str] | None:
    """All secrets and the telling lines of longer ones, the longest first."""
    ordered = sorted(_pieces(secrets), key=len, reverse=True)
    return re.compile("|".join(_piece(piece) for piece in ordered)) if ordered else None


def _pieces(secrets: Iterable[str]) -> set[str]:
    found = {piece for secret in secrets for piece in (secret, *_lines(secret)) if len(piece) >= SHORTEST}
    return found - {SECRET}


def _piece(text: str) -> str:
    escaped = re.escape(text)
    return escaped if len(text) >= BARE else rf"(?<!\w){escaped}(?!\w)"


def _lines(secret: str) -> list[str]:
    return [line for line in (line.strip() for line in secret.splitlines()) if len(line) >= _LINE and "---" not in line]


def _folders(root: Path) -> list[tuple[re.Pattern[str], str]]:
    """The folders of this machine that a path may begin with, and what stands in their place, the longest first."""
    known = {str(root.resolve()): "", str(root): "", str(Path.home()): "~", tempfile.gettempdir(): "…"}
    known |= {sys.prefix: "…", sys.base_prefix: "…"}
    pairs = sorted(((folder, short) for folder, short in known.items() if folder != "/"), key=lambda p: -len(p[0]))
    return [(_folder(folder, short), short) for folder, short in pairs]


def _folder(folder: str, short: str) -> re.Pattern[str]:
    """What lies in the project's own folder is named from there on; elsewhere the folder alone is hidden."""
    end = r"(?![\w-])" if short else r"(?:/|(?![\w.-]))"
    return re.compile(rf"(?<![\w.~/-]){re.escape(folder)}{end}")
