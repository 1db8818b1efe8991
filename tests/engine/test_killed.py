"""Proof 3: a run killed anywhere is repaired by running it again, and nothing finished is done twice.

Names: 4d.36, 4d.39, 4d.45, 4d.46, 4d.47.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

# Moments of a cold `up`, as the twin sees them: the kind of event, and its how-manieth.
COLD = [
    ("flash_started", 1),
    ("flash_done", 1),
    ("maintenance", 1),
    ("flash_started", 2),
    ("config_applied", 1),
    ("install_started", 1),
    ("flash_done", 3),
    ("running", 1),
    ("config_applied", 3),
    ("bootstrapped", 1),
    ("etcd_started", 2),
    ("api_ready", 1),
    ("vip_acquired", 1),
    ("node_ready", 1),
    ("node_ready", 3),
]
# Moments of taking a control plane out.
LEAVING = [("etcd_left", 1), ("reset", 1), ("reset_done", 1), ("maintenance", 1), ("power_off", 1)]
CHOSEN = random.Random(3).sample(COLD, 1)  # of these, `make test` takes one
WAIT_S = 240.0


def kill_at(lab: Sandbox, verb: tuple[str, ...], kind: str, count: int, after: int = 0) -> bool:
    """Run a verb and kill it when an event was seen `count` times since `after` events; False if it ended before."""
    process = lab.start(*verb)
    end = time.monotonic() + WAIT_S
    while process.poll() is None:
        if sum(event["kind"] == kind for event in lab.events()[after:]) >= count:
            lab.kill(process)
            return True
        if time.monotonic() > end:
            lab.kill(process)
            pytest.fail(f"no {kind} #{count} within {WAIT_S} s\n{lab.said()[-4000:]}")
        time.sleep(0.02)
    return False


def providers(lab: Sandbox) -> list[int]:
    """The dynamic provider processes of this lab's program that are alive."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            inside = (process / "cwd").resolve() == lab.folder
        except OSError:
            continue
        if b"pulumi.dynamic" in command and inside:
            found.append(int(process.name))
    return found


def no_provider_survives(lab: Sandbox) -> None:
    """4d.45: the provider ends its work when its engine is gone."""
    end = time.monotonic() + 5
    while providers(lab):
        assert time.monotonic() < end, "a provider goes on working for a dead engine"
        time.sleep(0.05)


def converges(lab: Sandbox) -> None:
    lab.up().ok()
    assert all(node["ready"] is True for node in lab.status()["nodes"])
    lab.preview_unchanged().ok()


def nothing_done_twice(lab: Sandbox) -> None:
    """A module whose flash ended well is never flashed again, and etcd is bootstrapped once."""
    finished: set[str] = set()
    for event in lab.events():
        if event["kind"] == "flash_done":
            finished.add(event["node"])
        if event["kind"] == "flash_started":
            assert event["node"] not in finished, f"{event['node']} was flashed again"
    assert len(lab.events("bootstrapped")) == 1
    assert lab.count("reset") == Counter()


def killed_after(lab: Sandbox, verb: tuple[str, ...], events: int) -> str | None:
    """Run a verb and kill it after so many events of any kind; gives the last one's kind, None if it ended before."""
    before = len(lab.events())
    process = lab.start(*verb)
    end = time.monotonic() + WAIT_S
    while process.poll() is None:
        seen = lab.events()[before:]
        if len(seen) >= events:
            lab.kill(process)
            return str(seen[-1]["kind"])
        assert time.monotonic() < end, lab.said()[-4000:]
        time.sleep(0.02)
    return None


@pytest.mark.slow
def test_killed_again_and_again_in_one_cold_up(cold: Sandbox) -> None:
    """Each run goes on where the one before it was killed, a few events further."""
    points = []
    for events in itertools.cycle((3, 4, 5)):
        point = killed_after(cold, ("up", "--yes"), events)
        no_provider_survives(cold)
        if point is None:
            break
        points.append(point)
    print(f"killed {len(points)} times: {', '.join(points)}")
    converges(cold)
    nothing_done_twice(cold)
    assert len(points) >= 12


@pytest.mark.slow  # in `make test` the short soak begins with such a kill
def test_killed_while_a_control_plane_leaves(cold: Sandbox) -> None:
    cold.up().ok()
    for kind, count in LEAVING:
        before = len(cold.events())
        kill_at(cold, ("destroy-target", "node3", "--yes"), kind, count, after=before)
        no_provider_survives(cold)
        if not any(name.startswith("node3") for name in cold.names()):
            break
    if "node3" in cold.names():
        cold.run("destroy-target", "node3", "--yes").ok()
    assert not any(name.startswith("node3") for name in cold.names())
    converges(cold)
    assert max(cold.count("flash_done").values()) == 1


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path / "lab").prepare()
    yield sandbox
    sandbox.end()


@pytest.mark.parametrize(
    ("kind", "count"), [pytest.param(*it, marks=() if it in CHOSEN else pytest.mark.slow) for it in COLD]
)
def test_killed_once_then_converges(fresh: Sandbox, kind: str, count: int) -> None:
    assert kill_at(fresh, ("up", "--yes"), kind, count)
    no_provider_survives(fresh)
    converges(fresh)
    nothing_done_twice(fresh)
