"""Which metrics an expression names. promtool says whether it is an expression at all."""

from __future__ import annotations

import re

_WORDS = frozenset(["and", "or", "unless", "bool", "offset", "on", "by", "without", "atan2", "inf", "nan"])
_STRINGS = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'')
_MATCHERS = re.compile(r"\{[^}]*\}")
_RANGES = re.compile(r"\[[^\]]*\]")
_GROUPINGS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAMES = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def metrics(expression: str) -> set[str]:
    """The names of the series that an expression reads."""
    text = _STRINGS.sub('""', expression)
    for noise in (_MATCHERS, _RANGES, _GROUPINGS):
        text = noise.sub(" ", text)
    found = set()
    for match in _NAMES.finditer(text):
        is_function = text[match.end() :].lstrip().startswith("(")
        is_number = match.start() > 0 and text[match.start() - 1].isdigit()
        if not is_function and not is_number and match[0].lower() not in _WORDS:
            found.add(match[0])
    return found
