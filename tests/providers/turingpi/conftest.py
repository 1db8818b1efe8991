from collections.abc import Iterator

import pytest

from tests.providers.turingpi.lab import Lab, forget_sessions, running


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running(tmp_path_factory.mktemp("twin")) as lab:
        yield lab


@pytest.fixture
def lab(twin: Lab) -> Iterator[Lab]:
    """The module's twin without faults and without logins."""
    twin.clear()
    forget_sessions()
    yield twin
    twin.close()
