"""How the tests are shared out between workers: a file each, but for files that share labs."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

SHARING = "tests/faults/"  # its files use the same two labs, which take minutes to come up


class ByLab(LoadFileScheduling):  # type: ignore[misc]
    """Whole files, and all files that share labs, go to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return SHARING if nodeid.startswith(SHARING) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByLab:
    """Called by xdist on the process that shares out."""
    return ByLab(config, log)
