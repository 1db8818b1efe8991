"""The Talos API's authority exchanged on simulated nodes, by the program's client: proven, cut off, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from providers import pace
from providers.deadline import Deadline
from providers.errors import DeadlineError, HomelabError, RefusedError
from providers.talos import identity, rotate_check, rotate_live
from providers.talos.client import ApplyMode, Mode, Talos, probe
from providers.talos.config import same
from providers.talos.pki import NOTHING, ClientCert
from providers.talos.rotate_check import Client, clients, prove_talos
from providers.talos.rotation import NONE, Rotation, advance
from providers.talos.secrets import SecretsBundle, talosconfig
from providers.talos.wire import admin
from tests.providers.talos.rotating import QUIET, Lab
from tests.twin.talos_scene import Scene

ROLES = {"m1": "controlplane", "m2": "controlplane", "m3": "worker"}


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.002")
    monkeypatch.setattr(rotate_check, "PROVEN_S", 30.0)
    scene = Scene(3)
    try:
        yield Lab(scene, ROLES)
    finally:
        scene.close()


class Connected:
    """A client with a certificate of its own who asks again and again; `longest_s` is its longest time without."""

    def __init__(self, address: str, cert: ClientCert) -> None:
        self._address, self._cert = address, cert
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.longest_s, self.answers = 0.0, 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(30)

    def _ask(self) -> None:
        last = time.monotonic()
        while not self._stop.is_set():
            try:
                with Talos.secure(self._address, self._cert) as talos:
                    talos.version(timeout_s=5)
            except HomelabError:
                continue
            now = time.monotonic()
            self.longest_s, last, self.answers = max(self.longest_s, now - last), now, self.answers + 1


def test_every_step_is_proven_and_the_old_client_ends_up_outside(lab: Lab) -> None:
    said = []
    for number in (1, 2, 3):
        lab.step(number)
        lab.give_all()
        said.append(lab.prove())
    where = "the Talos API of 3 nodes"
    assert said == [
        [f"the present client: let in by {where}", f"the new client: let in by {where}"],
        [f"the new client: let in by {where}", f"the old client: let in by {where}"],
        [f"the new client: let in by {where}", f"the old client: turned away by {where}"],
    ]


def test_nobody_who_follows_loses_the_api(lab: Lab) -> None:
    """Old credentials until the last step, those of the second step from then on: none is ever turned away."""
    boots = [machine.boot_id for machine in lab.scene.machines.values()]
    old = lab.bundle.issue_client()
    lab.step(1)
    lab.give_all()
    accepting = lab.bundle.issue_client()
    with Connected(lab.addresses["m1"], accepting) as first, Connected(lab.addresses["m3"], accepting) as second:
        lab.step(2)
        lab.give_all()
        both = lab.bundle.issue_client()
    assert min(first.answers, second.answers) > 0
    assert max(first.longest_s, second.longest_s) < 2
    with Connected(lab.addresses["m3"], both) as third:
        lab.step(3)
        lab.give_all()
        time.sleep(0.2)
    assert third.longest_s < 2
    assert probe(lab.addresses["m1"], old) is Mode.FOREIGN
    assert [machine.boot_id for machine in lab.scene.machines.values()] == boots


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("reached", [["m1"], ["m1", "m2"]], ids=len)
def test_a_run_that_was_killed_after_some_nodes_is_finished(lab: Lab, number: int, reached: list[str]) -> None:
    for before in range(1, number):
        lab.step(before)
        lab.give_all()
    lab.step(number)
    for name in reached:
        lab.give(name)
    assert lab.modes() == {Mode.OURS}
    lab.give_all()
    lab.prove()


def test_a_worker_waits_for_the_control_planes(lab: Lab) -> None:
    lab.step(1)
    lab.give_all()
    lab.step(2)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lab.give, "m3")
        time.sleep(0.5)
        assert not waiting.done()
        lab.give("m1")
        lab.give("m2")
        waiting.result(30)
    new = ClientCert(lab.bundle.os.signing, "", "")
    assert probe(lab.addresses["m3"], new) is Mode.OURS


def test_a_worker_whose_control_planes_do_not_follow_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.step(1)
    lab.give_all()
    lab.step(2)
    monkeypatch.setattr(pace, "limit", lambda _: 0.5)
    with pytest.raises(DeadlineError, match=r"m1 \(.*\): Talos API with its new certificate"):
        lab.give("m3")
    with Talos.secure(lab.addresses["m3"], admin(lab.bundle.os)) as talos:
        assert not same(talos.machine_config(), lab.config("m3"))


def test_a_node_that_was_left_out_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.step(1)
    lab.give("m1")
    monkeypatch.setattr(pace, "limit", lambda _: 1.0)
    with pytest.raises(DeadlineError, match=r"m2 \(.*\): the new client is let in"):
        lab.prove()


def test_an_old_client_that_is_still_let_in_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "limit", lambda _: 1.0)
    still = Client("the old client", lab.bundle.os, lab.bundle.os.crt, let_in=False)
    with pytest.raises(RefusedError, match="the old client is turned away"):
        prove_talos(lab.nodes, [still], lambda _: None)


def test_without_the_old_key_nobody_can_be_sent_to_be_turned_away(lab: Lab) -> None:
    for number in (1, 2, 3):
        lab.step(number)
        lab.give_all()
    lab.rotation = Rotation("os-ca", 3, NOTHING, NOTHING)
    assert lab.prove() == ["the new client: let in by the Talos API of 3 nodes"]


def reboot_into(lab: Lab, name: str) -> None:
    """What a Machine does with a change that needs a reboot."""
    cert, address = admin(lab.bundle.os), lab.addresses[name]
    with Talos.secure(address, cert) as talos:
        live, before = talos.machine_config(), talos.boot_id()
    with rotate_live.in_turn(lab.props(name), live, lab.config(name), cert, QUIET):
        with Talos.secure(address, cert) as talos:
            talos.apply_configuration(lab.config(name), ApplyMode.REBOOT)

        def back() -> bool | None:
            try:
                with Talos.secure(address, cert) as talos:
                    return talos.boot_id(timeout_s=2) != before or None
            except HomelabError:
                return None

        Deadline(30).poll(back, name, 0.05)


def test_a_worker_reboots_into_a_new_token_after_the_control_planes(lab: Lab) -> None:
    lab.step(1, "bootstrap-tokens")
    lab.step(2, "bootstrap-tokens")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reboot_into, lab, "m3")
        time.sleep(0.5)
        assert not waiting.done()
        reboot_into(lab, "m1")
        reboot_into(lab, "m2")
        waiting.result(60)
    assert lab.modes() == {Mode.OURS}


def test_a_talosconfig_from_before_a_rotation_is_not_another_clusters(lab: Lab, tmp_path: Path) -> None:
    """Such as the one on a machine that did not run the rotation."""
    path = tmp_path / "talosconfig"
    path.write_text(talosconfig("test", lab.bundle.issue_client(), list(lab.addresses.values())))
    house = identity.Lab("test", lab.nodes.control_planes, lab.nodes.workers, path)
    stranger = SecretsBundle.generate()
    assert identity.given_another(house, stranger)
    for number in (1, 2, 3):
        lab.step(number)
        lab.give_all()
    assert identity.other_cluster(path, lab.bundle)
    assert not identity.given_another(house, lab.bundle)


def test_a_snapshot_of_keys_needs_no_node() -> None:
    bundle = SecretsBundle.generate()
    made, state = advance(bundle, NONE, "os-ca:1")
    found: list[Any] = clients("os", made, state)
    assert [client.who for client in found] == ["the present client", "the new client"]
