"""What the preview says of changed versions, what it refuses, and what an old state without the new inputs means."""

from __future__ import annotations

from typing import Any

import pytest

from providers.talos import versions
from providers.talos.compare import same
from providers.talos.effect import comes_to, effect
from providers.talos.resources import MachineProvider
from providers.talos.secrets import SecretsBundle
from providers.talos.wire import pack
from providers.talos.wish import bundle_of, rendered

OLD, NEW = "v1.12.11", "v1.13.9"
FACTORY = "factory.talos.dev/metal-installer"


@pytest.fixture(scope="module")
def packed(bundle: SecretsBundle) -> str:
    return pack(bundle)


def props(packed: str, talos: str = NEW, kubernetes: str = "v1.35.4", **more: Any) -> dict[str, Any]:
    spec = {
        "cluster": "home", "name": "node1", "role": "controlplane", "mac": "02:00:00:00:00:01",
        "address": "10.0.0.1", "vip": "10.0.0.10", "subnet": "10.0.0.0/24", "disk": "/dev/mmcblk0",
        "talos": talos, "kubernetes": kubernetes, "installer": f"{FACTORY}/abc:{talos}",
        "extensions": ["siderolabs/iscsi-tools"], **more.pop("spec", {}),
    }  # fmt: skip
    base = {"node": "node1", "address": "10.0.0.1", "spec": spec, "secrets": packed, "credentials": {}}
    planes = {"node1": "10.0.0.1"}
    return {**base, "generation": 1, "allow_reboot": False, "control_planes": planes, "rank": 2, **more}


def line(olds: dict[str, Any], news: dict[str, Any]) -> str:
    return effect(olds, news).line("node1", news["spec"]["role"])


def test_another_talos_drains_and_reboots_in_the_order_of_nodes(packed: str) -> None:
    olds, news = props(packed, OLD), props(packed)
    assert line(olds, news) == "2. node1 (control plane) drains and reboots: Talos v1.12.11 -> v1.13.9"
    assert effect(olds, news).reboots


def test_a_worker_is_called_one(packed: str) -> None:
    worker = {"role": "worker"}
    said = line(props(packed, OLD, spec=worker), props(packed, rank=4, spec=worker))
    assert said == "4. node1 (worker) drains and reboots: Talos v1.12.11 -> v1.13.9"


def test_other_extensions_are_named(packed: str) -> None:
    spec = {"installer": f"{FACTORY}/def:{NEW}", "extensions": ["siderolabs/util-linux-tools"]}
    said = line(props(packed), props(packed, spec=spec))
    assert said.startswith(
        "2. node1 (control plane) drains and reboots: Talos v1.13.9 with siderolabs/util-linux-tools, "
        "without siderolabs/iscsi-tools"
    )
    own = line(props(packed), props(packed, spec={"installer": "registry.home.arpa/talos:v1.13.9"}))
    assert own == "2. node1 (control plane) drains and reboots: Talos v1.13.9 from another image"


def test_another_kubernetes_reboots_nobody(packed: str) -> None:
    olds, news = props(packed), props(packed, kubernetes="v1.36.1")
    assert line(olds, news) == (
        "node1: Kubernetes v1.35.4 -> v1.36.1, without a reboot: kube-apiserver, kube-controller-manager, "
        "kube-scheduler, kube-proxy, kubelet, one after the other over all nodes"
    )
    assert not effect(olds, news).reboots


def test_both_and_a_patch_are_told_in_one_line(packed: str) -> None:
    patched = {"patches": [{"machine": {"udev": {"rules": ["SUBSYSTEM==drm"]}}}]}
    said = line(props(packed, OLD), props(packed, kubernetes="v1.36.1", spec=patched))
    assert "Talos v1.12.11 -> v1.13.9; Kubernetes v1.35.4 -> v1.36.1, without a reboot" in said
    assert said.endswith("; needs a reboot for machine.udev: staged, and active after its next reboot "
                         "(cluster.talos.allow_reboot is off)")  # fmt: skip


def test_a_config_keeps_the_shape_that_it_began_with(packed: str) -> None:
    """From 1.11 to 1.12 the host name moved to a document of its own: no upgrade may reboot a node for that again."""
    before = props(packed, "v1.11.6", "v1.34.1")
    live, after = rendered(before, bundle_of(before)), props(packed, OLD, "v1.34.1")
    wished = rendered(after, bundle_of(after), live)
    assert "HostnameConfig" not in wished
    assert same(wished.replace(f"abc:{OLD}", "abc:v1.11.6"), live)
    assert line(before, after) == "2. node1 (control plane) drains and reboots: Talos v1.11.6 -> v1.12.11"
    fresh = rendered(after, bundle_of(after))
    assert "HostnameConfig" in fresh
    assert same(rendered(props(packed, NEW, "v1.34.1"), bundle_of(after), fresh).replace(NEW, OLD), fresh)


def test_what_an_older_program_left_in_state_changes_nothing_by_itself(packed: str) -> None:
    new: dict[str, Any] = {
        "schematic": "abc",
        "recipe": "x",
        "factory": "y",
        "max_unavailable": 1,
        "board": "z",
        "slot": 1,
    }
    olds, news = props(packed), props(packed, **new)
    del olds["rank"]
    assert not MachineProvider().diff("id", olds, news).changes
    assert not versions.announced(olds, news)


def test_versions_move_only_when_the_preview_could_say_so(packed: str) -> None:
    assert versions.announced(props(packed, OLD), props(packed))
    assert versions.announced(props(packed), props(packed, kubernetes="v1.36.1"))
    assert not versions.announced(props(packed), props(packed, spec={"labels": {"rack": "left"}}))
    assert not versions.announced({}, props(packed))
    drifted = props(packed, drift="runs Talos v1.12.11, not v1.13.9")
    assert versions.announced(drifted, props(packed))
    assert not versions.announced(props(packed, drift="its config was changed by hand"), props(packed))


def test_a_node_that_went_back_is_announced_again(packed: str) -> None:
    olds = props(packed, drift="runs Talos v1.12.11, not v1.13.9")
    assert MachineProvider().diff("id", olds, props(packed)).changes
    said = comes_to(olds).line("node1", "controlplane")
    assert said == "2. node1 (control plane) drains and reboots: it runs Talos v1.12.11, not v1.13.9"


def test_a_jump_is_refused_at_preview_with_setting_and_reason(packed: str) -> None:
    olds, news = props(packed, "v1.11.6", "v1.34.1"), props(packed, kubernetes="v1.36.1")
    found = MachineProvider().problems(olds, news)
    assert [key for key, _ in found] == ["spec", "spec"]
    assert found[0][1].startswith("node1: cluster.talos.version: Talos goes minor by minor: from v1.11.6")
    assert found[1][1].startswith("node1: cluster.kubernetes.version: Kubernetes goes minor by minor: from v1.34.1")
    assert MachineProvider().problems({}, news) == []
    assert MachineProvider().problems(props(packed, OLD), props(packed)) == []
