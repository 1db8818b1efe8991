"""An image's way from a packed file to a board, against `xz -dc | sha256sum` on the same file.

The board is the sink of `bench.sink`: it takes bytes over TLS as fast as they come. The flash is the real one, in a
process of its own so that its peak memory is its own; only the boot that follows is left out.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from bench.measure import Effort, Ratio, Say
from tools import paths
from tools.pins import ROOT

BOUND = 0.9
MEMORY_BOUND_MIB = 64.0
MIB = 1 << 20
PACKED_SHARE = 0.1  # what of an image can't be packed; Talos' ships 1.3 GB as about 0.1 GB


def image(size: int) -> Path:
    """An image of `size` raw bytes, packed as the Image Factory packs; made once and kept.

    Its first tenth can't be packed (kernel, initramfs, squashfs), the rest is nearly empty.
    """
    path = paths.cache() / "bench" / f"image-{size}.raw.xz"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    source = random.Random(size)
    with fresh.open("wb") as file, subprocess.Popen(["xz", "-0", "-c"], stdin=subprocess.PIPE, stdout=file) as packer:
        if packer.stdin is None:
            raise RuntimeError("xz has no input")
        for start in range(0, size, MIB):
            dense = start < size * PACKED_SHARE
            chunk = source.randbytes(MIB) if dense else source.randbytes(64).ljust(MIB, b"\0")
            packer.stdin.write(chunk[: size - start])
    if packer.returncode != 0:
        raise RuntimeError(f"xz ended with {packer.returncode}")
    fresh.replace(path)
    return path


def reference(path: Path) -> tuple[float, str]:
    """Seconds of `xz -dc | sha256sum`, and the sum."""
    began = time.monotonic()
    with subprocess.Popen(["xz", "-dc", str(path)], stdout=subprocess.PIPE) as unpack:
        done = subprocess.run(["sha256sum"], stdin=unpack.stdout, capture_output=True, text=True, check=True)
    return time.monotonic() - began, done.stdout.split()[0]


def measure(effort: Effort, say: Say) -> list[Ratio]:
    """The stream's ratio, and its memory over the idle process."""
    path = image(effort.image_bytes)
    runs = []
    for _ in range(effort.repeat):
        seconds, digest = reference(path)
        streamed, summed = _streamed(path)
        if summed != digest:
            raise RuntimeError(f"the flash summed other bytes than xz gives: {streamed}")
        runs.append((seconds, streamed))
        say(
            f"stream: xz | sha256sum {seconds:.2f} s, flash {streamed['seconds']:.2f} s, {streamed['over_mib']:.0f} MiB"
        )
    memory = tuple(run[1]["over_mib"] for run in runs)
    rates = [effort.image_bytes / 1e6 / min(seconds) for seconds in _columns(runs)]
    size = f"{effort.image_bytes / 1e9:.1f} GB"
    parts: dict[str, object] = {"xz_s": [run[0] for run in runs], "flash": [run[1] for run in runs]}
    note = f"{rates[1]:.0f} MB/s over {rates[0]:.0f} MB/s"
    return [
        Ratio(
            f"flash of {size}, rate over xz -dc | sha256sum",
            tuple(run[0] / run[1]["seconds"] for run in runs),
            BOUND,
            at_least=True,
            note=note,
            parts=parts,
        ),
        Ratio(
            f"flash of {size}, peak memory over the idle process, over 64 MiB",
            tuple(mib / MEMORY_BOUND_MIB for mib in memory),
            1.0,
            note=f"{max(memory):.0f} MiB",
        ),
    ]


def _columns(runs: list[tuple[float, dict[str, float]]]) -> tuple[list[float], list[float]]:
    return [run[0] for run in runs], [run[1]["seconds"] for run in runs]


def _streamed(path: Path) -> tuple[dict[str, float], str]:
    """What a flash in a process of its own says of itself, and the sum of what it sent."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench.sender", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    said = json.loads(done.stdout)
    return said, said.pop("sha256")
