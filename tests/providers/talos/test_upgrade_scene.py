"""One node's upgrade over the real wire: our client against the twin's Talos, without any Kubernetes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import UpgradeError
from providers.talos.client import Talos
from providers.talos.pki import ClientCert
from providers.talos.upgrade import Node, Running, TalosDevice, Target, bring
from tests.twin.talos_scene import NotRunning, Scene
from twin import schematic
from twin.faults import Fault

RECIPE = b"overlay: {image: siderolabs/sbc-rockchip, name: turingrk1}\ncustomization: {}\n"
ID = schematic.identity(RECIPE)


class Lab:
    """A worker on the old version; `healthy` plays the Kubernetes that its readiness needs."""

    def __init__(self) -> None:
        self.scene = Scene(2, version="v1.12.11")
        folder = self.scene.lab.folder / "factory"
        folder.mkdir()
        (folder / f"{ID}.yaml").write_text(schematic.canonical(RECIPE))
        self.scene.maintenance("m1", "m2")
        self.scene.configure("m1", "controlplane")
        self.scene.configure("m2", "worker")
        self.scene.until(lambda: self.scene.stage("m2") == "running")
        self.cycled = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def device(self) -> TalosDevice:
        leaf = self.scene.cluster.admin()
        key = leaf.key.decode().replace("ED25519 PRIVATE KEY", "PRIVATE KEY")
        cert = ClientCert(self.scene.cluster.os.crt.decode(), leaf.crt.decode(), key)
        return TalosDevice(f"{self.scene.net}.12", cert, self.cycle)

    def cycle(self) -> None:
        self.cycled += 1
        machine = self.scene.machines["m2"]
        self.scene.do(machine.power_off)
        self.scene.do(machine.power_on)

    def fault(self, name: str, times: int = 1) -> None:
        self.scene.do(lambda: self.scene.lab.faults.arm(Fault(name, node="m2", times=times)))

    def healthy(self) -> None:
        self._thread = threading.Thread(target=self._play)
        self._thread.start()

    def _play(self) -> None:
        while not self._ended.wait(0.05):
            try:
                system = self.scene.system("m2")
            except NotRunning:
                continue
            if system.kubelet is not None and system.stage == "running":
                system.kubelet.ready = True

    def bring(self, patience_s: float = 60) -> Running:
        installer = f"{self.scene.net}.2:8080/metal-installer/{ID}:v1.13.9"
        target = Target("v1.13.9", ID, installer)
        node = Node("n2", f"{self.scene.net}.12", 2, self.device)
        return bring(node, target, Reporter(""), lambda _: Deadline(patience_s))

    def close(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self.scene.close()


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.002")
    made = Lab()
    yield made
    made.close()


def test_a_node_is_upgraded_and_confirmed(lab: Lab) -> None:
    lab.healthy()
    seen = lab.bring()
    assert (seen.version, seen.schematic, seen.unproved, seen.is_ready) == ("v1.13.9", ID, False, True)
    assert lab.scene.machines["m2"].disk.meta == {}
    assert lab.bring() == seen  # there already: it is only looked at
    assert lab.cycled == 0


def test_a_node_that_is_not_ready_on_its_new_version_is_rolled_back(lab: Lab) -> None:
    with pytest.raises(UpgradeError, match=r"rolled back to Talos v1\.12\.11, where it is not ready either") as caught:
        lab.bring(6)
    assert "nodeReady" in str(caught.value)
    assert [event["by"] for event in lab.scene.events("rolled_back")] == ["request"]


def test_a_kernel_that_hangs_once_is_helped_by_its_board(lab: Lab) -> None:
    lab.healthy()
    lab.fault("upgrade-never-boots")
    assert lab.bring(15).version == "v1.13.9"
    assert lab.cycled == 1


def test_a_kernel_that_never_boots_is_left_with_what_to_type(lab: Lab) -> None:
    lab.fault("upgrade-never-boots", times=99)
    with pytest.raises(UpgradeError, match=r"its other slot still holds v1\.12\.11"):
        lab.bring(6)
    assert lab.cycled == 1


@pytest.mark.parametrize("fault", ["upgrade-fails", "upgrade-reverts"])
def test_a_node_that_comes_back_as_it_was_is_no_success(lab: Lab, fault: str) -> None:
    lab.fault(fault)
    with pytest.raises(UpgradeError, match=r"came back on Talos v1\.12\.11"):
        lab.bring(6)
    assert lab.cycled == 0


@pytest.mark.parametrize("version", ["v1.12.11", "v1.13.9"])
def test_a_node_in_maintenance_mode_tells_its_version(version: str) -> None:
    scene = Scene(1, version=version)
    try:
        scene.maintenance("m1")
        with Talos.insecure(f"{scene.net}.11") as talos:
            assert talos.version().tag == version
    finally:
        scene.close()
