"""`up` against the sequential script way, each on a twin of its own with the same devices."""

from __future__ import annotations

import subprocess
import sys
import time

from bench.lab import RUN_LIMIT_S, BenchLab
from bench.makespan import running
from bench.measure import Effort, Ratio, Say
from tools.pins import ROOT

BOUND = 3.0


def measure(effort: Effort, say: Say) -> list[Ratio]:
    """How many times faster `up` is, in the biggest lab."""
    nodes, repeat = max(effort.labs), min(effort.repeat, 2)
    runs = []
    for _ in range(repeat):
        with running(nodes, effort.scale) as lab:
            ours = lab.timed("up", "--yes")
        with running(nodes, effort.scale) as lab:
            script = _script(lab)
        say(f"{nodes} nodes on {lab.boards} boards: up {ours:.1f} s, script {script:.1f} s")
        runs.append((ours, script))
    note = f"{min(run[0] for run in runs):.0f} s against {min(run[1] for run in runs):.0f} s"
    parts: dict[str, object] = {"up_s": [run[0] for run in runs], "script_s": [run[1] for run in runs]}
    name = f"the script way over up, {nodes} nodes on {-(-nodes // 4)} boards"
    bound = BOUND if nodes > 4 else None  # one board flashes one after the other, whoever asks
    return [Ratio(name, tuple(b / a for a, b in runs), bound, at_least=True, note=note, parts=parts)]


def _script(lab: BenchLab) -> float:
    environment = {**lab.environment(), "HOMELAB_TIME_SCALE": str(lab.scale)}
    environment["PYTHONPATH"] = f"{lab.folder}:{ROOT}"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "bench.script_way", lab.settings, lab.board_password],
        cwd=lab.folder, env=environment, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-4000:])
    return time.monotonic() - began
