"""Reads the settings: from a stack file alone, or in a Pulumi program. Nothing else reads Pulumi config."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pulumi

from . import secrets
from .checks import CHECKS
from .draft import draft
from .hints import hints
from .models import Settings, password_unset
from .platform import PARTS
from .problems import PLACEHOLDER, Problem, SettingsError, Where, closest, redacted
from .shape import FILLED_IN, NAMED, validated
from .yamlfile import Document, parse

PROJECT = "homelab"
SECTIONS = ("cluster", "boards", "nodes", "platform", "cards", "boot_service", "pools", "tenants", "clusters", "hosts")
_REQUIRED = SECTIONS[:3]
_KEPT_WHOLE = ("patches", "labels", "taints", "values")
_STACK_KEYS = ("config", "encryptionsalt", "secretsprovider", "encryptedkey", "environment")
_SUBNET: Where = ("cluster", "network", "subnet")
_ROOT = Path(__file__).parent.parent


def load(stack_file: Path, decrypted: Mapping[str, object] | None = None) -> Settings:
    """The settings of a stack file, without Pulumi.

    `decrypted` holds the same config with its secrets in plain (`homelab:boards` or `boards` -> object); without it
    every secret is the text `[secret]`. A board without a password is a warning here.

    Raises:
        SettingsError: with every mistake at once; also when the file can't be read.
    """
    return _settings(stack_file.name, _read(stack_file), decrypted, passwords_needed=False)


def from_pulumi() -> Settings:
    """The settings of the stack that this Pulumi program runs for, secrets decrypted.

    The stack file is read beside it, for line numbers and for secrets that stand in it in plain.

    Warnings go to the engine's display.

    Raises:
        pulumi.RunError: with every mistake at once, a line each; a board without a password is one.
    """
    config = pulumi.Config(PROJECT)
    values = {section: text for section in SECTIONS if (text := config.get(section)) is not None}
    try:
        settings = from_values(values, stack_file(pulumi.get_stack()))
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None  # the engine prints this one without a traceback
    for warning in settings.warnings:
        pulumi.log.warn(str(warning))
    return settings


def from_values(values: Mapping[str, str], file: Path | None = None) -> Settings:
    """The settings from what Pulumi hands over: section (`boards` or `homelab:boards`) -> JSON text, decrypted.

    Raises:
        SettingsError: as `from_pulumi`.
    """
    document = _read(file) if file is not None and file.exists() else Document({"config": {}})
    decrypted = {key: _json(text) for key, text in values.items()}
    name = file.name if file is not None else "the settings"
    return _settings(name, document, decrypted, passwords_needed=True)


def stack_file(stack: str) -> Path:
    """Where a stack's settings are: `HOMELAB_STACK_FILE`, else `Pulumi.STACK.yaml` beside the program."""
    given = os.environ.get("HOMELAB_STACK_FILE")
    return Path(given) if given else _ROOT / f"Pulumi.{stack}.yaml"


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _read(file: Path) -> Document:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
    else:
        return parse(text)
    problem = Problem((), f"can't be read: {reason}", "copy Pulumi.homelab.yaml and edit it")
    raise SettingsError(file.name, [problem])


def _settings(
    name: str, document: Document, decrypted: Mapping[str, object] | None, *, passwords_needed: bool
) -> Settings:
    raw, problems = _sections(document)
    settings: Settings | None = None
    warnings: list[Problem] = []
    if raw is not None:
        given = {key.removeprefix(f"{PROJECT}:"): value for key, value in (decrypted or {}).items()}
        given = given if decrypted is not None else secrets.masked(raw)
        settings, found, warnings = _judged(raw, secrets.wrapped(raw, given), passwords_needed=passwords_needed)
        hidden = secrets.known(raw, given) - {PLACEHOLDER}
        problems += [redacted(problem, hidden) for problem in found]
    if settings is None or problems:
        raise SettingsError(name, _ordered(_at_line(document, problem) for problem in problems))
    return settings.noted(_at_line(document, warning) for warning in warnings)


def _judged(
    raw: Mapping[str, object], given: Mapping[str, object], *, passwords_needed: bool
) -> tuple[Settings | None, list[Problem], list[Problem]]:
    """The settings if their shape is right, all mistakes, and all warnings."""
    values = _filled(given)
    settings, malformed = validated(values)
    rough = draft(values)
    plain = list(secrets.in_plain(raw))
    related = [problem for check in CHECKS for problem in check(rough)]
    unset = [password_unset(name) for name in rough.boards if _no_password(values, name)]
    # The subnet can only be missing where the VIP, which it follows from, is wrong.
    malformed = [p for p in malformed if (p.where, p.message) != (_SUBNET, "is missing")]
    problems = _first_of_each_place(plain, malformed, related)
    problems += _names_given(given) + (unset if passwords_needed else [])
    return settings, problems, [*hints(rough), *unset]


def _first_of_each_place(*lists: list[Problem]) -> list[Problem]:
    """What an earlier list said of a place, a later one does not say again."""
    said: set[Where] = set()
    problems: list[Problem] = []
    for found in lists:
        problems += [problem for problem in found if problem.where not in said]
        said = {problem.where for problem in problems}
    return problems


