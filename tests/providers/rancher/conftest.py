"""A real API server for the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.providers.kubernetes.servers import Cluster, cluster
from tools import paths


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    tools = paths.servers_bin()
    if not (tools / "kube-apiserver").exists():
        pytest.skip("the servers are not built here")
    with cluster(tools, tmp_path_factory.mktemp("api")) as running:
        yield running
