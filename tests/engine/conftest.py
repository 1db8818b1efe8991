"""Labs for engine-level tests: real `pulumi` runs on a twin of each test module's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.sandbox import Sandbox


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One board with four blank modules; nothing is running yet."""
    folder: Path = tmp_path_factory.mktemp("lab")
    sandbox = Sandbox(folder).prepare()
    yield sandbox
    sandbox.end()


@pytest.fixture(scope="module")
def lab(cold: Sandbox) -> Sandbox:
    """The same, converged: four Ready nodes."""
    cold.up().ok()
    return cold
