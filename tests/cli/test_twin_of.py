"""A twin of a real lab: its settings load, its hardware fits them, and no secret of the real one is in either."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import settings
import twin.lab
from cli import twin_of
from cli.passphrase import opens
from cli.stacks import Stack
from cli.twin_of_notes import read
from cli.twin_of_secrets import _key, salt, sealed, stand_in
from cli.twin_of_settings import Translation
from providers.errors import RefusedError, UserError
from settings import SettingsError, secrets, yamlfile
from tests.engine.sandbox import ROOT, Sandbox
from tools import paths

VALID = {path.stem: path for path in sorted((ROOT / "tests" / "settings" / "valid").glob("*.yaml"))}
BARE = VALID.pop("hosts-alone")  # a lab without boards, which a twin has nothing of
REAL = {"shipped": ROOT / "Pulumi.homelab.yaml", **VALID}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project's folder, as far as a twin is made of it."""
    (tmp_path / "twin" / "labs").mkdir(parents=True)
    shutil.copy(ROOT / "twin" / "labs" / "four.yaml", tmp_path / "twin" / "labs")
    shutil.copytree(ROOT / "twin" / "charts", tmp_path / "twin" / "charts")
    return tmp_path


def real(root: Path, text: str, name: str = "homelab") -> Stack:
    stack = Stack(name, root)
    stack.settings_file.write_text(text, encoding="utf-8")
    return stack


def written(root: Path, text: str) -> Stack:
    return twin_of.save(twin_of.of(real(root, text)), root)


def shipped() -> str:
    return REAL["shipped"].read_text(encoding="utf-8")


def platform() -> str:
    return REAL["platform"].read_text(encoding="utf-8")


def raw(stack: Stack) -> Any:
    return yamlfile.parse(stack.settings_file.read_text(encoding="utf-8")).data


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in [value["secure"]] if secrets.is_secure(value) else value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("name", REAL)
def test_the_twins_settings_load_and_its_hardware_is_what_they_speak_of(root: Path, name: str) -> None:
    stack = written(root, REAL[name].read_text(encoding="utf-8"))
    made, hardware = settings.load(stack.settings_file), twin.lab.load(stack.lab_file)
    boards = {board: (urlsplit(one.url).hostname, urlsplit(one.url).port) for board, one in made.boards.items()}
    assert boards == {board: (str(one.address), one.port) for board, one in hardware.boards.items()}
    nodes = {(n.board, n.slot): (n.address, n.mac, n.module.value) for n in made.nodes.values()}
    assert nodes == {(b, slot): (m.address, m.mac, m.module) for b, slot, m in hardware.machines}
    assert made.cluster.talos.factory == f"http://{hardware.factory.address}:{hardware.factory.port}"
    assert made.platform.charts.mirror == f"{made.cluster.talos.factory}/charts"
    assert made.cluster.network.subnet == hardware.subnet
    assert made.cluster.talos.version in hardware.talos_versions
    assert stack.is_twin


@pytest.mark.parametrize("name", REAL)
def test_a_twin_is_the_same_lab(root: Path, name: str) -> None:
    """What a change of the real settings would be is a change of the twin's."""
    before = settings.load(REAL[name])
    after = settings.load(written(root, REAL[name].read_text(encoding="utf-8")).settings_file)
    assert list(after.nodes) == list(before.nodes)
    for node in before.nodes.values():
        found = after.nodes[node.name]
        assert (found.role, found.machine, found.module, found.disabled, found.labels, found.taints) == (
            node.role, node.machine, node.module, node.disabled, node.labels, node.taints,
        )  # fmt: skip
        assert found.generation == max(1, node.generation)
    assert [p for p in settings.platform.PARTS if after.platform.on(p)] == [
        p for p in settings.platform.PARTS if before.platform.on(p)
    ]
    assert after.platform.hosts == before.platform.hosts
    assert after.cluster.cni == before.cluster.cni
    assert after.cluster.talos.version == before.cluster.talos.version
    assert after.cluster.network.subnet.prefixlen == before.cluster.network.subnet.prefixlen


@pytest.mark.parametrize("name", REAL)
def test_only_loopback_addresses_are_left_of_the_lan(root: Path, name: str) -> None:
    lan = settings.load(REAL[name]).cluster.network.subnet
    stack = written(root, REAL[name].read_text(encoding="utf-8"))
    for text in (*leaves(raw(stack)), *leaves(yaml.safe_load(stack.lab_file.read_text(encoding="utf-8")))):
        for found in re.findall(r"(?<![\d.])\d+\.\d+\.\d+\.\d+(?![\d.])", text):
            assert found.startswith("127.") or IPv4Network(found).network_address not in lan


