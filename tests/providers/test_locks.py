"""4d.45: a second run waits for the first one's board, or says who holds it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from providers.deadline import Deadline
from providers.errors import RefusedError
from providers.locks import held

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from providers.deadline import Deadline
from providers.locks import held
with held(sys.argv[1], "flashing node1", Deadline(5)):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, "board x"], cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_4d_45_says_who_holds_it(holder: subprocess.Popen[str]) -> None:
    said: list[str] = []
    with (
        pytest.raises(RefusedError, match=rf"process {holder.pid} \(flashing node1\)"),
        held("board x", "mine", Deadline(0.2), said.append),
    ):
        pytest.fail("two holders")
    assert said == [f"waiting: board x is held by process {holder.pid} (flashing node1)"]


def test_4d_45_a_killed_holder_holds_nothing(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    began = time.monotonic()
    with held("board x", "mine", Deadline(5)):
        assert time.monotonic() - began < 5


def test_other_boards_are_free(holder: subprocess.Popen[str]) -> None:
    assert holder.poll() is None
    with held("board y", "mine", Deadline(0)):
        pass