def _names_given(sections: Mapping[str, Any]) -> list[Problem]:
    named = [section for section in NAMED if isinstance(sections.get(section), dict)]
    return [
        Problem((section, key, FILLED_IN), "is not a setting", "remove it: the name is the key above")
        for section in named
        for key, value in sections[section].items()
        if isinstance(value, dict) and FILLED_IN in value
    ]


def _no_password(values: Mapping[str, Any], board: str) -> bool:
    found = values["boards"][board]
    return isinstance(found, dict) and found.get("password") is None


def _at_line(document: Document, problem: Problem) -> Problem:
    if problem.line is not None:
        return problem
    return replace(problem, line=document.line(_raw_place(problem)))


def _raw_place(problem: Problem) -> tuple[str | int, ...]:
    """A place in the settings as a place in the stack file."""
    if not problem.where or problem.where[0] not in SECTIONS:
        return problem.where
    return ("config", f"{PROJECT}:{problem.where[0]}", *problem.where[1:])


def _ordered(problems: Any) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.line or 0, problem.path))


def _sections(document: Document) -> tuple[dict[str, object] | None, list[Problem]]:
    """The project's sections in a stack file, or None where there is nothing to go on with."""
    problems = [_shortened(problem) for problem in document.problems]
    data = document.data
    config = data.get("config") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(config, dict):
        empty = Problem((), "has no `config:` with the settings under it", "start from Pulumi.homelab.yaml")
        return None, problems or [empty]
    problems += [_unknown(key, _STACK_KEYS) for key in data if key not in _STACK_KEYS]
    known = [f"{PROJECT}:{section}" for section in SECTIONS]
    # Other namespaces, such as `kubernetes:` or `pulumi:`, are none of our business.
    ours = [key for key in config if key.startswith(f"{PROJECT}:") or ":" not in key]
    problems += [_unknown(key, known, ("config",)) for key in ours if key not in known]
    return {
        section: config[f"{PROJECT}:{section}"] for section in SECTIONS if f"{PROJECT}:{section}" in config
    }, problems


def _unknown(key: str, known: Any, where: tuple[str, ...] = ()) -> Problem:
    meant = f"{PROJECT}:{key}" if f"{PROJECT}:{key}" in known else closest(key, known)
    fix = f"did you mean {meant}?" if meant else f"the keys here are {', '.join(known)}"
    return Problem((*where, key), "is not a setting", fix)


def _shortened(problem: Problem) -> Problem:
    """A place in the stack file as a place in the settings."""
    if problem.where[:1] == ("config",) and len(problem.where) > 1:
        section = str(problem.where[1]).removeprefix(f"{PROJECT}:")
        return replace(problem, where=(section, *problem.where[2:]))
    return problem


def _filled(sections: Mapping[str, object]) -> dict[str, Any]:
    """The sections without empty keys, and with what follows from other keys."""
    values: dict[str, Any] = {key: value for key, value in sections.items() if value is not None}
    for section, value in values.items():
        named = section in NAMED and isinstance(value, dict)
        values[section] = {key: _named(key, item) for key, item in value.items()} if named else _pruned(value)
    if isinstance(platform := sections.get("platform"), dict):
        values["platform"] = _with_parts(platform)
    if isinstance(pools := sections.get("pools"), dict):
        values["pools"] = {name: _with_machines(pool) for name, pool in pools.items()}
    if isinstance(tenants := sections.get("tenants"), dict):
        # As with nodes: one with nothing after its name is a mistake, not one to take away.
        values["tenants"] = {name: {} if item is None else _pruned(item) for name, item in tenants.items()}
    cluster = values.get("cluster")
    if isinstance(cluster, dict):
        values["cluster"] = {**cluster, "network": _with_subnet(cluster)}
    return values


def _with_parts(platform: Mapping[str, Any]) -> object:
    """A part or application with nothing after its name is on: dropping it would take it out of the cluster."""
    parts = {name.replace("-", "_") for name in PARTS}
    platform = {key: {} if value is None and key in parts else value for key, value in platform.items()}
    if isinstance(named := platform.get("applications"), dict):
        platform["applications"] = {key: {} if value is None else value for key, value in named.items()}
    return _pruned(platform)


def _with_machines(pool: object) -> object:
    """A pool or machine with nothing after its name stays, so that what it lacks is told."""
    machines = pool.get("machines") if isinstance(pool, dict) else None
    if not isinstance(pool, dict) or not isinstance(machines, dict):
        return {} if pool is None else _pruned(pool)
    return _pruned({**pool, "machines": {name: {} if one is None else one for name, one in machines.items()}})


def _pruned(value: object) -> object:
    """Without the keys that have nothing after them, because all of their lines are commented out."""
    if isinstance(value, dict):
        return {k: v if k in _KEPT_WHOLE else _pruned(v) for k, v in value.items() if v is not None}
    return value


def _named(name: str, value: object) -> object:
    # A thing with nothing after its name stays: dropping a node would take it out of the cluster.
    value = {} if value is None else _pruned(value)
    return {**value, FILLED_IN: name} if isinstance(value, dict) else value


def _with_subnet(cluster: Mapping[str, Any]) -> object:
    network = cluster.get("network", {})
    endpoint = cluster.get("endpoint")
    if not isinstance(network, dict) or "subnet" in network or not isinstance(endpoint, dict):
        return network
    try:
        around = IPv4Network((IPv4Address(endpoint.get("vip")), 24), strict=False)
    except (ValueError, TypeError):
        return network
    return {**network, "subnet": str(around)}
