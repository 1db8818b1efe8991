"""A real API server for the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.providers.kubernetes.servers import Cluster, cluster


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("api")) as running:
        yield running
