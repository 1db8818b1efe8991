"""The real kubeadm."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import paths


@pytest.fixture(scope="session")
def kubeadm() -> Path:
    """kubeadm of the pinned version; one on PATH will do."""
    built = paths.kubeadm()
    found = str(built) if built.exists() else shutil.which("kubeadm")
    if found is None:
        pytest.skip("kubeadm is not built here: `make tools`")
    return Path(found)
