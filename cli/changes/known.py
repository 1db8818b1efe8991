"""The secrets that this machine knows of a stack, so that none of them gets into what others read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cli.changes.clean import texts
from cli.engine import Engine
from providers.errors import HomelabError
from settings import secrets, yamlfile

_VARIABLE = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSPHRASE|KEY)\Z")
_PLAINTEXT = "plaintext"  # what the engine's export holds in place of a secret's ciphertext


def of(engine: Engine) -> frozenset[str]:
    """The secrets in a stack's settings, in its state and in the environment.

    What can't be opened here can't be printed here either, so that a stack whose passphrase is wrong has none.
    """
    return frozenset({*of_environment(engine.environment), *_of_settings(engine), *_of_state(engine)})


def of_environment(environ: Mapping[str, str]) -> Iterator[str]:
    """What variables with telling names hold. A twin's passphrase is everybody's, and a word besides."""
    for name, value in environ.items():
        if _VARIABLE.search(name) and len(value) > 7:
            yield value


def of_resources(resources: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The secrets in an export with `--show-secrets`."""
    for value in resources:
        yield from _plaintexts(value)


def _plaintexts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        plain = value.get(_PLAINTEXT)
        if isinstance(plain, str) and len(value) == 2:
            yield from texts(_decoded(plain))
            return
        for item in value.values():
            yield from _plaintexts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _plaintexts(item)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _of_settings(engine: Engine) -> frozenset[str]:
    raw = yamlfile.parse(engine.stack.settings_file.read_text(encoding="utf-8")).data
    sections = raw.get("config") if isinstance(raw, Mapping) else None
    try:
        plain = engine.config()
    except HomelabError:
        return frozenset()
    return secrets.known(_short(sections or {}), _short(plain))


def _of_state(engine: Engine) -> Iterator[str]:
    try:
        resources = engine.deployment()
    except HomelabError:
        return
    yield from of_resources(resources)


def _short(config: Mapping[str, Any]) -> dict[str, Any]:
    """Sections as the settings call them: `homelab:boards` is `boards`."""
    return {key.removeprefix("homelab:"): value for key, value in config.items()}
