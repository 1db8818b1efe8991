"""The real kubeadm, and a real API server for the tests of one file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.providers.kubernetes.servers import Cluster, cluster
from tools import paths


@pytest.fixture(scope="session")
def kubeadm() -> Path:
    """kubeadm of the pinned version; one on PATH will do."""
    built = paths.kubeadm()
    found = str(built) if built.exists() else shutil.which("kubeadm")
    if found is None:
        pytest.skip("kubeadm is not built here: `make tools`")
    return Path(found)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    tools = paths.servers_bin()
    if not (tools / "kube-apiserver").exists():
        pytest.skip("the servers are not built here")
    with cluster(tools, tmp_path_factory.mktemp("api")) as running:
        yield running