@pytest.mark.parametrize("name", REAL)
def test_no_secret_of_the_real_lab_is_in_it_and_every_other_one_opens(root: Path, name: str) -> None:
    stack = written(root, REAL[name].read_text(encoding="utf-8"))
    real_ones = {text for text in leaves(raw(Stack("homelab", root))) if text.startswith("v1:")}
    document = raw(stack)
    sealed_ones = [text for text in leaves(document["config"]) if text.startswith("v1:")]
    assert len(sealed_ones) >= len(document["config"]["homelab:boards"])
    assert not real_ones & {document["encryptionsalt"], *sealed_ones}
    for one in sealed_ones:
        assert opened(one)
    assert opens(paths.TWIN_PASSPHRASE, document["encryptionsalt"])
    assert list(secrets.in_plain({k.removeprefix("homelab:"): v for k, v in document["config"].items()})) == []


def test_it_is_sealed_as_the_engine_does_it() -> None:
    """What the engine itself had sealed for the shipped twin opens the same way."""
    shipped_twin = yaml.safe_load((ROOT / "Pulumi.twin.yaml").read_text(encoding="utf-8"))
    key = _key(base64.b64decode(shipped_twin["encryptionsalt"].split(":")[1]))
    board = shipped_twin["config"]["homelab:boards"]["board1"]
    assert opened(board["password"]["secure"], key) == "opens-this-board"


def opened(text: str, key: bytes | None = None) -> str:
    _, nonce, hidden = text.split(":")
    return AESGCM(key or _key()).decrypt(base64.b64decode(nonce), base64.b64decode(hidden), None).decode()


def test_the_same_settings_are_the_same_twin(root: Path) -> None:
    """Its state opens with the salt that its settings had when they were written first."""
    first = twin_of.of(real(root, platform()))
    assert twin_of.of(real(root, platform())) == first
    assert f'encryptionsalt: "{salt()}"' in first.settings


def test_a_changed_secret_is_another_one_on_the_twin(root: Path) -> None:
    before = written(root, platform()).settings_file.read_text(encoding="utf-8")
    after = written(root, platform().replace("v1:AAAA:1111", "v1:AAAA:9999")).settings_file.read_text(encoding="utf-8")
    changed = [line for line in after.splitlines() if line not in before.splitlines()]
    assert len(changed) == 1
    assert opened(re.findall(r'"(v1:.*)"', changed[0])[0]) == stand_in("v1:AAAA:9999")


def test_stand_ins_pass_for_what_they_stand_for() -> None:
    assert len(base64.b64decode(stand_in("v1:a:b"))) == 32  # as a WireGuard key is
    assert opened(sealed("a")["secure"]) == "a"
    assert sealed("a") == sealed("a") != sealed("b")


@pytest.mark.parametrize(
    ("lan", "text", "wanted"),
    [
        ("192.168.1.0/24", "192.168.1.60", "127.11.0.60"),
        ("192.168.1.0/24", "192.168.1.200-192.168.1.250", "127.11.0.200-127.11.0.250"),
        ("192.168.1.0/24", "192.168.1.0/24", "127.11.0.0/24"),
        ("192.168.1.0/24", "nfs://192.168.1.10:/export", "nfs://127.11.0.10:/export"),
        ("192.168.1.0/24", "http://192.168.1.10:8123/a?b=192.168.1.11", "http://127.11.0.10:8123/a?b=127.11.0.11"),
        ("192.168.1.0/24", "at 192.168.1.10, and 192.168.2.10.", "at 127.11.0.10, and 192.168.2.10."),
        ("192.168.1.0/24", "v1.192.168.1.10 1.2.3.4.5 999.1.1.1", "v1.192.168.1.10 1.2.3.4.5 999.1.1.1"),
        ("10.0.0.0/22", "10.0.3.255", "127.11.3.255"),
        ("172.16.0.0/16", "172.16.7.8", "127.11.7.8"),
        ("10.0.0.0/8", "10.20.30.40", "127.20.30.40"),
    ],
)
def test_addresses_of_the_lan_are_moved_wherever_they_stand(lan: str, text: str, wanted: str) -> None:
    assert Translation(IPv4Network(lan), {}).moved(text) == wanted


