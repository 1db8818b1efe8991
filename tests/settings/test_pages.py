"""What is generated from the types is up to date, and the owner's example shows every key."""

import json
import re
from pathlib import Path

import pytest
import yaml

from settings import pages
from settings.__main__ import main

_ROOT = Path(__file__).parent.parent.parent


def test_the_reference_is_up_to_date():
    assert pages.REFERENCE.read_text() == pages.reference(), "run `python -m settings reference`"


def test_the_schema_is_up_to_date():
    assert pages.SCHEMA.read_text() == pages.schema(), "run `python -m settings schema`"


def test_the_example_shows_every_key():
    text = (_ROOT / "Pulumi.homelab.yaml").read_text()
    shown = set(re.findall(r"([A-Za-z_]\w*)[:,]", text))
    assert [key for key in pages.every_key() if key.rpartition(".")[2] not in shown] == []


@pytest.mark.parametrize("stack", ["homelab", "twin", "sixteen"])
def test_stack_files_name_the_schema(stack: str):
    first = (_ROOT / f"Pulumi.{stack}.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=docs/settings.schema.json"


def _keys(schema: dict[str, object], data: object, where: str, parts: dict[str, dict[str, object]]) -> list[str]:
    """The keys of `data` that the schema does not know: enough of a validator for what editors complete."""
    if "$ref" in schema:
        schema = parts[str(schema["$ref"]).rpartition("/")[2]]
    options = schema.get("anyOf", schema.get("allOf", []))
    for option in options if isinstance(options, list) else []:
        if "$ref" in option:
            return _keys(option, data, where, parts)
    properties, patterns = schema.get("properties"), schema.get("patternProperties")
    if not isinstance(data, dict) or not isinstance(properties or patterns, dict):
        return []
    unknown = []
    for key, value in data.items():
        if isinstance(properties, dict) and key in properties:
            unknown += _keys(properties[key], value, f"{where}.{key}", parts)
        elif isinstance(patterns, dict) and (found := [s for p, s in patterns.items() if re.search(p, key)]):
            unknown += [f"{where}.{key}"] if found[0] is False else _keys(found[0], value, f"{where}.{key}", parts)
        elif schema.get("additionalProperties") is False:
            unknown.append(f"{where}.{key}")
    return unknown


@pytest.mark.parametrize("name", ["minimal", "all-defaults", "full"])
def test_the_schema_knows_the_keys_of_valid_files(name: str):
    schema = json.loads(pages.schema())
    data = yaml.safe_load((_ROOT / f"tests/settings/valid/{name}.yaml").read_text())
    assert _keys(schema, data, "", schema["$defs"]) == []


def test_the_schema_refuses_unknown_keys():
    schema = json.loads(pages.schema())
    data = {"config": {"homelab:node": {}, "homelab:nodes": {"a": {"rol": "worker", "name": "a"}}}}
    expected = [".config.homelab:node", ".config.homelab:nodes.a.rol", ".config.homelab:nodes.a.name"]
    assert _keys(schema, data, "", schema["$defs"]) == expected


def test_check_prints_warnings_and_mistakes(capsys: pytest.CaptureFixture[str]):
    assert main(["check", str(_ROOT / "Pulumi.homelab.yaml")]) == 0
    assert "warning: boards.board1.password" in capsys.readouterr().out
    assert main(["check", str(_ROOT / "tests/settings/invalid/many-at-once.yaml")]) == 1
    assert "6 mistakes" in capsys.readouterr().err
    assert main(["nonsense"]) == 2
