"""Several nodes on their way to another version at once: our client, our order, and the twin's Talos.

Kubernetes is played: what the cluster around a node lacks is a list of words here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest

from providers.engine import Reporter
from providers.errors import RefusedError, UpgradeError
from providers.talos import versions
from providers.talos.client import ApplyMode, Talos
from providers.talos.pki import ClientCert
from providers.talos.rollout import Rollout
from providers.talos.versions import Job, carry_out
from tests.twin.talos_scene import NotRunning, Scene
from twin import schematic
from twin.faults import Fault

RECIPE = b"overlay: {image: siderolabs/sbc-rockchip, name: turingrk1}\ncustomization: {}\n"
ID = schematic.identity(RECIPE)
WORKERS = ("m2", "m3", "m4")


@dataclass
class Around:
    """The cluster around a node, always whole; what was asked of it is kept."""

    node: str
    log: list[tuple[str, str]]

    def before(self, busy: Callable[[], Collection[str]] = lambda: ()) -> None:
        self.log.append(("before", self.node))

    def after(self, boot: str) -> None:
        self.log.append(("after", self.node))


@dataclass(frozen=True)
class Worker(Job):
    """A job whose cluster is played."""

    log: list[tuple[str, str]] = field(default_factory=list)

    @property
    def around(self) -> Any:
        return Around(self.node, self.log)


class Lab:
    """Workers on the old version, next to a control plane that only issues their certificates."""

    def __init__(self) -> None:
        self.scene = Scene(4, version="v1.12.11")
        folder = self.scene.lab.folder / "factory"
        folder.mkdir()
        (folder / f"{ID}.yaml").write_text(schematic.canonical(RECIPE))
        self.scene.maintenance("m1", *WORKERS)
        self.scene.configure("m1", "controlplane")
        for name in WORKERS:
            self.scene.configure(name, "worker")
        self.scene.until(lambda: all(self.scene.stage(name) == "running" for name in WORKERS))
        leaf = self.scene.cluster.admin()
        key = leaf.key.decode().replace("ED25519 PRIVATE KEY", "PRIVATE KEY")
        self.cert = ClientCert(self.scene.cluster.os.crt.decode(), leaf.crt.decode(), key)
        self.log: list[tuple[str, str]] = []
        self._ended = threading.Event()
        self._kubernetes = threading.Thread(target=self._play)
        self._kubernetes.start()

    def _play(self) -> None:
        """Kubelets are Ready by themselves."""
        while not self._ended.wait(0.05):
            for name in WORKERS:
                try:
                    system = self.scene.system(name)
                except NotRunning:
                    continue
                if system.kubelet is not None and system.stage == "running":
                    system.kubelet.ready = True

    def address(self, name: str) -> str:
        return f"{self.scene.net}.{10 + int(name[1:])}"

    def job(self, name: str, width: int = 1) -> Job:
        installer = f"{self.scene.net}.2:8080/metal-installer/{ID}:v1.13.9"
        spec = {"cluster": "c", "talos": "v1.13.9", "installer": installer, "role": "worker"}
        props = {
            "node": name, "address": self.address(name), "spec": spec, "schematic": ID, "rank": int(name[1:]),
            "control_planes": {"m1": self.address("m1")}, "max_unavailable": width, "allow_reboot": False,
        }  # fmt: skip
        old = "factory.talos.dev/metal-installer/x:v1.13.9"
        return Worker(
            props=props,
            cert=self.cert,
            report=Reporter(""),
            render=lambda live: live.replace(old, installer),
            change=lambda wished: self.apply(name, wished),
            alone=nullcontext,
            cycle=lambda: None,
            log=self.log,
        )

    def apply(self, name: str, config: str) -> None:
        self.log.append(("config", name))
        with Talos.secure(self.address(name), self.cert) as talos:
            talos.apply_configuration(config, ApplyMode.NO_REBOOT)

    def roll_out(self, *names: str, width: int = 1) -> dict[str, Future[None]]:
        """One run of the engine: all nodes' updates at once."""
        run = Rollout(gather_s=0.5)

        def update(name: str) -> None:
            with run.joined(name) as place:
                carry_out(self.job(name, width), place)

        with ThreadPoolExecutor(len(names)) as pool:
            return {name: pool.submit(update, name) for name in names}

    def order(self, kind: str) -> list[str]:
        return [event["node"] for event in self.scene.events(kind)]

    def close(self) -> None:
        self._ended.set()
        self._kubernetes.join()
        self.scene.close()


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.002")
    made = Lab()
    yield made
    made.close()


def errors(futures: dict[str, Future[None]]) -> dict[str, BaseException | None]:
    return {name: future.exception() for name, future in futures.items()}


def test_one_after_the_other_each_whole_before_the_next_and_a_second_run_does_nothing(lab: Lab) -> None:
    assert set(errors(lab.roll_out(*reversed(WORKERS))).values()) == {None}
    assert lab.order("upgrade_asked") == list(WORKERS)
    assert lab.order("upgrade_proved") == list(WORKERS)
    assert lab.log == [(what, name) for name in WORKERS for what in ("before", "after", "config")]
    boots = len(lab.scene.events("boot_started"))
    assert set(errors(lab.roll_out(*WORKERS)).values()) == {None}
    assert len(lab.scene.events("boot_started")) == boots
    assert len(lab.log) == 9
    for name in WORKERS:
        assert versions.differs(lab.job(name).props, lab.cert) == ""


def test_the_first_failure_leaves_the_others_untouched_and_the_next_run_goes_on(lab: Lab) -> None:
    lab.scene.do(lambda: lab.scene.lab.faults.arm(Fault("upgrade-fails", node="m3")))
    found = errors(lab.roll_out(*WORKERS))
    assert found["m2"] is None
    assert isinstance(found["m3"], UpgradeError)
    assert isinstance(found["m4"], RefusedError)
    assert str(found["m4"]).startswith("m4: not begun: m3's upgrade failed")
    assert lab.order("upgrade_asked") == ["m2", "m3"]
    assert versions.differs(lab.job("m4").props, lab.cert) == "runs Talos v1.12.11, not v1.13.9"
    assert set(errors(lab.roll_out("m3", "m4")).values()) == {None}
    assert lab.order("upgrade_asked") == ["m2", "m3", "m3", "m4"]


def test_a_run_for_one_node_touches_that_one(lab: Lab) -> None:
    assert errors(lab.roll_out("m4")) == {"m4": None}
    assert lab.order("upgrade_asked") == ["m4"]


def test_as_many_at_once_as_the_settings_say(lab: Lab) -> None:
    assert set(errors(lab.roll_out(*WORKERS, width=2)).values()) == {None}
    kinds = ("upgrade_asked", "upgrade_proved")
    events = sorted((e for kind in kinds for e in lab.scene.events(kind)), key=lambda e: e["mono"])
    away, most = 0, 0
    for event in events:
        away += 1 if event["kind"] == "upgrade_asked" else -1
        most = max(most, away)
    assert most == 2
