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


@pytest.fixture(scope="module")
def cold_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A control plane and a worker that are still blank."""
    sandbox = Sandbox(tmp_path_factory.mktemp("lab"), two=True).prepare()
    yield sandbox
    sandbox.end()


@pytest.fixture(scope="module")
def two(cold_two: Sandbox) -> Sandbox:
    """The same, converged."""
    cold_two.up().ok()
    return cold_two


@pytest.fixture(scope="module", params=["two", pytest.param("four", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Two Ready nodes, and in the whole run four as well."""
    sandbox = Sandbox(tmp_path_factory.mktemp(request.param), two=request.param == "two").prepare()
    try:
        sandbox.up().ok()
        yield sandbox
    finally:
        sandbox.end()
