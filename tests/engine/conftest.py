"""Labs for engine-level tests: real `pulumi` runs on a twin of each test module's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.engine.sandbox import Sandbox


@contextmanager
def blank(factory: pytest.TempPathFactory, *, two: bool = False) -> Iterator[Sandbox]:
    """One board with blank modules; nothing is running yet."""
    sandbox = Sandbox(factory.mktemp("lab"), two=two).prepare()
    try:
        yield sandbox
    finally:
        sandbox.end()


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Four modules that are still blank."""
    with blank(tmp_path_factory) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def lab(cold: Sandbox) -> Sandbox:
    """The same, converged: four Ready nodes."""
    cold.up().ok()
    return cold


@pytest.fixture(scope="module")
def cold_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A control plane and a worker that are still blank."""
    with blank(tmp_path_factory, two=True) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def two(cold_two: Sandbox) -> Sandbox:
    """The same, converged."""
    cold_two.up().ok()
    return cold_two


@pytest.fixture(scope="module", params=["two", pytest.param("four", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Two Ready nodes, and in the whole run four as well."""
    with blank(tmp_path_factory, two=request.param == "two") as sandbox:
        sandbox.up().ok()
        yield sandbox
