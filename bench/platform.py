"""The platform against Helm run by hand: the same charts with the same values, on twins that are alike.

Ours is all that the shipped twin has on, its charts and what is around them: passwords, certificates, DNS,
applications, waiting until webhooks judge and volumes can be made. It is what a cold `up` takes after its last node is
Ready. By hand it is one `helm upgrade --install --wait` after the other on nodes that stand, and MetalLB's pools,
without which Traefik's would wait for ever. Helm pauses in real seconds, so the program does too: devices take no time
here, and a second of a device is one.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import settings
from bench.bound import Log
from bench.lab import RUN_LIMIT_S as LIMIT_S
from bench.lab import BenchLab
from bench.makespan import running
from bench.measure import Effort, Ratio, Say
from providers.kubernetes.client import Kube
from settings import Settings
from tools import paths, pins

NODES = 4
SCALE = 1.0
INSTALL = ("--wait", "--timeout", "10m")
PREVIEW = ("--dry-run=server",)
UNCHANGED = ("preview", "--", "--expect-no-changes")


@dataclass(frozen=True)
class Release:
    """A chart as somebody installs it by hand.

    Attributes:
        name: of the release.
        namespace: where it goes.
        archive: path of the chart.
        values: what the program gives the chart.
        objects: what has to be applied after it, for later charts to become ready.
    """

    name: str
    namespace: str
    archive: str
    values: Mapping[str, Any]
    objects: tuple[Mapping[str, Any], ...] = ()

    def command(self, values: str, *more: str) -> list[str]:
        """The line to type; `values` is the file that they stand in."""
        line = ("upgrade", "--install", self.name, self.archive, "--namespace", self.namespace, "--create-namespace")
        return [str(paths.helm()), *line, "--values", values, *more]


@dataclass(frozen=True)
class Seconds:
    """What one repetition took, in seconds: ours and by hand.

    Attributes:
        up: of a cold `up` after its last node is Ready.
        helm_up: of installing every chart.
        bare: of a preview of the nodes alone.
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
    alone = f"charts alone; ours without the platform {min(bare):.1f} s"
    return [
        _ratio("platform part of a cold up, over helm upgrade --install of its charts", ups, "charts alone"),
        _ratio("preview with the platform on, over helm --dry-run=server of its charts", previews, alone, bare_s=bare),
    ]


def _ratio(name: str, pairs: list[tuple[float, float]], note: str, **more: object) -> Ratio:
    ours, helm = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    told = f"{min(ours):.1f} s, all of it, over {min(helm):.1f} s, {note}"
    return Ratio(name, tuple(a / b for a, b in pairs), note=told, parts={"ours_s": ours, "helm_s": helm, **more})


def _once(previews: int, say: Say) -> Seconds:
    with running(NODES, SCALE, instant=True) as lab:
        up, ours = _ours(lab, previews)
        resources = lab.engine().resources()
    with running(NODES, SCALE, instant=True) as lab:
        lab.timed("up", "--yes")
        bare = lab.timed(*UNCHANGED)
        hand = ByHand(lab, releases(with_platform(lab)))
        installed = hand.install()
        tried = tuple(hand.preview() for _ in range(previews))
    say(f"platform: up {up:.1f} s ({resources} resources), helm {installed:.1f} s ({len(hand.releases)} charts)")
    say(f"preview with the platform: {min(ours):.1f} s (without {bare:.1f} s), helm {min(tried):.1f} s")
    return Seconds(up, installed, bare, ours, tried)


def _ours(lab: BenchLab, previews: int) -> tuple[float, tuple[float, ...]]:
    """The seconds of the platform's part of a cold `up`, and of previews after it."""
    with_platform(lab)
    lab.timed("up", "--yes")
    ended, log = time.monotonic(), Log(lab.events())  # the twin's clock is the same
    ready = max(log.at("node_ready", node) for node in log.nodes)
    return ended - ready, tuple(lab.timed(*UNCHANGED) for _ in range(previews))


def with_platform(lab: BenchLab) -> Settings:
    """Turn on everything that the shipped twin has on; gives the lab's settings with it."""
    lab.platform = True
    lab.settle()
    return settings.load(lab.folder / lab.settings)


def releases(wanted: Settings) -> tuple[Release, ...]:
    """What the program installs of charts, each after those that it waits for."""
    from tests.components import house  # noqa: PLC0415  # what it imports takes seconds

    made = house.build(wanted)
    pools = tuple(item for item in house.objects(made) if item["apiVersion"].startswith("metallb.io/"))
    charts = (args.inputs for args in made.values() if ":helm.sh/" in args.typ)
    found = (Release(chart["name"], chart["namespace"], chart["chart"], chart["values"]) for chart in charts)
    return tuple(replace(release, objects=pools) if release.name == "metallb" else release for release in found)


class ByHand:
    """Somebody at a shell who has the charts, a file of values for each, and the cluster's kubeconfig."""

    def __init__(self, lab: BenchLab, wanted: Sequence[Release]) -> None:
        self.releases = tuple(wanted)
        self._lab = lab
        self._folder = lab.folder / "helm"
        self._kubeconfig = lab.folder / ".homelab" / "kubeconfig"
        self._folder.mkdir(exist_ok=True)
        for release in self.releases:
            self._values(release).write_text(json.dumps(release.values), encoding="utf-8")

    def install(self) -> float:
        """The seconds of one chart after the other; each has to succeed."""
        began = time.monotonic()
        for release in self.releases:
            self._run(release, *INSTALL)
            self._apply(release.objects)
        return time.monotonic() - began

    def preview(self) -> float:
        """The seconds of trying them all on the server, without a change."""
        began = time.monotonic()
        for release in self.releases:
            self._run(release, *PREVIEW)
        return time.monotonic() - began

    def _values(self, release: Release) -> Path:
        return self._folder / f"{release.name}.json"

    def _apply(self, objects: Sequence[Mapping[str, Any]]) -> None:
        if objects:
            with Kube(self._kubeconfig.read_text(encoding="utf-8")) as kube:
                for item in objects:
                    kube.apply(_path(item), item, "bench")

    def _run(self, release: Release, *more: str) -> None:
        own = {f"HELM_{kind}_HOME": str(self._folder / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        environment = {**self._lab.environment(), **own, "KUBECONFIG": str(self._kubeconfig)}
        command = release.command(str(self._values(release)), *more)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def _path(item: Mapping[str, Any]) -> str:
    """Where the API has an object of a namespace."""
    namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
    return f"/apis/{item['apiVersion']}/namespaces/{namespace}/{item['kind'].lower()}s/{name}"
