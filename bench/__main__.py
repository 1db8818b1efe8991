"""`python -m bench [--quick] [--only NAME ...]`: measures on twins of its own; never touches a real lab.

All of it takes about an hour on two cores, `--quick` a few minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from bench import makespan, platform, programs, report, side_by_side, stream
from bench.measure import Effort, Ratio, Say

KINDS: dict[str, tuple[Callable[[Effort, Say], list[Ratio]], str]] = {
    "stream": (stream.measure, "an image to a board, against xz | sha256sum"),
    "programs": (programs.measure, "preview and cold up without devices, against the engine's floor"),
    "makespan": (makespan.measure, "cold up on the twin, against its devices"),
    "instant": (makespan.instant, "cold up with device times at zero and real servers"),
    "script": (side_by_side.measure, "the sequential script way, against up"),
    "platform": (platform.measure, "the platform's up and preview, against Helm run by hand"),
}


def main() -> int:
    """Measure, print the table, write the results. 1 when a bound is missed, and no bound is held in a quick run."""
    wanted = _arguments()
    effort = Effort.quick() if wanted.quick else Effort()
    effort = replace(effort, repeat=wanted.repeat or effort.repeat, scale=wanted.scale or effort.scale)
    if wanted.sizes:
        effort = replace(effort, sizes=tuple(wanted.sizes))
    began, ratios = time.monotonic(), []
    for kind in wanted.only or KINDS:
        measure, what = KINDS[kind]
        _say(f"{kind}: {what}")
        ratios += measure(effort, _say)
    report.show(ratios)
    for path in report.write(ratios, name="quick" if wanted.quick else "results"):
        print(f"wrote {path}")
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    return int(not wanted.quick and any(ratio.holds is False for ratio in ratios))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="homelab bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four nodes, once; bounds are shown and not held")
    parser.add_argument("--only", nargs="+", choices=list(KINDS), help="some of the measures")
    parser.add_argument("--repeat", type=int, help="how often each ratio is taken")
    parser.add_argument("--sizes", nargs="+", type=int, help="numbers of nodes for what needs no devices")
    parser.add_argument("--scale", type=float, help="real seconds for a device second where devices shall dominate")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
