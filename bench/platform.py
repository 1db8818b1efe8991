"""The platform against Helm run by hand: the same charts with the same values, on twins that are alike.

Ours is all that the shipped twin has on, its charts and what is around them: passwords, pools, certificates, DNS,
applications, waiting until webhooks judge and volumes can be made. By hand it is the charts alone, one
`helm upgrade --install --wait` after the other. Helm pauses in real seconds, so the program does too: devices take no
time here, and a second of a device is one.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import settings
from bench.lab import RUN_LIMIT_S, BenchLab
from bench.makespan import running
from bench.measure import Effort, Ratio, Say
from settings import Settings
from tools import paths, pins

NODES = 4
SCALE = 1.0
LIMIT = "10m"  # for each chart; the program's own limits are of that size
WAIT = ("--wait", "--timeout", LIMIT)
PREVIEW = ("--dry-run=server",)
OF_HELM = ("cache", "config", "data")


@dataclass(frozen=True)
class Release:
    """A chart as somebody installs it by hand.

    Attributes:
        name: of the release.
        namespace: where it goes.
        archive: path of the chart.
        values: what the program gives the chart.
    """

    name: str
    namespace: str
    archive: str
    values: Mapping[str, Any]

    def command(self, values: str, *more: str) -> list[str]:
        """The line to type; `values` is the file that they stand in."""
        line = ("upgrade", "--install", self.name, self.archive, "--namespace", self.namespace, "--create-namespace")
        return [str(paths.helm()), *line, "--values", values, *more]


@dataclass(frozen=True)
class Seconds:
    """What one repetition took, in seconds: ours and by hand.

    Attributes:
        up: of the `up` that adds the platform to nodes that stand.
        helm_up: of installing every chart.
        bare: of a preview before there is a platform.
        previews: of previews with it, nothing changed.
        helm_previews: of trying every chart again on the server.
    """

    up: float
    helm_up: float
    bare: float
    previews: tuple[float, ...]
    helm_previews: tuple[float, ...]


def measure(effort: Effort, say: Say) -> list[Ratio]:
    """How long ours takes over the hand's way: the platform's part of a cold `up`, and a preview. They have no bound.

    Nothing is measured where Helm could not be built.
    """
    if not paths.installed(pins.HELM_CLIENT):
        say("platform: not measured, Helm is not installed (`make tools-test` builds it)")
        return []
    return ratios([_once(effort.repeat, say) for _ in range(effort.repeat)])


def ratios(runs: Sequence[Seconds]) -> list[Ratio]:
    """The two lines of the table."""
    ups = [(run.up, run.helm_up) for run in runs]
    previews = [pair for run in runs for pair in zip(run.previews, run.helm_previews, strict=True)]
    bare = [run.bare for run in runs]
    return [
        _ratio("platform part of a cold up, over helm upgrade --install of its charts", ups, "charts alone"),
        _ratio(
            "preview with the platform on, over helm --dry-run=server of its charts",
            previews,
            f"charts alone; ours without the platform {min(bare):.1f} s",
            without_platform_s=bare,
        ),
    ]


def _ratio(name: str, pairs: list[tuple[float, float]], note: str, **more: object) -> Ratio:
    ours, helm = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    told = f"{min(ours):.1f} s, all of it, over {min(helm):.1f} s, {note}"
    return Ratio(name, tuple(a / b for a, b in pairs), note=told, parts={"ours_s": ours, "helm_s": helm, **more})


def _once(previews: int, say: Say) -> Seconds:
    with running(NODES, SCALE, instant=True) as lab:
        up, bare, ours = _ours(lab, previews)
        resources = lab.engine().resources()
    with running(NODES, SCALE, instant=True) as lab:
        lab.timed("up", "--yes")
        hand = ByHand(lab, releases(with_platform(lab)))
        installed = hand.timed(*WAIT)
        dry = tuple(hand.timed(*PREVIEW) for _ in range(previews))
    say(f"platform: up {up:.1f} s ({resources} resources), helm {installed:.1f} s ({len(hand.releases)} charts)")
    say(f"preview with the platform: {min(ours):.1f} s (without {bare:.1f} s), helm {min(dry):.1f} s")
    return Seconds(up, installed, bare, ours, dry)


def _ours(lab: BenchLab, previews: int) -> tuple[float, float, tuple[float, ...]]:
    """The seconds of the `up` that adds the platform, of a preview before it and of those after it."""
    unchanged = ("preview", "--", "--expect-no-changes")
    lab.timed("up", "--yes")
    bare = lab.timed(*unchanged)
    with_platform(lab)
    up = lab.timed("up", "--yes")
    return up, bare, tuple(lab.timed(*unchanged) for _ in range(previews))


def with_platform(lab: BenchLab) -> Settings:
    """Turn on everything that the shipped twin has on; gives the lab's settings with it."""
    lab.platform = True
    lab.settle()
    return settings.load(lab.folder / lab.settings)


def releases(wanted: Settings) -> tuple[Release, ...]:
    """What the program installs of charts, each after those that it waits for."""
    from tests.components import house  # noqa: PLC0415  # what it imports takes seconds

    asked = (args.inputs for args in house.build(wanted).values() if ":helm.sh/" in args.typ)
    return tuple(Release(item["name"], item["namespace"], item["chart"], item["values"]) for item in asked)


class ByHand:
    """Somebody at a shell who has the charts, a file of values for each, and the cluster's kubeconfig."""

    def __init__(self, lab: BenchLab, wanted: Sequence[Release]) -> None:
        self.releases = tuple(wanted)
        self._lab = lab
        self._folder = lab.folder / "helm"
        self._folder.mkdir()
        for release in self.releases:
            self._values(release).write_text(json.dumps(release.values), encoding="utf-8")

    def timed(self, *more: str) -> float:
        """The seconds of one chart after the other; each has to succeed."""
        began = time.monotonic()
        for release in self.releases:
            self._run(release.command(str(self._values(release)), *more))
        return time.monotonic() - began

    def _values(self, release: Release) -> Path:
        return self._folder / f"{release.name}.json"

    def _run(self, command: list[str]) -> None:
        own = {f"HELM_{kind.upper()}_HOME": str(self._folder / kind) for kind in OF_HELM}
        environment = {**self._lab.environment(), **own, "KUBECONFIG": str(self._lab.folder / ".homelab/kubeconfig")}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
