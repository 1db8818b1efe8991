"""Reads YAML as Pulumi's engine does, remembering the line of every key.

PyYAML alone would not do: it follows YAML 1.1, where an unquoted `12:34:56:10:20:30` is a number and `no` is false,
and it takes the last of two equal keys without a word.
"""

import re
from dataclasses import dataclass, field

import yaml

from .problems import Problem, Where, quoted

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_VALUES = 50_000
_MAX_DEPTH = 100
_SHOWN_DEPTH = 4
_INT = re.compile(r"[-+]?[0-9]{1,18}\Z")
_BASED_INT = re.compile(r"0(x[0-9a-fA-F]{1,15}|o[0-7]{1,20})\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_WORDS: dict[str, object] = {"": None, "~": None} | {
    spelled: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for spelled in (word, word.capitalize(), word.upper())
}
_TAG = "tag:yaml.org,2002:"


@dataclass
class Document:
    """A parsed file: plain values, the line of each place (from 1), and what is wrong with the YAML itself."""

    data: object = None
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, where: Where) -> int | None:
        """The line of a place, or of the nearest thing around it that the file does have."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where) if where else None


def parse(text: str) -> Document:
    """The one YAML document in `text`. Never raises: mistakes are in `problems`."""
    document = Document()
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = f"is not YAML: {error.problem or error.context}"
        document.problems.append(Problem((), what, "mind indents and quotes", mark.line + 1 if mark else None))
    except (yaml.YAMLError, RecursionError, ValueError):
        document.problems.append(Problem((), "is not YAML", "remove unprintable characters and deep nesting"))
    else:
        builder = _Builder(document)
        data = builder.value(node, (), 0) if node is not None else None
        document.data = data if builder.values <= _MAX_VALUES else None
    return document


class _Builder:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.values = 0

    def value(self, node: yaml.Node, where: Where, depth: int) -> object:
        self.values += 1
        if depth > _MAX_DEPTH or self.values > _MAX_VALUES:
            if self.values <= _MAX_VALUES + 1:
                self.values = _MAX_VALUES + 1
                self._complain(
                    node, where[:_SHOWN_DEPTH], "refers to itself or is far too large", "write the values out"
                )
            return None
        self.document.lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*where, i), depth + 1) for i, item in enumerate(node.value)]
        return self._scalar(node, where) if isinstance(node, yaml.ScalarNode) else None

    def _mapping(self, node: yaml.MappingNode, where: Where, depth: int) -> dict[str, object]:
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._complain(key_node, where, "has a key that is not a word", "write `key: value` lines")
                continue
            key, place = key_node.value, (*where, key_node.value)
            if key == "<<":
                self._complain(key_node, where, "merges another map with `<<`", "write the keys out")
            elif key in result:
                first = self.document.lines[place]
                self._complain(key_node, place, f"is there twice, first on line {first}", "keep one of them")
            else:
                self.document.lines[place] = key_node.start_mark.line + 1
                result[key] = self.value(value_node, place, depth + 1)
        return result

    def _scalar(self, node: yaml.ScalarNode, where: Where) -> object:
        if not node.tag.startswith(_TAG):
            self._complain(node, where, f"has the tag {quoted(node.tag)}", "leave the tag out")
        plain = not node.style
        return _plain(node.value) if plain else node.value

    def _complain(self, node: yaml.Node, where: Where, message: str, fix: str) -> None:
        self.document.problems.append(Problem(where, message, fix, node.start_mark.line + 1))


def _plain(text: str) -> object:
    """An unquoted word by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    if _BASED_INT.match(text):
        return int(text, 0)
    return float(text) if _FLOAT.match(text) else text
