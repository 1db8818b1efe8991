"""The client and the rendered configs on the twin: its TLS, its etcd and its errors are not made by this code."""

import dataclasses
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from providers.deadline import Deadline
from providers.errors import HomelabError
from providers.talos.client import ApplyMode, HandshakeError, Mode, Talos, TalosError, probe
from providers.talos.config import NodeConfig, render, same
from providers.talos.schematic import Schematic, image_url, installer
from providers.talos.secrets import SecretsBundle, talosconfig
from tools import paths

ROOT = Path(__file__).parents[3]
# Every worker of the test run has a LAN of its own.
NET = f"127.106.{10 + int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))}"
FACTORY = f"http://{NET}.2:8080"
VERSION = "v1.13.9"
SCHEMATIC = Schematic("turingrk1", ("siderolabs/iscsi-tools",))
NODES = {f"node{slot}": f"{NET}.1{slot}" for slot in (1, 2, 3)}
FIRST = NODES["node1"]


def lab() -> dict[str, Any]:
    slots = {
        slot: {
            "name": f"m{slot}",
            "mac": mac(slot),
            "address": f"{NET}.1{slot}",
            "module": "rk1",
            "disk_bytes": 32 * 10**9,
        }
        for slot in (1, 2, 3)
    }
    board = {"address": f"{NET}.60", "port": 8443, "firmware": "v2.1.0", "username": "root", "password": "turing"}
    return {
        "name": "talosclient",
        "scale": 0.005,
        "subnet": f"{NET}.0/24",
        "factory": {"address": f"{NET}.2", "port": 8080, "image_bytes": 1 << 18},
        "talos_versions": [VERSION],
        "boards": {"board1": {**board, "slots": slots}},
    }


def mac(slot: int) -> str:
    return f"02:00:00:6a:00:{slot:02x}"


def config(name: str, **changes: Any) -> NodeConfig:
    node = NodeConfig(
        cluster="talosclient",
        name=name,
        role="controlplane",
        mac=mac(int(name[-1])),
        address=NODES[name],
        vip=f"{NET}.50",
        subnet=f"{NET}.0/24",
        talos=VERSION,
        kubernetes="v1.36.1",
        installer=installer(FACTORY, SCHEMATIC.id, VERSION),
        disk="/dev/mmcblk0",
        extensions=SCHEMATIC.extensions,
    )
    return dataclasses.replace(node, **changes)


@pytest.fixture
def twin(tmp_path):
    """A twin whose three modules are flashed and powered."""
    file, state = tmp_path / "lab.yaml", tmp_path / "twin"
    file.write_text(yaml.safe_dump(lab()))
    run = [sys.executable, "-m", "twin"]
    up = [*run, "up", "--lab", str(file), "--state", str(state), "--tools", str(paths.servers())]
    subprocess.run(up, cwd=ROOT, check=True, timeout=60)
    try:
        flash_all()
        yield state
    finally:
        subprocess.run([*run, "down", "--state", str(state)], cwd=ROOT, check=True, timeout=60)


def flash_all() -> None:
    httpx2.post(f"{FACTORY}/schematics", content=SCHEMATIC.yaml.encode()).raise_for_status()
    answer = httpx2.get(image_url(FACTORY, SCHEMATIC.id, VERSION), follow_redirects=True, timeout=30)
    raw = lzma.decompress(answer.raise_for_status().content)
    bmc = f"https://{NET}.60:8443/api/bmc"
    with httpx2.Client(auth=("root", "turing"), verify=False, timeout=30) as client:
        for slot in (0, 1, 2):
            asked = client.get(f"{bmc}?opt=set&type=flash&node={slot}&file=x&length={len(raw)}&skip_crc")
            client.post(f"{bmc}/upload/{asked.json()['handle']}", files={"file": raw}).raise_for_status()
            until(lambda: "Done" in client.get(f"{bmc}?opt=get&type=flash").json(), "flash")
        client.get(f"{bmc}?opt=set&type=power&node1=1&node2=1&node3=1").raise_for_status()


def until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until `true`, counting the project's own errors as not yet."""

    def ask() -> bool | None:
        try:
            return true() or None
        except HomelabError:
            return None

    Deadline(seconds).poll(ask, what, 0.05)


def done(act: Callable[[], None]) -> Callable[[], bool]:
    """`act` as something to wait for: true once it raises nothing."""

    def tried() -> bool:
        act()
        return True

    return tried


def modes(cert: Any) -> set[Mode]:
    with ThreadPoolExecutor() as pool:
        return set(pool.map(lambda address: probe(address, cert, 5), NODES.values()))


def code(call: Callable[[], object]) -> str:
    with pytest.raises(TalosError) as caught:
        call()
    return caught.value.code


