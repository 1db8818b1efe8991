"""Six cards in about the time of the slowest, measured in one run."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.providers.disk import scene
from tests.providers.disk.scene import MIB, card_file, loop, needs_root
from tests.providers.disk.six import READ, SLOWEST_WRITE, WRITE

ROOT = Path(__file__).parents[3]
BLKIO = Path("/sys/fs/cgroup/blkio")
BOUND = 1.3
CARDS = 6


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """An image that must be unpacked: once, or the unpacking of six would be slower than the cards."""
    raw = scene.plain_image(tmp_path / "raw", 16 * MIB)
    image = tmp_path / "metal.raw.gz"
    image.write_bytes(gzip.compress(raw.read_bytes(), compresslevel=1))
    return image


def measured(*arguments: object, before: str = "") -> float:
    code = [sys.executable, "-m", "tests.providers.disk.six", *map(str, arguments)]
    command = ["sh", "-c", f'{before} exec "$@"', "sh", *code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    alone, together = map(float, done.stdout.split())
    print(f"slowest alone {alone:.2f} s, six at once {together:.2f} s: {together / alone:.2f} times")
    return together / alone


def test_six_image_files_as_slow_as_cards(tmp_path: Path, packed: Path) -> None:
    cards = [card_file(tmp_path / f"card{number}.img", 24 * MIB) for number in range(CARDS)]
    assert measured("--pace", packed, *cards) <= BOUND


@pytest.fixture
def slowed() -> Iterator[Path]:
    """A group of processes whose disks the kernel slows down."""
    group = BLKIO / f"homelab-cards-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"the kernel has no blkio groups to slow disks down with ({error.strerror})")
    yield group
    group.rmdir()


@needs_root
def test_six_loop_devices_that_the_kernel_makes_as_slow_as_cards(tmp_path: Path, packed: Path, slowed: Path) -> None:
    with ExitStack() as stack:
        files = [card_file(tmp_path / f"card{number}.img", 24 * MIB) for number in range(CARDS)]
        devices = [stack.enter_context(loop(file)) for file in files]
        for number, device in enumerate(devices):
            name = f"{os.major(device.stat().st_rdev)}:{os.minor(device.stat().st_rdev)}"
            rate = WRITE if number else SLOWEST_WRITE
            (slowed / "blkio.throttle.write_bps_device").write_text(f"{name} {rate}")
            (slowed / "blkio.throttle.read_bps_device").write_text(f"{name} {READ}")
        assert measured(packed, *devices, before=f"echo $$ >{slowed}/cgroup.procs;") <= BOUND
        for file in files:
            assert scene.piece(file, 510, 2) == b"\x55\xaa"
