"""Flashing the twin's modules, with each fault of 4a that a client can meet."""

import lzma
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from providers.deadline import Deadline
from providers.errors import DeadlineError, FlashError, HomelabError
from providers.turingpi.answers import State
from providers.turingpi.flash import Flashed, flash
from providers.turingpi.image import Image, fetch
from providers.turingpi.progress import Phase, Progress
from tests.providers.turingpi.lab import FAST, Lab
from twin.image import Image as Content
from twin.image import make

IMAGE_BYTES = 2 << 20
WISHED = {1: True, 2: True, 3: False, 4: False}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    folder = tmp_path_factory.mktemp("image")
    content = Content("schematic", "v1.13.9", overlay="turingrk1")
    (folder / "metal.raw.xz").write_bytes(lzma.compress(b"".join(make(content, IMAGE_BYTES)), preset=0))
    return fetch(str(folder / "metal.raw.xz"), cache=folder / "cache")


@pytest.fixture
def board(lab: Lab) -> Iterator[str]:
    """The newest board with only slot 2 running, and without the memory of an earlier test."""
    lab.settled("new")
    with lab.bmc("new") as bmc:
        bmc.clear_usb_boot()
        bmc.set_power({1: False, 2: True, 3: False, 4: False})
    yield "new"
    lab.clear()
    lab.settled("new")


def write(lab: Lab, image: Image, board: str = "new", slot: int = 1, **options: Any) -> Flashed:
    wished = options.pop("wished", {**WISHED, slot: True})
    options = {"deadline": Deadline(60), "pace": FAST, **options}
    with lab.bmc(board) as bmc:
        return flash(bmc, slot, image, lambda: wished, **options)


def powers(lab: Lab, board: str = "new") -> dict[int, bool]:
    with lab.bmc(board) as bmc:
        return bmc.power()


def test_a_module_is_written_verified_and_seen_booting(lab: Lab, board: str, image: Image) -> None:
    seen: list[Progress] = []
    began = time.time()
    done = write(lab, image, progress=seen.append)
    assert (done.sha256_raw, done.bytes, done.attempts) == (image.raw_sha256, image.raw_bytes, 1)
    assert "kernel" in done.seen
    assert [event["slot"] for event in lab.events("flash_done", began)] == [1]
    assert len(lab.events("boot_started", began)) == 1
    phases = list(dict.fromkeys(step.phase for step in seen))
    assert phases == [Phase.PREPARING, Phase.WRITING, Phase.VERIFYING, Phase.BOOTING]
    assert powers(lab) == WISHED


def test_a_module_that_should_be_off_is_off_after_it_was_seen_booting(lab: Lab, board: str, image: Image) -> None:
    write(lab, image, wished={1: False, 2: True})
    assert not powers(lab)[1]


def test_firmware_2_0_gets_no_checksum_and_the_same_bytes(lab: Lab, image: Image) -> None:
    assert write(lab, image, "mid").attempts == 1


def test_firmware_1_takes_one_post(lab: Lab, image: Image) -> None:
    assert write(lab, image, "old").attempts == 1
    assert powers(lab, "old")[1]


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("flash-stale-done", "4a1"),
        ("flash-send-timeout", "4a2"),
        ("usb-boot-fails", "4a4"),
        ("flash-error", "4a10"),
        ("flash-crc-error", "4a10"),
        ("flash-stall", "4a10"),
        ("flash-corrupt", "4a10"),
        ("flash-done-early", "4a10"),
        ("flash-hijack", "4a1"),
    ],
)
def test_4a_a_passing_fault_costs_at_most_a_second_try(
    lab: Lab, board: str, image: Image, fault: str, line: str
) -> None:
    lab.fault(fault, board="new", polls=3) if fault == "flash-stale-done" else lab.fault(fault, board="new")
    began = time.time()
    done = write(lab, image)
    assert done.attempts == (1 if fault == "flash-stale-done" else 2)
    assert powers(lab) == WISHED
    assert not [event for event in lab.events("power_off", began) if event.get("node") == "new2"]


