"""What changes, by the owner's hand or by somebody else's: drift is repaired, a reboot never comes by surprise."""

from __future__ import annotations

import re

import pytest

from cli.api_gap import ApiGap
from providers.deadline import Deadline
from providers.kubernetes.client import Kube
from providers.talos.client import ApplyMode, Talos
from providers.talos.identity import stored_certificate
from providers.turingpi.client import Bmc, Endpoint
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

WORKER = "node4"
LIVE_PATCH = "      patches: [{machine: {sysctls: {vm.max_map_count: '262144'}}}]\n"
REBOOT_PATCH = "      patches: [{machine: {udev: {rules: ['SUBSYSTEM==drm']}}}]\n"
OTHER_REBOOT_PATCH = REBOOT_PATCH.replace("drm", "tty")


def settings_of(lab: Sandbox, node: str, lines: str) -> None:
    """Put lines at the head of a node's settings."""
    lab.edit(lab.settings, f"    {node}:\n", f"    {node}:\n{lines}")


def talos(lab: Sandbox, node: str) -> Talos:
    cert = stored_certificate(lab.folder / ".homelab" / "talosconfig")
    assert cert is not None
    return Talos.secure(f"{lab.prefix}.{10 + int(node.removeprefix('node'))}", cert)


def kube(lab: Sandbox) -> Kube:
    return Kube((lab.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8"))


def boots(lab: Sandbox) -> int:
    return len(lab.events("boot_started"))


@pytest.mark.slow
def test_drift_in_power_config_and_membership_is_seen_and_repaired(lab: Sandbox) -> None:
    with talos(lab, WORKER) as node:
        config = node.machine_config()
        by_hand = config.replace("sysctls:", "sysctls:\n    net.ipv4.ip_forward: '1'", 1)
        if by_hand == config:
            by_hand = config.replace("machine:", "machine:\n  sysctls: {net.ipv4.ip_forward: '1'}", 1)
        node.apply_configuration(by_hand, ApplyMode.NO_REBOOT)
    seen = lab.run("refresh", "--yes").ok().output
    assert re.search(r"~ +1 updated", seen), seen[-3000:]
    lab.up().ok()
    with talos(lab, WORKER) as node:
        assert "net.ipv4.ip_forward" not in node.machine_config()
    lab.preview_unchanged().ok()

    with Bmc.connect(Endpoint(f"https://{lab.prefix}.60:8443", password="opens-this-board")) as board:
        board.set_power({4: False})
    seen = lab.run("refresh", "--yes").ok().output
    assert re.search(r"~ +1 updated", seen), seen[-3000:]
    lab.up().ok()
    assert all(node["ready"] is True for node in lab.status()["nodes"])

    with kube(lab) as api:
        assert api.delete_node(WORKER, Deadline(30))
    seen = lab.run("refresh", "--yes").ok().output
    assert re.search(r"- +1 deleted", seen), seen[-3000:]


def test_a_live_change_reboots_nobody(lab: Sandbox) -> None:
    lab.up().ok()
    before = boots(lab)
    settings_of(lab, WORKER, LIVE_PATCH)
    assert f"{WORKER}: changes machine.sysctls" in lab.run("preview").ok().output
    done = lab.up().ok().output
    assert "config changed without a reboot" in done
    assert boots(lab) == before
    with talos(lab, WORKER) as node:
        assert "vm.max_map_count" in node.machine_config()


def test_a_change_that_needs_a_reboot_says_so_and_is_staged(lab: Sandbox) -> None:
    before = boots(lab)
    lab.edit(lab.settings, LIVE_PATCH, REBOOT_PATCH)
    said = lab.run("preview").ok().output
    assert re.search(rf"{WORKER}: needs a reboot for machine\.udev: staged", said), said[-3000:]
    done = lab.up().ok().output
    assert "config staged" in done
    assert boots(lab) == before


def test_the_reboot_comes_when_it_is_allowed(lab: Sandbox) -> None:
    before = boots(lab)
    lab.edit(lab.settings, REBOOT_PATCH, OTHER_REBOOT_PATCH)
    lab.edit(lab.settings, "    talos: {", "    talos: {allow_reboot: true, ")
    assert re.search(rf"{WORKER}: reboots for machine\.udev", lab.run("preview").ok().output)
    lab.up().ok()
    assert boots(lab) == before + 1
    assert all(node["ready"] is True for node in lab.status()["nodes"])


def test_control_planes_reboot_one_at_a_time(lab: Sandbox) -> None:
    """A change for the whole cluster: each control plane is back in etcd before the next one goes."""
    before = len(lab.events())
    lab.edit(
        lab.settings, "  homelab:cluster:\n", f"  homelab:cluster:\n{OTHER_REBOOT_PATCH.replace('      p', '    p')}"
    )
    with ApiGap((lab.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8")) as gap:
        lab.up().ok()
    print(f"longest API gap while all control planes rebooted: {gap.longest_s:.2f} s")
    leading = {event["node"] for event in lab.events("etcd_started")}
    seen = [e for e in lab.events()[before:] if e["node"] in leading and e["kind"] in ("boot_started", "api_ready")]
    assert [event["kind"] for event in seen] == ["boot_started", "api_ready"] * 3
    assert len({event["node"] for event in seen}) == 3


@pytest.mark.slow  # 4c.24 is another such node
def test_disabled_keeps_a_node_out_and_off(lab: Sandbox) -> None:
    settings_of(lab, WORKER, "      disabled: true\n")
    lab.up().ok()
    assert WORKER not in lab.names()
    lab.preview_unchanged().ok()
    assert WORKER not in {node["name"] for node in lab.status()["nodes"] if node["power"] == "on"}
    lab.edit(lab.settings, "      disabled: true\n", "")
    lab.up().ok()
    assert set(lab.count("flash_done").values()) == {1}


def test_a_grown_generation_reinstalls_that_node_once(lab: Sandbox) -> None:
    before = lab.count("flash_done")
    text = (lab.folder / lab.settings).read_text(encoding="utf-8")
    head, tail = text.split(f"    {WORKER}:\n")
    lab.write(lab.settings, f"{head}    {WORKER}:\n{tail.replace('generation: 1', 'generation: 2', 1)}")
    assert f"{WORKER}: REINSTALLED" in lab.run("preview").ok().output
    lab.up().ok()
    grown = lab.count("flash_done") - before
    assert sum(grown.values()) == 1
    assert all(node["ready"] is True for node in lab.status()["nodes"])
    lab.preview_unchanged().ok()
