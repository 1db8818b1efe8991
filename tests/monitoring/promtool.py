"""Where promtool is: on PATH, or what the project has built."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools import paths


def find() -> str:
    """Its path; a test that needs it is skipped where there is none."""
    kept = paths.promtool()
    found = str(kept) if kept.exists() else shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not here: it comes with the distribution's prometheus package")
    return found


def run(*arguments: str | Path) -> str:
    """What promtool says; a test fails with it when promtool does."""
    done = subprocess.run([find(), *map(str, arguments)], capture_output=True, text=True, timeout=100)
    said = done.stdout + done.stderr
    if done.returncode:
        pytest.fail(said)
    return said
