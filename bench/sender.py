"""One process that flashes one image to a sink, and says how long it took and what memory it needed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from providers.deadline import Deadline
from providers.turingpi.client import Bmc, Endpoint
from providers.turingpi.flash import flash
from providers.turingpi.image import Image, fetch


def main() -> None:
    """Measure the image, which a run does once; then flash it. Prints one JSON document."""
    image = fetch(sys.argv[1])
    with subprocess.Popen([sys.executable, "-m", "bench.sink"], stdout=subprocess.PIPE, text=True) as sink:
        if sink.stdout is None:
            raise RuntimeError("the sink has no output")
        url = sink.stdout.readline().strip()
        try:
            print(json.dumps(_flashed(url, image)))
        finally:
            sink.terminate()


def _flashed(url: str, image: Image) -> dict[str, object]:
    with Bmc.connect(Endpoint(url, "root", "turing")) as bmc:
        bmc.power()
        idle = _memory_mib("VmRSS")
        began = time.monotonic()
        done = flash(bmc, 1, image, dict, Deadline(600), booted=lambda _: "not looked at")
        seconds = time.monotonic() - began
    peak = _memory_mib("VmHWM")
    return {
        "seconds": seconds,
        "sha256": done.sha256_raw,
        "idle_mib": idle,
        "peak_mib": peak,
        "over_mib": peak - idle,
    }


def _memory_mib(kind: str) -> float:
    """The memory held now (VmRSS) or at most (VmHWM); getrusage would count what the parent held when it forked."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {kind} in /proc/self/status")


if __name__ == "__main__":
    main()
