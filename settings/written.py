"""Writes a settings file of somebody's answers: the shipped example's own lines and comments, with other values.

`example.yaml` is that example as it is shipped; `Pulumi.homelab.yaml` is the owner's copy of it. The sections cluster,
boards and nodes are filled in, a key that is not given stays as the example has it: commented out, with its default.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

EXAMPLE = Path(__file__).parent / "example.yaml"
_FILLED = ("cluster", "boards", "nodes")
_NAMED = ("boards", "nodes")
_KEY = re.compile(r"""(?P<indent> *)(?P<off>\# )?(?P<deeper> *)(?P<key>[A-Za-z_]\w*):(?P<rest>(?: .*)?)$""")
_EXAMPLES = re.compile(r"\Aexample(; |\Z)|; example:.*\Z")  # what a remark says of the value that it stood beside
_WIDTH = 100
_LONGEST = 120
_PLAIN = re.compile(r"[A-Za-z0-9_./@-]+(:[A-Za-z0-9_./@-]+)*\Z")
_CLOCK = re.compile(r"[0-9:]+\Z")  # YAML 1.1 reads 12:34:56 as a number


@dataclass
class _Entry:
    """A key of the example: its line, the comments above it, what stands under it."""

    key: str
    indent: int
    line: str
    comment: str
    off: bool
    above: list[str] = field(default_factory=list)
    under: list["_Entry"] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)  # lines under it that are no keys: items, text


def untouched(file: Path) -> bool:
    """Whether a settings file is still the example, so that nothing is lost with it."""
    return file.read_bytes() == EXAMPLE.read_bytes()


def written(sections: Mapping[str, Mapping[str, Any]], stack: str, origin: str) -> str:
    """The text of a settings file.

    Args:
        sections: cluster, boards and nodes, as plain values; secrets are stored afterwards.
        stack: whose file it is; the commands in its comments name it.
        origin: one line on where the values come from.
    """
    head, filled, rest = _example()
    lines = [*_headed(head, origin)]
    for section in filled:
        lines += _section(section, sections[section.key.removeprefix("homelab:")])
    return _for_stack("\n".join([*lines, *rest]), stack) + "\n"


def _headed(head: list[str], origin: str) -> list[str]:
    return [head[0], "#", f"# {origin}", *head[1:]]


def _for_stack(text: str, stack: str) -> str:
    if stack == "homelab":
        return text
    text = text.replace("STACK=homelab", f"STACK={stack}")
    return re.sub(r"(homelab secret '[^']*')", rf"\1 --stack {stack}", text)


def _example() -> tuple[list[str], list[_Entry], list[str]]:
    """The example's head, the sections that are filled in, and the rest."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    starts = {line.strip().split(" ")[0]: i for i, line in enumerate(lines) if line.startswith("  homelab:")}
    optional = [i for i, line in enumerate(lines) if line.startswith("  # homelab:")]
    first, end = starts["homelab:cluster:"], min([starts["homelab:platform:"], *optional])
    bounds = [starts[f"homelab:{name}:"] for name in _FILLED] + [end]
    sections = [_parsed(lines[start:stop]) for start, stop in pairwise(bounds)]
    return lines[:first], sections, lines[end:]


def _parsed(lines: list[str]) -> _Entry:
    """A section's lines as a tree. What stands deeper than a key belongs to it; remarks to the key that follows."""
    title, _, comment = lines[0].strip().partition(" # ")
    root = _Entry(title.rstrip(":"), 2, lines[0], comment, off=False)
    path, above = [root], list[str]()
    for line in lines[1:]:
        entry = _entry(line)
        if entry is None:
            last = path[-1]
            (last.loose if _is_item(line) and last.off and _depth(line) > last.indent else above).append(line)
            continue
        while path[-1].indent >= entry.indent:
            path.pop()
        entry.above, above = above, []
        path[-1].under.append(entry)
        path.append(entry)
    return root


