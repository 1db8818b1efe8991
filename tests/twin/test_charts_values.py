"""The stand-in charts take what the program sets and nothing that is misspelt, and the docs name all of it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

import settings
from components import (
    cert_manager,
    cilium,
    headlamp,
    kamaji,
    longhorn,
    metallb,
    metrics_server,
    monitoring,
    nfs,
    traefik,
)
from components.part import Site
from components.versions import CHARTS as TABLE
from twin import chartrepo

ROOT = Path(__file__).parents[2]
LABS = {path.stem: path for path in sorted((ROOT / "tests" / "settings" / "valid").glob("platform*.yaml"))}
NAMES = sorted(path.parent.name for path in chartrepo.CHARTS.glob("*/Chart.yaml"))
Schema = dict[str, Any]


def read(name: str, file: str) -> Any:
    return yaml.safe_load((chartrepo.CHARTS / name / file).read_text(encoding="utf-8"))


def schema(name: str) -> Schema:
    return dict(json.loads((chartrepo.CHARTS / name / "values.schema.json").read_text(encoding="utf-8")))


SCHEMAS = {name: schema(name) for name in NAMES}


def resolved(root: Schema, found: Schema) -> Schema:
    return root["$defs"][found["$ref"].removeprefix("#/$defs/")] if "$ref" in found else found


def inside(found: Schema, where: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema within a schema, with its place."""
    yield where, found
    for key in ("properties", "$defs"):
        for name, part in found.get(key, {}).items():
            yield from inside(part, f"{where}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(found.get(key), dict):
            yield from inside(found[key], f"{where}.{key}")


TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
}


def is_type(value: Any, name: str) -> bool:
    if value is None or name == "null":
        return value is None and name == "null"
    return isinstance(value, TYPES[name]) and not (isinstance(value, bool) and name in ("integer", "number"))


def problems(root: Schema, found: Schema, value: Any, where: str = "") -> Iterator[str]:
    """What a value has against the part of JSON Schema that the charts use."""
    found = resolved(root, found)
    types = found.get("type", [])
    if types and not any(is_type(value, name) for name in ([types] if isinstance(types, str) else types)):
        yield f"{where}: {value!r} is no {types}"
    if "enum" in found and value not in found["enum"]:
        yield f"{where}: {value!r} is none of {found['enum']}"
    if isinstance(value, list) and "items" in found:
        for number, item in enumerate(value):
            yield from problems(root, found["items"], item, f"{where}[{number}]")
    for key, item in value.items() if isinstance(value, dict) else ():
        part = found.get("properties", {}).get(key, found.get("additionalProperties", True))
        if part is False:
            yield f"{where}.{key}: no such key"
        elif isinstance(part, dict):
            yield from problems(root, part, item, f"{where}.{key}")


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_closed_wherever_upstream_has_keys_of_its_own(name: str) -> None:
    known = {"$schema", "$defs", "$ref", "type", "enum", "properties", "additionalProperties", "items"}
    for where, part in inside(SCHEMAS[name]):
        assert set(part) <= known, f"{where}: a word that the check below does not know"
        if part.get("type") == "object":
            assert part["additionalProperties"] is False or "properties" not in part, where
            assert part["additionalProperties"] is not True or where == ".free", f"{where}: free without saying so"


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_keep_to_the_schema(name: str) -> None:
    assert not list(problems(SCHEMAS[name], SCHEMAS[name], read(name, "values.yaml")))


def bent(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """The values with each key misspelt in turn."""
    for key, value in values.items():
        yield (*path, key), {**{k: v for k, v in values.items() if k != key}, f"{key}x": value}
        if isinstance(value, dict):
            for where, inner in bent(value, (*path, key)):
                yield where, {**values, key: inner}


def at(name: str, path: tuple[str, ...]) -> Schema:
    """The schema of a place; an empty one where upstream takes anything."""
    found = SCHEMAS[name]
    for key in path:
        part = found.get("properties", {}).get(key, found.get("additionalProperties"))
        found = resolved(SCHEMAS[name], part) if isinstance(part, dict) else {}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_key_is_refused_at_every_level(name: str) -> None:
    let_through = [
        ".".join(path)
        for path, values in bent(read(name, "values.yaml"))
        if at(name, path[:-1]).get("additionalProperties") is False
        and not list(problems(SCHEMAS[name], SCHEMAS[name], values))
    ]
    assert not let_through


def program(lab: settings.Settings) -> dict[str, dict[str, Any]]:
    """The values that the program sets for a lab, by chart."""
    on, site = lab.platform, cast(Site, SimpleNamespace(lab=lab))
    found = {
        "cert-manager": cert_manager.values(),
        "cilium": cilium.values(lab),
        "csi-driver-nfs": nfs.values(),
        "headlamp": headlamp.values(),
        "kamaji": kamaji.values(),
        "metallb": metallb.values(),
        "metrics-server": metrics_server.values(),
        monitoring.EXPORTER: monitoring.exporter(),
    }
    if on.traefik:
        found["traefik"] = traefik.values(site, on.traefik)
    if on.longhorn:
        found["longhorn"] = longhorn.values(lab, on.longhorn)
    if on.monitoring:
        found[monitoring.STACK] = monitoring.values(lab, on.monitoring)
    return found


PROGRAM = {lab: program(settings.load(path)) for lab, path in LABS.items()}


def test_the_sample_labs_have_every_chart() -> None:
    assert set().union(*PROGRAM.values()) == set(NAMES) == set(TABLE)


@pytest.mark.parametrize("name", NAMES)
def test_the_stand_in_has_the_version_that_the_program_installs(name: str) -> None:
    assert read(name, "Chart.yaml")["version"] == TABLE[name].version


@pytest.mark.parametrize("lab", LABS)
def test_what_the_program_sets_keeps_to_the_schemas(lab: str) -> None:
    found = {name: list(problems(SCHEMAS[name], SCHEMAS[name], values)) for name, values in PROGRAM[lab].items()}
    assert not any(found.values()), found


def keys(name: str, values: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The keys of values that say anything, down to where upstream leaves them to whoever installs the chart."""
    found = at(name, path)
    others = found.get("additionalProperties")
    if isinstance(values, dict) and ("properties" in found or (isinstance(others, dict) and "$ref" in others)):
        for key, value in values.items():
            yield from keys(name, value, (*path, key))
    elif values not in ({}, []):
        yield ".".join(path)


def documented() -> dict[str, tuple[str, set[str]]]:
    """Chart -> version and keys, of the table in docs/charts.md."""
    text = (ROOT / "docs" / "charts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\w.+]+) \| (.+) \|$", text, re.MULTILINE)
    return {name: (version, set(re.findall(r"`([^`]+)`", listed))) for name, version, listed in rows}


@pytest.mark.parametrize("name", NAMES)
def test_the_docs_name_every_key_that_is_set(name: str) -> None:
    version, listed = documented()[name]
    used = {key for lab in PROGRAM.values() for key in keys(name, lab.get(name, {}))}
    assert version == TABLE[name].version
    assert used == listed
