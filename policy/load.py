"""Reads `policy.yaml`: every mistake at once, each with its line and the fix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from policy.models import Policy
from settings.problems import WRONG, Problem, SettingsError, Where, closest, quoted
from settings.shape import bare, wrong_type
from settings.yamlfile import Document, parse

NAME = "policy.yaml"


@dataclass(frozen=True)
class Rules:
    """A policy, and where its rules stand."""

    policy: Policy = field(default_factory=Policy)
    document: Document = field(default_factory=Document)

    def place(self, rule: Where) -> str:
        """Where a rule stands: `policy.yaml line 3`, or that it is a default."""
        line = self.document.lines.get(rule)
        return f"{NAME} line {line}" if line else "the default"


def load(file: Path) -> Rules:
    """The rules of a file; the defaults where there is none.

    Raises:
        SettingsError: with every mistake at once; also when the file can't be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Rules()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(file.name, [Problem((), "can't be read", "make it a file of UTF-8 text")]) from None
    document = parse(text)
    policy, problems = _validated(_pruned(document.data))
    problems = [
        *document.problems,
        *(replace(found, line=document.line(found.where) or document.lines.get(())) for found in problems),
    ]
    if problems or policy is None:
        raise SettingsError(file.name, sorted(problems, key=lambda problem: (problem.line or 0, problem.path)))
    return Rules(policy, document)


def _pruned(data: object) -> object:
    """Without the keys that have nothing after them, because all of their lines are commented out."""
    if isinstance(data, Mapping):
        return {key: _pruned(value) for key, value in data.items() if value is not None}
    return {} if data is None else data


def _validated(data: object) -> tuple[Policy | None, list[Problem]]:
    try:
        return Policy.model_validate(data), []
    except ValidationError as error:
        return None, [_problem(detail) for detail in error.errors(include_url=False)]


def _problem(detail: ErrorDetails) -> Problem:
    where = tuple(part for part in detail["loc"] if part != "[key]")
    message, fix = _words(detail, where)
    return Problem(where, message, fix)


def _words(detail: ErrorDetails, where: Where) -> tuple[str, str]:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail.get("input")
    if kind == WRONG:
        return context["message"], context["fix"]
    if kind == "extra_forbidden":
        known = list(_model(where[:-1]).model_fields)
        meant = closest(str(where[-1]), known)
        return "is no rule", f"did you mean {meant}?" if meant else f"the keys here are {', '.join(known)}"
    if kind == "enum":
        words = str(context["expected"]).replace("'", "")
        return f"{quoted(value)} is unknown", f"write {words}"
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"{value} is out of range", f"write {context.get('ge', context.get('le'))} or {_side(kind)}"
    return wrong_type(kind, value, "docs/runbooks/policy.md")


def _side(kind: str) -> str:
    return "more" if kind == "greater_than_equal" else "less"


def _model(where: Where) -> type[BaseModel]:
    """The part that stands at a place."""
    found: Any = Policy
    for part in where:
        found = bare(found.model_fields[str(part)].annotation)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else Policy


def every_key(model: type[BaseModel] = Policy, before: str = "") -> list[str]:
    """Every rule that can be written, as a path."""
    keys: list[str] = []
    for name, found in model.model_fields.items():
        kind = bare(found.annotation)
        inner = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
        keys += every_key(inner, f"{before}{name}.") if inner else [before + name]
    return keys