def _entry(line: str) -> _Entry | None:
    match = _KEY.match(line)
    if match is None:
        return None
    indent = len(match["indent"]) + len(match["deeper"])
    return _Entry(match["key"], indent, line, match["rest"].partition(" # ")[2], off=bool(match["off"]))


def _depth(line: str) -> int:
    """How deep a commented line stands; its `# ` does not count."""
    return len(line) - len(line.lstrip(" #")) - 2


def _is_item(line: str) -> bool:
    return line.lstrip(" #").startswith("- ")


def _section(root: _Entry, values: Mapping[str, Any]) -> Iterator[str]:
    yield root.line
    if root.key.removeprefix("homelab:") not in _NAMED:
        yield from _filled(root.under, values)
        return
    pattern = root.under[0]
    for number, (name, value) in enumerate(values.items()):
        yield f"    {_scalar(name)}:"
        # The first shows every key, the others only their own.
        yield from _filled(pattern.under, value) if number == 0 else _plain(value, pattern.under[0].indent)


def _filled(entries: list[_Entry], values: Mapping[str, Any]) -> Iterator[str]:
    for entry in entries:
        if entry.key in values:
            yield from _given(entry, values[entry.key])
        elif entry.off or entry.under:
            yield from _as_shown(entry)
    known = {entry.key for entry in entries}
    indent = entries[0].indent
    yield from _plain({key: value for key, value in values.items() if key not in known}, indent)


def _given(entry: _Entry, value: Any) -> Iterator[str]:
    remark = _EXAMPLES.sub("", entry.comment)
    remark = f" # {remark}" if remark else ""
    indent = " " * entry.indent
    if isinstance(value, Mapping) and entry.under and not entry.off:
        yield f"{indent}{entry.key}:{remark}"
        yield from _filled(entry.under, value)
        return
    first, *more = _plain({entry.key: value}, entry.indent)
    if len(first) + len(remark) > _LONGEST:
        yield f"{indent}{remark[1:]}"
        remark = ""
    yield first + remark
    yield from more


def _as_shown(entry: _Entry) -> Iterator[str]:
    """As the example has it: commented out."""
    if not entry.off:
        yield f"{' ' * entry.indent}{entry.key}:" + (f" # {entry.comment}" if entry.comment else "")
        yield from (line for inner in entry.under for line in _as_shown(inner) if inner.off)
        return
    yield from entry.above
    yield entry.line
    yield from entry.loose
    yield from (line for inner in entry.under for line in _as_shown(inner))


def _plain(values: Mapping[str, Any], indent: int) -> Iterator[str]:
    """Keys and values without a word, on one line each where they are short."""
    space = " " * indent
    for key, value in values.items():
        flow = _flow(value)
        nested = isinstance(value, (Mapping, list)) and value
        if not nested or (len(flow) <= _WIDTH and not _has_maps(value)):
            yield f"{space}{_scalar(key)}: {flow}"
            continue
        yield f"{space}{_scalar(key)}:"
        yield from (f"{space}  {line}" for line in _block(value).splitlines())


def _has_maps(value: Any) -> bool:
    items = value.values() if isinstance(value, Mapping) else value
    return any(isinstance(item, (Mapping, list)) for item in items)


def _flow(value: Any) -> str:
    if isinstance(value, (Mapping, list)):
        text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=2**16, sort_keys=False)
        return str(text).strip()
    return _scalar(value)


def _block(value: Any) -> str:
    return str(yaml.dump(value, Dumper=_Dumper, default_flow_style=False, width=2**16, sort_keys=False))


def _scalar(value: Any) -> str:
    return str(yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=2**16)).removesuffix("\n...\n").strip()


class _Dumper(yaml.SafeDumper):
    """PyYAML without anchors, quoting what one of YAML's versions would not take for text."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = '"' if _CLOCK.match(value) or (":" in value and not _PLAIN.match(value)) or _is_mac(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _is_mac(value: str) -> bool:
    return value.count(":") == 5


_Dumper.add_representer(str, _text)
