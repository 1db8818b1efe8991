"""A report as a comment: a table first, the plain diff folded below, and nothing in it that means more than its text.

What stands in it may come from anybody who opens a pull request. In a cell, what Markdown, HTML or the forge would
take for more than text is taken apart; everything else stands in fenced blocks, which are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from cli.changes.report import Difference, Report
from cli.changes.row import Row

LIMIT = 65_536  # characters of a comment at GitHub
LABEL = "acknowledge:"
_ROOM = 400  # for the lines that say what was left out, and for closing what is open
_CELL = 1_000  # characters of one cell
_GAP = "\u200b"  # no width: keeps a mention, a reference or a link from being one
_ENTITIES = {"&": "&amp;", "<": "&lt;", "|": "&#124;"}
_ESCAPED = re.compile(r"([\\`*_\[\]~!$])")
_LINKS = re.compile(r"(@|#|://|www\.|\bGH-)(?=\w)", re.IGNORECASE)


def marker(stack: str) -> str:
    """The hidden first line, by which the comment of a stack is found again."""
    return f"<!-- homelab preview-report: {re.sub(r'[^A-Za-z0-9_.-]', '', stack)} -->"


def render(report: Report, limit: int = LIMIT) -> str:
    """The comment, never longer than `limit` characters: the table is cut last, the diff first."""
    head = "\n".join(_head(report))
    tail = "\n".join(_acknowledging(report))
    left = limit - len(head) - len(tail) - _ROOM
    body, left = _table(report.rows, left)
    blocks = [*_block(f"Why it failed ({len(report.failure)})", report.failure, left, opened=True)]
    left -= sum(map(len, blocks))
    told = [*_block(f"What the program warns of ({len(report.warnings)})", report.warnings, left)]
    left -= sum(map(len, told))
    diff = _diff(report.diff, left)
    return "\n".join(part for part in (head, body, tail, *blocks, *told, *diff) if part)[:limit]


def cell(text: str) -> str:
    """A text that stays a text in a table's cell, on one line."""
    line = " ".join(text.split())
    line = line if len(line) <= _CELL else f"{line[:_CELL]}…"
    printable = "".join(char for char in line if char.isprintable())
    apart = _LINKS.sub(lambda match: f"{match[1]}{_GAP}" if match[1] != "://" else f":{_GAP}//", printable)
    return "".join(_ENTITIES.get(char, char) for char in _ESCAPED.sub(r"\\\1", apart))


def _head(report: Report) -> Iterator[str]:
    yield marker(report.stack)
    yield f"### Preview of {cell(report.stack)}: {cell(report.summary)}"
    yield ""


def _table(rows: Sequence[Row], left: int) -> tuple[str, int]:
    if not rows:
        return "", left
    lines = ["| what | what would happen |", "| --- | --- |"]
    left -= sum(map(len, lines)) + 2
    for index, row in enumerate(rows):
        line = f"| {cell(row.name)} | {'⚠️ ' if row.harm else ''}{cell(row.text)} |"
        if len(line) + 1 > left:
            lines.append(f"| … | {len(rows) - index} more, left out here |")
            break
        lines.append(line)
        left -= len(line) + 1
    return "\n".join([*lines, ""]), left


def _acknowledging(report: Report) -> Iterator[str]:
    """What is lost, and who may say that it is meant."""
    for row in report.harmful[:_MOST_TOLD]:
        done = row.name in report.acknowledged
        mark = "acknowledged" if done else "**not acknowledged**"
        yield f"- {mark}: {cell(row.name)} loses {cell(row.harm)}"
    if len(report.harmful) > _MOST_TOLD:
        yield f"- {len(report.harmful) - _MOST_TOLD} more that lose something, left out here"
    if report.unacknowledged:
        names = ", ".join(f"`{LABEL}{_word(row.name)}`" for row in report.unacknowledged[:_MOST_TOLD])
        yield ""
        yield f"If that is meant, a maintainer gives this pull request the label {names}. It holds for this one only."
    if report.harmful:
        yield ""


_MOST_TOLD = 64


def _word(text: str) -> str:
    """A name inside backticks; names have no others in them."""
    return re.sub(r"[^\w.:/-]", "", text)


def _block(title: str, texts: Iterable[str], left: int, *, opened: bool = False) -> list[str]:
    """Texts in a fenced block of their own, cut where there is no room."""
    whole = "\n".join(text for text in texts if text)
    if not whole or left < _ROOM:
        return []
    shown = whole if len(whole) < left - _ROOM else f"{whole[: left - _ROOM]}\n… the rest is left out"
    return [_fold(title, shown, "", opened=opened)]


def _diff(differences: Sequence[Difference], left: int) -> list[str]:
    """As many resources as there is room for; the harmful ones come first in a report."""
    if not differences:
        return []
    texts, left = [], left - _ROOM
    for difference in differences:
        text = "\n".join([_plain(difference.title), *(_plain(f"{line[:1]}   {line[2:]}") for line in difference.lines)])
        if len(text) + 1 > left:
            break
        texts.append(text)
        left -= len(text) + 1
    missing = len(differences) - len(texts)
    count = len(differences)
    title = f"The plain diff: {count} resource{'' if count == 1 else 's'}"
    if missing:
        texts.append(f"… {missing} more, left out here; `homelab preview -- --diff` shows all")
    return [_fold(title, "\n".join(texts), "diff")]


def _plain(line: str) -> str:
    """One line of the plain diff: unprintable characters could end it."""
    return "".join(char if char.isprintable() else "�" for char in line)


def _fold(title: str, text: str, language: str, *, opened: bool = False) -> str:
    """A folded block. Its fence is longer than any run of backticks inside, so nothing inside ends it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    state = " open" if opened else ""
    return f"<details{state}><summary>{title}</summary>\n\n{fence}{language}\n{text}\n{fence}\n\n</details>\n"
