"""Validates the shape of the settings and says pydantic's findings in an owner's words."""

import types
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from .models import Settings, set_secret
from .problems import WRONG, Problem, Where, closest, quoted

NAMED = ("boards", "nodes", "clusters", "hosts")
"""The sections whose keys are names."""

FILLED_IN = "name"
"""The key of what is in `NAMED` that comes from their place in the file and can't be written."""


def validated(sections: Mapping[str, object]) -> tuple[Settings | None, list[Problem]]:
    """The settings, or None and everything that is wrong with their shape."""
    try:
        return Settings.model_validate(sections), []
    except ValidationError as error:
        # Input values are left out: an error must never hold a secret.
        details = error.errors(include_url=False, include_context=True)
    return None, [problem for detail in details if not _is_filled_in((problem := _problem(detail)).where)]


def _is_filled_in(where: Where) -> bool:
    return where[0] in NAMED and where[2:] == (FILLED_IN,)


def _problem(detail: ErrorDetails) -> Problem:
    where = tuple(part for part in detail["loc"] if part != "[key]")
    message, fix = _words(detail, where)
    return Problem(where, message, fix)


def _words(detail: ErrorDetails, where: Where) -> tuple[str, str]:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail.get("input")
    if kind == WRONG:
        return context["message"], context["fix"]
    match kind:
        case "missing":
            return "is missing", _example(where)
        case "extra_forbidden":
            return "is not a setting", _unknown(where)
        case "enum":
            return f"{quoted(value)} is unknown", _choices(where, str(value))
        case "greater_than_equal" | "less_than_equal":
            return f"{value} is out of range", _range(where, context)
    return wrong_type(kind, value, "docs/settings.md")


def wrong_type(kind: str, value: object, page: str) -> tuple[str, str]:
    """What is wrong with a value of the wrong type, and the fix; `page` tells of kinds that have no words here."""
    wanted, fix = {
        "int_type": ("a whole number", "write digits without quotes"),
        "bool_type": ("true or false", "write true or false, without quotes"),
        "string_type": ("text", "write it in quotes"),
        "tuple_type": ("a list", "write [one, two], or one `- item` a line"),
        "dict_type": ("a map", "write `key: value` lines under it"),
        "model_type": ("a map", "write `key: value` lines under it"),
    }.get(kind, ("what is wanted here", f"see {page}"))
    shown = f"{quoted(value)} is" if isinstance(value, str | int | float) else "is"
    return f"{shown} not {wanted}", fix


def _example(where: Where) -> str:
    field = _field(where)
    if len(where) == 1:
        return f"add `homelab:{where[0]}:` as in Pulumi.homelab.yaml"
    if field is None or not field.examples:
        return f"the keys here are in docs/settings.md: {field.description}" if field else "see docs/settings.md"
    if bare(field.annotation) is SecretStr:
        return f"type `{set_secret(where)}`"
    example = field.examples[0]
    inner = ", ".join(f"{k}: {v}" for k, v in example.items()) if isinstance(example, dict) else None
    return f"write for example `{where[-1]}: {{{inner}}}`" if inner else f"write for example `{where[-1]}: {example}`"


def _unknown(where: Where) -> str:
    model, key = _model(where[:-1]), str(where[-1])
    keys = keys_of(model) if model else []
    if meant := closest(key, keys):
        return f"did you mean {meant}?"
    if elsewhere := [path for path in _all_paths(Settings) if path.rpartition(".")[2] == key]:
        return f"did you mean {elsewhere[0]}?"
    return f"the keys here are {', '.join(keys)}" if keys else "remove it: there is nothing to set here yet"


def _choices(where: Where, given: str) -> str:
    field = _field(where)
    kind = bare(field.annotation) if field else None
    known = [str(item.value) for item in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []
    meant = closest(given, known)
    return f"did you mean {meant}?" if meant else f"write {', '.join(known)}"


def _range(where: Where, limits: Mapping[str, object]) -> str:
    named = {"slot": "slots are 1 to 4, as printed on the board", "port": "ports are 1 to 65535"}
    if where[:1] != ("platform",) and str(where[-1]) in named:
        return named[str(where[-1])]
    return f"write {limits['ge']} or more" if "ge" in limits else f"write {limits['le']} or less"


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a part that can be written."""
    hidden = {FILLED_IN} if model.__name__ in ("Board", "Node", "FurtherCluster", "Host") else set()
    return [key for key in model.model_fields if key not in hidden]


def _field(where: Where) -> Any:
    model = _model(where[:-1])
    return model.model_fields.get(str(where[-1])) if model and where else None


def _model(where: Where) -> type[BaseModel] | None:
    """The part that stands at a place; keys of maps and positions in lists are stepped over."""
    kind: Any = Settings
    for part in where:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            kind = bare(field.annotation) if field else None
        elif get_origin(kind) in (dict, tuple):
            kind = bare(get_args(kind)[1 if get_origin(kind) is dict else 0])
        else:
            return None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def bare(kind: Any) -> Any:
    """A type without `Annotated` and without `| None`."""
    if get_origin(kind) is Annotated:
        return bare(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return bare(next(arg for arg in get_args(kind) if arg is not type(None)))
    return kind


def _all_paths(model: type[BaseModel], before: str = "") -> Iterator[str]:
    for key in keys_of(model):
        yield before + key
        kind = bare(model.model_fields[key].annotation)
        if get_origin(kind) is dict and isinstance(item := bare(get_args(kind)[1]), type):
            if issubclass(item, BaseModel):
                yield from _all_paths(item, f"{before}{key}.NAME.")
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _all_paths(kind, f"{before}{key}.")
