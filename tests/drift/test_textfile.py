"""The metrics: as promtool wants them, and never half written."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drift import textfile
from drift.findings import Finding, Kind, Report, Unasked
from providers.errors import UserError
from tests.monitoring import promtool

AT = datetime(2026, 3, 1, 3, 30, tzinfo=UTC)
REPORT = Report(
    (
        Finding(Kind.POWER_OFF, "node2", ""),
        Finding(Kind.OBJECT_CHANGED, 'Deployment/web/"web"\\', ""),
        Finding(Kind.ORPHAN_NODE, "node9", "", identity="1"),
        Finding(Kind.ORPHAN_NODE, "node9", "", identity="2"),
    ),
    (Unasked("board1", "no answer"),),
)


def lint(text: str) -> str:
    done = subprocess.run(
        [promtool.find(), "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"exit code {done.returncode}")


@pytest.mark.parametrize("report", [REPORT, Report()], ids=["drift", "none"])
def test_promtool_finds_nothing_wrong(report: Report) -> None:
    assert lint(textfile.metrics(report, AT)) == ""


def test_what_stands_in_it() -> None:
    lines = [line for line in textfile.metrics(REPORT, AT).splitlines() if not line.startswith("#")]
    assert lines == [
        'homelab_drift{kind="power_off",name="node2"} 1',
        'homelab_drift{kind="object_changed",name="Deployment/web/\\"web\\"\\\\"} 1',
        'homelab_drift{kind="orphan_node",name="node9"} 1',
        'homelab_drift_unasked{name="board1"} 1',
        "homelab_drift_last_run_seconds 1772335800",
    ]


def test_it_takes_the_place_of_the_last_one_and_is_readable(tmp_path: Path) -> None:
    file = tmp_path / "drift.prom"
    textfile.write(file, REPORT, AT)
    textfile.write(file, Report(), AT)
    assert file.read_text() == textfile.metrics(Report(), AT)
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["drift.prom"]


def test_a_name_that_the_collector_would_not_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"drift\.txt: the textfile collector reads files that end in \.prom"):
        textfile.write(tmp_path / "drift.txt", REPORT, AT)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written"):
        textfile.write(tmp_path / "file" / "drift.prom", REPORT, AT)