def test_a_lan_that_loopback_has_no_room_for() -> None:
    with pytest.raises(UserError, match="too large for a twin"):
        Translation(IPv4Network("8.0.0.0/6"), {}).moved("8.0.0.1")


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("platform: {x}", "platform: {metallb: {version: 9.9.9}}", "platform.metallb.version: chart 9.9.9; a twin has"),
        (
            "endpoint: {x}",
            "endpoint: {vip: 192.168.1.70, dns: k8s.home.arpa}",
            "cluster.endpoint.dns: k8s.home.arpa; nobody",
        ),
        ("endpoint: {x}", "endpoint: {vip: 192.168.1.70, port: 443}", "cluster.endpoint.port: 443; a port below 1024"),
        (
            "talos: {x}",
            "talos: {version: v1.13.9, image: a.raw}",
            "cluster.talos.image: a.raw; a twin installs its own",
        ),
        (
            "install: {x}",
            "install: {disk: /dev/nvme0n1}",
            'nodes.node1.install: {"disk": "/dev/nvme0n1"}; the simulated',
        ),
        (
            "  homelab:platform: {x}",
            "  homelab:cards: {pi1: {serial: '1', max_gb: 64, image: a.raw, kind: talos}}\n  homelab:platform: {x}",
            "cards: a twin writes no disk of this machine",
        ),
        (
            "  homelab:platform: {x}",
            "  homelab:boot_service: {address: 192.168.1.74, folder: /srv/netboot}\n  homelab:platform: {x}",
            "boot_service: nothing boots from the network on a twin",
        ),
        (
            "  homelab:platform: {x}",
            (
                "  homelab:boot_service: {address: 192.168.1.74, folder: /srv/netboot}\n  homelab:pools: {boxes: "
                "{image: {talos: {}}, install: /dev/sda, machines: {box1: {mac: '02:00:00:00:01:01'}}}}\n"
                "  homelab:platform: {x}"
            ),
            "pools: nothing boots from the network on a twin",
        ),
    ],
)
def test_what_a_twin_can_not_have_is_left_out_and_told(root: Path, old: str, new: str, note: str) -> None:
    text = (
        "config:\n  homelab:cluster:\n    endpoint: {x}\n    talos: {x}\n    kubernetes: {version: v1.36.1}\n"
        "  homelab:boards: {board1: {address: 192.168.1.60}}\n  homelab:nodes:\n    node1:\n      role: controlplane\n"
        "      address: 192.168.1.71\n      mac: '02:00:00:00:00:01'\n      machine: {board: board1, slot: 1}\n"
        "      install: {x}\n  homelab:platform: {x}\n"
    ).replace(old, new)
    for key, default in (
        ("endpoint", "{vip: 192.168.1.70}"), ("talos", "{version: v1.13.9}"), ("install", "{}"),
        ("platform", "{pools: [192.168.1.200-192.168.1.209]}"),
    ):  # fmt: skip
        text = text.replace(f"{key}: {{x}}", f"{key}: {default}")
    text = text.replace("{metallb: {", "{pools: [192.168.1.200-192.168.1.209], metallb: {")
    stack = written(root, text)
    settings.load(stack.settings_file)
    assert f"# Not on the twin: {note}" in stack.settings_file.read_text(encoding="utf-8")


def test_an_adopted_node_that_would_be_written_is_seen_on_the_twin(root: Path) -> None:
    """Generation 0 only adopts; a twin has to install. That it then becomes 1 would erase the real node's disk."""
    written_once = re.sub(r"(    node[123]:\n)", r"\1      generation: 1\n", shipped())
    first = twin_of.of(real(root, shipped()))
    later = twin_of.of(real(root, written_once), since=first.notes)
    assert generations(first) == {"node1": 1, "node2": 1, "node3": 1, "node4": 1}
    assert generations(later) == {"node1": 2, "node2": 2, "node3": 2, "node4": 1}
    assert generations(twin_of.of(real(root, written_once))) == {"node1": 1, "node2": 1, "node3": 1, "node4": 1}


def generations(made: twin_of.Written) -> dict[str, int]:
    nodes = yaml.safe_load(made.settings)["config"]["homelab:nodes"]
    return {name: node["generation"] for name, node in nodes.items()}


