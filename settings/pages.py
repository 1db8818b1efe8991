"""What is written from the types: the reference page for people, the JSON schema for editors."""

import json
from collections.abc import Iterator
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema

from .models import Settings
from .ranges import AddressRange
from .shape import bare, keys_of

_DOCS = Path(__file__).parent.parent / "docs"
SCHEMA = _DOCS / "settings.schema.json"
REFERENCE = _DOCS / "settings.md"

_INTRO = """\
# Settings

Made from the types by `python -m settings reference`; don't edit it by hand. The file to edit is `Pulumi.homelab.yaml`,
which shows every key in its place. Each section stands there under `config:` with the project's name before it, such as
`homelab:cluster:`. `NAME` stands for a name of your own.

All mistakes in a file are reported at once, each with its path, its line and the fix. `python -m settings check FILE`
reads a file without touching anything.

Secrets are stored encrypted, never in plain; a password in plain is a mistake:

    homelab secret 'boards.board1.password'

A board without a password is a warning as long as the file is only read, and a mistake in `preview` and `up`. Values
inside patches, chart values and applications' variables may be encrypted in the same way.
"""
_TYPES = {
    IPv4Address: "IPv4 address",
    IPv4Network: "IPv4 network",
    AddressRange: "range of addresses",
    SecretStr: "secret",
    str: "text",
    int: "whole number",
    bool: "true or false",
    dict: "map",
}


def schema() -> str:
    """The JSON schema of a whole stack file, for editors."""
    _, definitions = models_json_schema([(Settings, "validation")], ref_template="#/$defs/{model}")
    parts: dict[str, Any] = definitions["$defs"]
    sections = parts.pop("Settings")["properties"]
    for part in parts.values():
        _without_filled_in(part)
    config = {
        "type": "object",
        "properties": {f"homelab:{name}": section for name, section in sections.items()},
        "required": ["homelab:cluster", "homelab:boards", "homelab:nodes"],
        "patternProperties": {f"^homelab:(?!({'|'.join(sections)})$)": False},
    }
    page = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Settings of a lab (Pulumi.STACK.yaml)",
        "type": "object",
        "properties": {"config": config, "encryptionsalt": {"type": "string"}, "secretsprovider": {"type": "string"}},
        "required": ["config"],
        "$defs": parts,
    }
    return json.dumps(page, indent=2) + "\n"


def _without_filled_in(part: dict[str, Any]) -> None:
    """What `load` fills in, the file may leave out: names, and what follows from other keys."""
    keys = part.get("properties", {})
    stated = [key for key in part.get("required", []) if key in keys and not keys[key].pop("derived", None)]
    part.pop("required", None)
    part |= {"required": stated} if stated else {}


def reference() -> str:
    """The reference page: every key with its meaning, type or unit, and default."""
    lines = [_INTRO]
    for section in keys_of(Settings):
        field = Settings.model_fields[section]
        lines += [f"## {section}", "", field.description or "", ""]
        rows = list(_rows(field, section))
        if rows:
            lines += ["| Key | Meaning | Type or unit | Default |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines).rstrip() + "\n"


def every_key() -> list[str]:
    """Every key that can be written, as a path."""
    sections = ((section, Settings.model_fields[section]) for section in keys_of(Settings))
    return [row.split("`")[1] for section, field in sections for row in _rows(field, section)]


def _rows(field: FieldInfo, path: str) -> Iterator[str]:
    model, path = _part(field, path)
    for key in keys_of(model) if model else ():
        inner = model.model_fields[key] if model else field
        cells = (f"`{path}.{key}`", _cell(inner.description or ""), _cell(_type(inner)), _cell(_default(inner)))
        yield f"| {' | '.join(cells)} |"
        yield from _rows(inner, f"{path}.{key}")


def _part(field: FieldInfo, path: str) -> tuple[type[BaseModel] | None, str]:
    kind = bare(field.annotation)
    if get_origin(kind) is dict:
        kind, path = bare(get_args(kind)[1]), f"{path}.NAME"
    elif get_origin(kind) is tuple:
        kind, path = bare(get_args(kind)[0]), f"{path}[N]"
    return (kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None), path


def _type(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "unit" in extra:
        return str(extra["unit"])
    return _type_name(field.annotation)


def _type_name(annotation: Any) -> str:
    kind = bare(annotation)
    if get_origin(kind) is tuple:
        return f"list: {_type_name(get_args(kind)[0])}"
    if kind == dict[str, Any]:
        return "map"
    if get_origin(kind) is dict:
        return f"map: {_type_name(get_args(kind)[1])}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(str(item.value) for item in kind)
    return _TYPES.get(kind, "map")


def _default(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "derived" in extra:
        return str(extra["derived"])
    if field.is_required() and field.examples:
        return f"required; `{_shown(field.examples[0])}`"
    default = field.get_default(call_default_factory=True, validated_data={})
    if field.is_required() or default is None:
        return ""
    return f"`{_shown(default)}`"


def _shown(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
