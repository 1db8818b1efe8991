"""The measuring itself: labs of any size are valid, the lower bound is what it says, and each kind of measure runs."""

import json
from dataclasses import replace

import pytest

import settings
from bench import programs, report, stream
from bench.bound import bound
from bench.lab import BenchLab
from bench.measure import Effort, Ratio

QUICK = Effort.quick()


@pytest.mark.parametrize("nodes", [4, 16, 256])
def test_a_lab_of_any_size_is_valid(nodes, tmp_path):
    lab = BenchLab(tmp_path / "lab", nodes=nodes).prepare()
    read = settings.load(lab.folder / lab.settings)
    assert len(read.enabled_nodes) == nodes
    assert len(read.control_planes) == 3
    machines = [machine for board in lab.hardware["boards"].values() for machine in board["slots"].values()]
    assert {machine["address"] for machine in machines} == {str(node.address) for node in read.enabled_nodes}


def _life(node, board, flash, boot, waits):
    """The events of one control plane that waits `waits` seconds whenever somebody has to ask for the next thing."""
    steps = (("flash_started", waits), ("flash_done", flash), ("boot_started", waits), ("maintenance", boot),
             ("config_applied", waits), ("boot_started", 2), ("api_up", boot), ("bootstrapped", waits),
             ("etcd_started", 1), ("api_ready", 3), ("node_ready", 1))  # fmt: skip
    now, events = 0.0, []
    for kind, took in steps:
        now += took
        events.append({"kind": kind, "node": node, "board": board, "mono": now})
    return events


@pytest.mark.parametrize("waits", [0, 7])
def test_the_bound_counts_devices_and_nobodys_waiting(waits):
    found = bound(_life("m1", "board1", 20, 3, waits), service_s=0, kubelet_s=0)
    assert found.total_s == pytest.approx(20 + 3 + 2 + 3 + 1 + 3 + 1)
    assert (found.flash_s, found.boot_s, found.cluster_s) == pytest.approx((20, 8, 5))


def test_the_bound_queues_the_flashes_of_one_board_and_no_others():
    first, second = _life("m1", "board1", 20, 3, 0), _life("m2", "board1", 20, 3, 0)
    assert bound([*first, *second], 0, 0).flash_s == 40
    assert bound([*first, *second], 0, 0).total_s == 40 + 8 + 5
    elsewhere = _life("m2", "board2", 20, 3, 0)
    assert bound([*first, *elsewhere], 0, 0).flash_s == 20


def test_bounds_are_held_against_the_median():
    assert Ratio("r", (1.0, 1.1, 9.0), 1.15).holds is True
    assert Ratio("r", (1.0, 1.2, 1.3), 1.15).holds is False
    assert Ratio("r", (3.5,), 3.0, at_least=True).holds is True
    assert Ratio("r", (3.5,)).holds is None


def test_an_image_reaches_a_board_within_bounded_memory():
    rate, memory = stream.measure(replace(QUICK, image_bytes=32 << 20), print)
    assert rate.median > 0
    assert memory.holds


@pytest.mark.engine
def test_the_program_is_measured_against_its_floor(tmp_path):
    ratios = programs.measure(QUICK, print)
    assert [ratio.bound for ratio in ratios] == [programs.BOUND] * 2
    sizes = ratios[0].parts
    assert sizes["resources"] == sizes["floor_resources"]
    assert [path.name for path in report.write(ratios, tmp_path)] == ["results.json", "results.png"]
    assert len(json.loads((tmp_path / "results.json").read_text())["ratios"]) == 2