def test_a_twin_that_runs_keeps_who_is_ahead_and_one_that_was_only_written_does_not(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.twin_of.stacks.find", lambda name: Stack(name, root))
    changed = shipped().replace("    node4:\n", "    node4:\n      generation: 1\n")
    for runs, generation in ((False, 1), (True, 2)):
        real(root, shipped())
        twin_of.command("homelab")
        if runs:
            Stack("homelab-twin", root).twin_state.mkdir(parents=True)
        real(root, changed)
        twin_of.command("homelab")
        assert settings.load(root / "Pulumi.homelab-twin.yaml").nodes["node4"].generation == generation


def test_what_changes_and_can_not_be_seen_on_a_twin_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And stays told, however often it is written, until the twin is made anew or the change is taken back."""
    monkeypatch.setattr("cli.twin_of.stacks.find", lambda name: Stack(name, root))
    old = "board1: {address: 192.168.1.60, fingerprint: 'sha256:" + "ab" * 32 + "'}"
    before = re.sub(r"    board1:\n      address: 192\.168\.1\.60 .*\n", f"    {old}\n", shipped())
    after = re.sub(r"(    talos:.*\n)", r"\1      image: a.raw\n", before.replace("ab" * 32, "cd" * 32), count=1)
    real(root, before)
    twin_of.command("homelab")
    Stack("homelab-twin", root).twin_state.mkdir(parents=True)
    for _ in range(2):
        real(root, after)
        twin_of.command("homelab")
        notes = read(root / "Pulumi.homelab-twin.yaml")
        assert [note.split(";")[0] for note in notes.changed] == [
            "cluster.talos.image: a.raw",
            f"boards.board1.fingerprint: sha256:{'cd' * 32}",
        ]
        assert [note.split(";")[0] for note in notes.changed_from] == [f"boards.board1.fingerprint: sha256:{'ab' * 32}"]
    real(root, before)
    twin_of.command("homelab")
    notes = read(root / "Pulumi.homelab-twin.yaml")
    assert (len(notes.same), notes.changed, notes.changed_from) == (1, (), ())


def test_a_chart_that_a_twin_serves_keeps_its_version(root: Path) -> None:
    assert settings.load(written(root, platform()).settings_file).platform.cilium.version == "1.20.0"  # type: ignore[union-attr]


def test_the_hardware_of_both_sides_of_a_change(root: Path) -> None:
    """A node that a change adds needs its module; what was there stays as it was, also when it would move."""
    before = twin_of.of(real(root, shipped()))
    more = "    node5:\n      role: worker\n      address: 192.168.1.75\n      mac: '02:00:00:00:00:05'\n"
    more += "      machine: {board: board2, slot: 1}\n"
    text = shipped().replace("  homelab:platform:", f"{more}  homelab:platform:")
    text = text.replace("  homelab:nodes:", "    board2: {address: 192.168.1.61}\n  homelab:nodes:")
    text = text.replace("version: v1.13.9 #", "version: v1.13.8 #").replace(
        "address: 192.168.1.74", "address: 192.168.1.84"
    )
    both = twin.lab.LabSpec.model_validate(twin_of.of(real(root, text), before.hardware).hardware)
    assert both.talos_versions == ("v1.13.9", "v1.13.8")
    assert [(board, slot) for board, slot, _ in both.machines] == [("board1", s) for s in (1, 2, 3, 4)] + [
        ("board2", 1)
    ]
    assert str(both.boards["board1"].slots[4].address) == "127.11.0.74"


def test_somebody_elses_files_stay(root: Path) -> None:
    made = twin_of.of(real(root, shipped()))
    twin_of.save(made, root)
    twin_of.save(made, root)
    (root / "Pulumi.homelab-twin.yaml").write_text("config: {}\n")
    with pytest.raises(RefusedError, match="was not written by `homelab twin-of`"):
        twin_of.save(made, root)


def test_a_lab_without_boards_has_no_twin(root: Path) -> None:
    with pytest.raises(UserError, match="no nodes on boards"):
        written(root, BARE.read_text(encoding="utf-8"))


def test_a_twin_has_no_twin(root: Path) -> None:
    stack = written(root, shipped())
    with pytest.raises(UserError, match="is a twin already"):
        twin_of.of(stack)


def test_mistakes_in_the_settings_are_told_as_ever(root: Path) -> None:
    with pytest.raises(SettingsError, match="is taken by"):
        twin_of.of(real(root, shipped().replace("slot: 2}", "slot: 1}")))


def test_a_twins_passphrase_is_known(root: Path) -> None:
    stack = written(root, shipped())
    env = paths.environment(stack.name, root, {"PATH": os.defpath, "PULUMI_CONFIG_PASSPHRASE": "the real one"})
    assert env["PULUMI_CONFIG_PASSPHRASE"] == paths.TWIN_PASSPHRASE
    env = paths.environment("homelab", root, {"PATH": os.defpath, "PULUMI_CONFIG_PASSPHRASE": "the real one"})
    assert env["PULUMI_CONFIG_PASSPHRASE"] == "the real one"


def test_the_verb_needs_nothing_of_its_environment(tmp_path: Path) -> None:
    """A fork's run has no secret, no login, no home and no lab."""
    lab = Sandbox(tmp_path).prepare()
    shutil.copy(REAL["shipped"], tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "twin-of", "homelab", "--json"],
        cwd=lab.folder, env={}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("notes")[0].endswith("node1, node2, node3, node4")  # they are only adopted, and a twin is blank
    assert told == {
        "stack": "homelab-twin", "files": ["Pulumi.homelab-twin.yaml", "twin/labs/homelab-twin.yaml"],
    }  # fmt: skip
    assert settings.load(lab.folder / told["files"][0]).cluster.endpoint.url == "https://127.11.0.70:6443"


def test_git_does_not_see_what_was_written() -> None:
    files = ["Pulumi.homelab-twin.yaml", "twin/labs/homelab-twin.yaml"]
    done = subprocess.run(["git", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == files