@pytest.mark.parametrize("fault", ["usb-boot-fails", "flash-error", "flash-corrupt"])
def test_4a3_4a4_after_a_failed_flash_every_slot_has_its_wished_power(
    lab: Lab, board: str, image: Image, fault: str
) -> None:
    lab.fault(fault, board="new", times=2)
    began = time.time()
    with pytest.raises(FlashError, match=r"slot 1: not flashed"):
        write(lab, image)
    assert powers(lab) == WISHED
    assert not [event for event in lab.events("power_off", began) if event.get("node") == "new2"]


def test_4a4_an_empty_slot_is_named(lab: Lab, board: str, image: Image) -> None:
    with pytest.raises(FlashError, match="is a module seated"):
        write(lab, image, slot=4)


def test_4a5_a_crashed_daemon_that_comes_back_gets_a_second_try(lab: Lab, board: str, image: Image) -> None:
    lab.fault("bmc-oom", board="new", for_s=100, after_bytes=100_000)
    began = time.time()
    assert write(lab, image).attempts == 2
    assert len(lab.events("bmc_down", began)) == 1  # slot 2 runs: no reboot cuts its power
    assert powers(lab) == WISHED


def test_4a5_the_bmc_is_rebooted_when_nothing_else_runs(lab: Lab, board: str, image: Image) -> None:
    with lab.bmc("new") as bmc:
        bmc.set_power({2: False})
    lab.fault("bmc-oom", board="new", for_s=50, after_bytes=100_000)
    began = time.time()
    assert write(lab, image, wished={1: True, 2: False, 3: False, 4: False}).attempts == 2
    assert len(lab.events("bmc_down", began)) == 2  # the crash and the reboot


def test_4a5_a_daemon_that_stays_away_is_an_error_that_says_what_to_type(lab: Lab, board: str, image: Image) -> None:
    lab.fault("bmc-oom", board="new", after_bytes=100_000)
    with pytest.raises(FlashError, match="S94bmcd restart"):
        write(lab, image, pace=replace(FAST, return_s=0.6, silent_s=0.4))
    lab.fault("bmc-start", board="new")
    time.sleep(0.3)


def test_4a7_tokens_lost_between_two_flashes(lab: Lab, board: str, image: Image) -> None:
    with lab.bmc("new") as bmc:
        bmc.power()
        lab.fault("bmc-tokens-lost", board="new")
        assert flash(bmc, 1, image, lambda: WISHED, Deadline(60), pace=FAST).attempts == 1


@pytest.mark.parametrize("fault", ["answer-malformed", "answer-html", "answer-cut", "answer-drop", "answer-500"])
def test_4a8_a_bad_answer_while_it_is_verified_is_asked_again(lab: Lab, board: str, image: Image, fault: str) -> None:
    lab.fault(fault, board="new", type="flash", at="flash_started", times=2)
    write(lab, image)
    assert powers(lab) == WISHED


def test_another_transfer_is_waited_for_and_never_cancelled(lab: Lab, board: str, image: Image) -> None:
    began = time.time()
    ends: list[Flashed | HomelabError] = []

    def other() -> None:
        ends.append(write(lab, image, slot=3, wished={**WISHED, 3: True}))

    thread = threading.Thread(target=other)
    thread.start()
    with lab.bmc("new") as bmc:
        while bmc.flash_status().state is not State.TRANSFERRING:
            time.sleep(0.01)
        notes: list[str] = []
        flash(bmc, 1, image, lambda: {1: True}, Deadline(60), lambda step: notes.append(step.note), FAST)
    thread.join()
    assert isinstance(ends[0], Flashed)
    assert ends[0].attempts == 1
    assert len(lab.events("flash_done", began)) == 2
    assert "the board is busy with another transfer" in notes


def test_the_deadline_ends_it_and_the_power_is_restored(lab: Lab, board: str, image: Image) -> None:
    lab.fault("flash-stall", board="new")
    with pytest.raises(DeadlineError):
        write(lab, image, deadline=Deadline(0.8), pace=replace(FAST, stall_s=20))
    assert powers(lab) == WISHED


def test_a_file_that_changed_after_it_was_measured_is_not_written(
    lab: Lab, board: str, image: Image, tmp_path: Path
) -> None:
    other = tmp_path / "other.raw"
    other.write_bytes(bytes(image.raw_bytes))
    with pytest.raises(FlashError, match="changed since it was measured"):
        write(lab, replace(image, path=other))
    assert powers(lab) == WISHED