@pytest.mark.timeout(300)
def test_from_maintenance_mode_to_a_cluster_and_back(twin, bundle, tmp_path):
    cert = bundle.issue_client()
    until(lambda: modes(cert) == {Mode.MAINTENANCE}, "maintenance mode")
    in_maintenance(cert)
    for name, address in NODES.items():
        with Talos.insecure(address) as talos:
            talos.apply_configuration(render(config(name), bundle))
    until(lambda: modes(cert) == {Mode.OURS}, "configured nodes")
    configured_and_strangers(bundle)
    with Talos.secure(FIRST, cert) as talos:
        bootstrapped(talos)
        read_back(talos, bundle, tmp_path)
        changed(talos, bundle)
        talosctl_agrees(bundle, tmp_path)
        rebooted(talos)
    left_and_reset(cert)


def in_maintenance(cert: Any) -> None:
    with Talos.insecure(FIRST) as talos:
        assert [disk.device for disk in talos.disks()] == ["/dev/mmcblk0"]
        assert talos.machine_stage().name == "maintenance"
        assert code(talos.bootstrap) in ("UNIMPLEMENTED", "PERMISSION_DENIED")  # 4b.17
        assert code(lambda: talos.apply_configuration("a: [")) in ("UNKNOWN", "INVALID_ARGUMENT")
    with Talos.secure(FIRST, cert) as talos, pytest.raises(HandshakeError, match="maintenance"):
        talos.version()


def configured_and_strangers(bundle: SecretsBundle) -> None:
    """4b.16."""
    stranger = SecretsBundle.generate().issue_client()
    assert probe(FIRST, stranger) is Mode.FOREIGN
    assert probe(FIRST) is Mode.FOREIGN
    with Talos.insecure(FIRST) as talos, pytest.raises(HomelabError):
        talos.version(timeout_s=3)
    with Talos.secure(FIRST, bundle.issue_client(["os:reader"], timedelta(hours=1))) as talos:
        assert talos.version().tag == VERSION
        assert code(talos.reboot) == "PERMISSION_DENIED"


def bootstrapped(talos: Talos) -> None:
    """4b.14: the second time says that it has been done."""

    until(done(talos.bootstrap), "bootstrap")
    assert code(talos.bootstrap) == "ALREADY_EXISTS"
    until(lambda: len([m for m in talos.etcd_members() if not m.learner]) == 3, "three members")
    until(lambda: config("node1").vip in talos.addresses() or vip_elsewhere(talos), "the VIP")


def vip_elsewhere(talos: Talos) -> bool:
    return talos.etcd_status().leader != talos.etcd_status().member_id


def read_back(talos: Talos, bundle: SecretsBundle, tmp_path: Path) -> None:
    assert talos.hostname() == "node1"
    assert talos.schematic() == SCHEMATIC.id
    assert talos.services()["etcd"].state == "Running"
    live = talos.machine_config()
    assert same(live, render(config("node1"), bundle))
    assert SecretsBundle.from_machine_config(live) == bundle
    size = talos.etcd_snapshot(tmp_path / "snapshot")
    assert (tmp_path / "snapshot").stat().st_size == size > 20_000


def changed(talos: Talos, bundle: SecretsBundle) -> None:
    live = render(config("node1", labels={"zone": "cellar"}), bundle)
    assert talos.apply_configuration(live, ApplyMode.NO_REBOOT).mode is ApplyMode.NO_REBOOT
    heavy = render(config("node1", patches=[{"machine": {"env": {"a": "b"}}}]), bundle)
    with pytest.raises(TalosError) as caught:
        talos.apply_configuration(heavy, ApplyMode.NO_REBOOT)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "\n" not in str(caught.value)
    assert talos.apply_configuration(heavy, dry_run=True).mode is ApplyMode.REBOOT
    assert talos.apply_configuration(heavy, ApplyMode.STAGED).mode is ApplyMode.STAGED


def talosctl_agrees(bundle: SecretsBundle, tmp_path: Path) -> None:
    """Talos' own client takes our talosconfig, and sees what we see."""
    file = tmp_path / "talosconfig"
    file.write_text(talosconfig("talosclient", bundle.issue_client(), [FIRST], [FIRST]))
    command = [str(paths.talosctl()), "--talosconfig", str(file), "etcd", "members"]
    seen = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert all(name in seen.stdout for name in NODES)


def rebooted(talos: Talos) -> None:
    """4b.18: the same client goes on after the connection has died with the old boot."""
    before = talos.boot_id()
    talos.reboot()
    until(lambda: talos.boot_id(timeout_s=2) != before, "another boot id")
    until(lambda: len(talos.etcd_members(timeout_s=2)) == 3, "etcd after the reboot")


def left_and_reset(cert: Any) -> None:
    with Talos.secure(NODES["node3"], cert) as talos:
        talos.etcd_forfeit_leadership()
        # etcd refuses changes until all members have been connected for 5 s.
        until(done(talos.etcd_leave), "leaving etcd")
        talos.reset(graceful=False, reboot=True)
    until(lambda: probe(NODES["node3"], cert) is Mode.MAINTENANCE, "maintenance mode after the reset")
    with Talos.secure(FIRST, cert) as talos:
        assert {member.hostname for member in talos.etcd_members()} == {"node1", "node2"}
