"""The edge to the engine, on the real engine, with resources that have nothing behind them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.engine.sandbox import ROOT
from tools import paths

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


class Toys:
    """The toy program, or another one without a lab, in a folder of its own."""

    def __init__(self, folder: Path, program: str = "toy") -> None:
        self.folder = folder / program
        shutil.copytree(ROOT / "tests/engine" / program, self.folder)
        self.log = folder / "log"
        self.log.touch()
        self.environment = {
            **paths.environment("twin"),
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "toy",
            "PYTHONPATH": str(ROOT),
            "TOY_LOG": str(self.log),
        }
        self.run("stack", "init", "toy")

    def run(self, *arguments: str, toys: int = 0) -> str:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.folder,
            env={**self.environment, "TOYS": str(toys)},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Toys:
    toys = Toys(tmp_path_factory.mktemp("toys"))
    toys.output = toys.run("up", "--yes")  # type: ignore[attr-defined]
    return toys


def test_words_reach_the_resources_own_row(toys: Toys) -> None:
    assert re.search(r"Toy \(first\):\s+said on its own row", toys.output)  # type: ignore[attr-defined]
    assert "urn:pulumi:toy::homelab::pulumi-python:dynamic/toy:Toy::first" in toys.log.read_text()


def test_after_orders_and_records_no_dependency(toys: Toys) -> None:
    """4d.30, on the recorded graph."""
    resources = {
        r["urn"].rsplit("::", 1)[-1]: r for r in json.loads(toys.run("stack", "export"))["deployment"]["resources"]
    }
    second = resources["second"]
    assert second["inputs"]["number"] == 2
    assert not second.get("dependencies")
    assert not any(second.get("propertyDependencies", {}).values())
    lines = [line.rsplit("::", 1)[-1].strip() for line in toys.log.read_text().splitlines()]
    assert lines.index("first") < lines.index("second")


def test_state_holds_no_secret_and_no_code(toys: Toys) -> None:
    state = toys.run("stack", "export")
    assert "hush-hush" not in state
    providers = {r["inputs"]["__provider"] for r in json.loads(state)["deployment"]["resources"] if "inputs" in r}
    assert all(isinstance(reference, str) and len(reference) < 120 for reference in providers)


def test_drift_is_seen_by_refresh_and_repaired_by_the_next_up(tmp_path: Path) -> None:
    toys = Toys(tmp_path)
    toys.run("up", "--yes")
    toys.run("preview", "--expect-no-changes")
    assert "2 updated" in toys.run("refresh", "--yes")
    assert "2 to update" in toys.run("preview")


def test_forty_long_creates_are_not_bounded_by_four_threads(tmp_path: Path) -> None:
    toys = Toys(tmp_path)
    toys.run("up", "--yes", "--parallel", "64", toys=40)
    at_once = widest = 0
    for line in toys.log.read_text().splitlines():
        at_once += 1 if "sleeper" in line else -line.startswith("slept")
        widest = max(widest, at_once)
    print(f"{widest} of 40 creates at the same time")
    assert widest > 4 * 4


def test_4d_45_the_provider_ends_with_its_engine(tmp_path: Path) -> None:
    toys = Toys(tmp_path)
    environment = {**toys.environment, "TOYS": "200"}
    with (tmp_path / "out").open("w") as out:
        run = subprocess.Popen(
            ["pulumi", "up", "--yes", "--non-interactive"],
            cwd=toys.folder, env=environment, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    end = time.monotonic() + 60
    while "sleeper" not in toys.log.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    provider = int(toys.log.read_text().split()[0])
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    end = time.monotonic() + 5
    while Path(f"/proc/{provider}").exists():
        assert time.monotonic() < end, "the provider outlives its engine"
        time.sleep(0.05)
