"""Settings of a cluster that runs: what they render is what its nodes have, to the last key."""

from __future__ import annotations

import base64
import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cli import adopt, takeover
from cli.asking import Asked
from cli.found import Found
from cli.stacks import Stack
from providers.discovery.boards import Board, Slot
from providers.discovery.cluster import Access, Member
from providers.discovery.modules import Evidence
from providers.errors import RefusedError, UserError
from providers.talos import documents
from providers.talos.config import NodeConfig, render
from providers.talos.schematic import Schematic, installer
from providers.talos.secrets import SecretsBundle, talosconfig
from settings import SettingsError, load

BUNDLE = SecretsBundle.generate()
OLD_CA = SecretsBundle.generate().os.crt
RECIPE = Schematic("turingrk1", ("siderolabs/util-linux-tools", "siderolabs/iscsi-tools"))
BOARDS: dict[str, dict[str, Any]] = {"board1": {"address": "192.168.7.60"}}
SLOTS = {f"node{number}": ("board1", number) for number in range(1, 5)}


def ours(number: int, **changes: Any) -> NodeConfig:
    node = NodeConfig(
        cluster="cellar",
        name=f"node{number}",
        role="controlplane" if number < 4 else "worker",
        mac=f"02:00:00:00:00:0{number}",
        address=f"192.168.7.1{number}",
        vip="192.168.7.10",
        subnet="192.168.7.0/24",
        talos="v1.13.9",
        kubernetes="v1.36.1",
        installer=installer("https://factory.talos.dev", RECIPE.id, "v1.13.9"),
        disk="/dev/nvme0n1",
        extensions=RECIPE.extensions,
    )
    return dataclasses.replace(node, **changes)


def member(config: str, number: int, **changes: Any) -> Member:
    seen = Member(
        name=f"node{number}",
        address=f"192.168.7.1{number}",
        network=f"192.168.7.1{number}/24",
        mac=f"02:00:00:00:00:0{number}",
        link="end0",
        talos="v1.13.9",
        schematic=RECIPE.id,
        extensions=("iscsi-tools", "util-linux-tools"),
        config=config,
    )
    return dataclasses.replace(seen, **changes)


def lab(edit: Any = None, **changes: Any) -> list[Member]:
    """Three control planes and a worker; `edit` changes each node's documents."""
    found = []
    for number in range(1, 5):
        config = documents.load(render(ours(number, **changes), BUNDLE))
        if edit is not None:
            edit(number, config)
        found.append(member(documents.dump(config), number))
    return found


def take(members: list[Member], tmp_path: Path, **options: Any) -> takeover.Taken:
    return takeover.take(members, BOARDS, SLOTS, Stack("cellar", tmp_path), **options)


def test_our_own_cluster_needs_no_patch(tmp_path: Path) -> None:
    taken = take(lab(), tmp_path)
    assert (taken.left, taken.kept, taken.secrets) == ((), 0, {})
    file = tmp_path / "Pulumi.cellar.yaml"
    file.write_text(taken.text)
    read = load(file)
    assert read.cluster.name == "cellar"
    assert str(read.cluster.endpoint.vip) == "192.168.7.10"
    assert read.cluster.talos.extensions == RECIPE.extensions, "in the order that makes the schematic's name"
    assert (read.nodes["node4"].board, read.nodes["node4"].slot) == ("board1", 4)
    assert not any(node.generation for node in read.nodes.values()), "adopting must never flash"
    assert read.nodes["node1"].install.disk == "/dev/nvme0n1"


def theirs(number: int, config: list[dict[str, Any]]) -> None:
    """As `talosctl gen config` and an owner's own patches leave it."""
    main = config[0]
    machine, cluster = main["machine"], main["cluster"]
    main.pop("debug")
    machine["kubelet"] = {
        "image": "ghcr.io/siderolabs/kubelet:v1.36.1",
        "extraArgs": {"rotate-server-certificates": True},
    }
    machine["network"]["interfaces"] = [{"interface": "end0", "dhcp": True}]
    if number < 4:
        machine["network"]["interfaces"][0]["vip"] = {"ip": "192.168.7.10"}
        cluster["apiServer"]["certSANs"] = ["k8s.example"]
        cluster["scheduler"].pop("extraArgs")
        cluster["etcd"].pop("extraArgs")
        cluster["etcd"].pop("advertisedSubnets")
        cluster["proxy"] = {"image": "registry.k8s.io/kube-proxy:v1.36.1"}
    machine.pop("certSANs")
    machine["acceptedCAs"] = [{"crt": base64.b64encode(OLD_CA.encode()).decode()}]
    machine["sysctls"] = {"net.core.somaxconn": "65535"}
    machine["features"]["kubePrism"]["port"] = 7446
    cluster["discovery"] = {"enabled": True, "registries": {"service": {"disabled": False}}}
    if number == 4:
        machine["nodeLabels"] = {"zone": "left"}
        machine["nodeTaints"] = {"only": "storage:NoSchedule"}
        machine["time"] = {"servers": ["192.168.7.1"]}
    config.append({"apiVersion": "v1alpha1", "kind": "WatchdogTimerConfig", "device": "/dev/watchdog0"})


def test_a_cluster_that_others_made_is_kept_by_patches(tmp_path: Path) -> None:
    taken = take(lab(theirs), tmp_path)
    assert taken.left == ()
    assert taken.kept > 8
    file = tmp_path / "Pulumi.cellar.yaml"
    file.write_text(taken.text)
    read = load(file)
    assert {"apiVersion": "v1alpha1", "kind": "WatchdogTimerConfig", "device": "/dev/watchdog0"} in read.cluster.patches
    assert read.nodes["node4"].labels == {"zone": "left"}
    assert str(read.nodes["node4"].taints["only"]) == "storage:NoSchedule"
    assert any("time" in patch.get("machine", {}) for patch in read.nodes["node4"].patches)


PLACES = st.dictionaries(
    st.sampled_from(["sysctls", "kernel", "udev", "logging", "pods", "certSANs", "features"]),
    st.recursive(
        st.one_of(st.booleans(), st.integers(0, 9), st.sampled_from(["", "x"])),
        lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
        max_leaves=5,
    ),
    max_size=3,
)


@settings(max_examples=12, deadline=None)
@given(common=PLACES, own=PLACES)
def test_whatever_else_the_configs_say_is_kept(tmp_path_factory: Any, common: Any, own: Any) -> None:
    def edit(number: int, config: list[dict[str, Any]]) -> None:
        config[0]["machine"] |= common | (own if number == 2 else {})

    taken = take(lab(edit)[1:3], tmp_path_factory.mktemp("adopt"))
    assert taken.left == ()


def test_what_settings_decide_is_said_and_not_patched(tmp_path: Path) -> None:
    def edit(_: int, config: list[dict[str, Any]]) -> None:
        config[0]["machine"]["install"]["image"] = "ghcr.io/siderolabs/installer:v1.12.1"
        config[0]["cluster"]["network"]["cni"] = {"name": "custom", "urls": ["https://example/cilium.yaml"]}

    taken = take(lab(edit), tmp_path)
    assert "node1: machine.install.image, while it runs" in taken.left
    assert "node4: cluster.network.cni.name, while it runs" in taken.left
    with pytest.raises(RefusedError, match=r"8 places|12 places"):
        adopt._refuse_changes(taken, accepted=False)
    adopt._refuse_changes(taken, accepted=True)


def test_a_worker_that_keeps_the_old_hostname_form_is_said(tmp_path: Path) -> None:
    def edit(number: int, config: list[dict[str, Any]]) -> None:
        config[0]["machine"]["network"]["hostname"] = f"node{number}"
        config[:] = [config[0]]

    left = take(lab(edit), tmp_path).left
    assert "node2: HostnameConfig, while it runs" in left
    assert "node2: machine.network.hostname, while it runs" in left


KEY = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"


def test_no_secret_is_in_the_file(tmp_path: Path) -> None:
    def edit(_: int, config: list[dict[str, Any]]) -> None:
        machine = config[0]["machine"]
        machine["registries"] = {"config": {"ghcr.io": {"auth": {"username": "me", "password": "geheim-1"}}}}
        machine["files"] = [{"path": "/var/x", "content": KEY, "permissions": 384, "op": "create"}]
        machine["logging"] = {"destinations": [{"endpoint": "tcp://192.168.7.9:1", "extraTags": {"token": "geheim-2"}}]}
        config[0]["cluster"]["inlineManifests"] = [
            {"name": "x", "contents": "apiVersion: v1\nkind: Secret\ndata: geheim-3"}
        ]
        config.append(
            {"apiVersion": "v1alpha1", "kind": "TrustedKeyConfig", "blob": base64.b64encode(KEY.encode()).decode()}
        )

    members = lab(edit)
    taken = take(members, tmp_path)
    assert taken.left == ()
    for secret in ("geheim", "PRIVATE KEY", base64.b64encode(KEY.encode()).decode(), BUNDLE.trustd_token):
        assert secret not in taken.text
    for secret in (BUNDLE.cluster_secret, BUNDLE.os.key, BUNDLE.kubernetes.key):
        assert secret not in taken.text
        assert base64.b64encode(secret.encode()).decode() not in taken.text
    assert taken.secrets['cluster.registries.credentials["ghcr.io"].password'] == "geheim-1"
    assert sorted(path.rpartition(".")[2] for path in taken.secrets) == [
        "blob",
        "content",
        "contents",
        "password",
        "token",
    ]
    assert "geheim" not in repr(taken)


def test_mixed_versions_are_an_upgrade_that_is_not_finished(tmp_path: Path) -> None:
    members = lab()
    members[2] = dataclasses.replace(members[2], talos="v1.13.8")
    with pytest.raises(UserError, match=r"different versions of Talos \(node1: v1\.13\.9, .*node3: v1\.13\.8"):
        take(members, tmp_path)


def test_a_talos_that_the_program_does_not_know_is_refused(tmp_path: Path) -> None:
    members = [dataclasses.replace(one, talos="v1.2.0") for one in lab(talos="v1.13.9")]
    with pytest.raises(SettingsError, match=r"cluster\.talos\.version"):
        take(members, tmp_path)


@pytest.mark.parametrize(
    "interfaces",
    [
        [],
        [{"interface": "eth7", "addresses": ["192.168.7.11/24"], "routes": [{"gateway": "192.168.7.1"}]}],
        [{"interface": "end1", "dhcp": True}, {"interface": "end0", "dhcp": True, "mtu": 9000}],
        [{"interface": "end1"}, {"deviceSelector": {"hardwareAddr": "02:00:00:00:00:01"}, "dhcp": True}],
    ],
)
def test_without_a_shared_address_one_is_added_to_what_is_there(interfaces: Any, tmp_path: Path) -> None:
    """A patch that kept the interfaces as they are would take the VIP away that the new endpoint names."""

    def edit(number: int, config: list[dict[str, Any]]) -> None:
        network = config[0]["machine"]["network"]
        network["interfaces"] = copy.deepcopy(interfaces)
        if number > 1 and len(interfaces) > 1:
            network["interfaces"][1] = {"interface": "end0", "dhcp": True}
        config[0]["cluster"]["controlPlane"]["endpoint"] = "https://192.168.7.11:6443"

    with pytest.raises(UserError, match=r"share no address .*--vip"):
        take(lab(edit), tmp_path)
    members = lab(edit)
    taken = take(members, tmp_path, vip="192.168.7.9")
    assert "node1: cluster.controlPlane.endpoint, while it runs" in taken.left
    assert any(line.startswith("node1: machine.network") for line in taken.left)
    file = tmp_path / "Pulumi.cellar.yaml"
    file.write_text(taken.text)
    for one in members:
        text = takeover._rendered(one, load(file), BUNDLE)
        after = documents.main(documents.load(text))["machine"].get("network", {}).get("interfaces", [])
        assert [item["vip"]["ip"] for item in after if "vip" in item] == (["192.168.7.9"] if one.leads else [])
        for before in one.main["machine"]["network"]["interfaces"]:
            assert any(before.items() <= item.items() for item in after), "what was there stays"


def test_a_vip_that_is_there_stays(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"share 192\.168\.7\.10 already"):
        take(lab(), tmp_path, vip="192.168.7.9")


def test_an_interface_for_the_vip_is_not_guessed(tmp_path: Path) -> None:
    def edit(_: int, config: list[dict[str, Any]]) -> None:
        config[0]["machine"]["network"]["interfaces"] = [{"interface": "a0"}, {"interface": "b0"}]

    with pytest.raises(UserError, match="which of its 2 interfaces shall have the VIP"):
        take(lab(edit), tmp_path, vip="192.168.7.9")


def test_a_vip_in_a_document_of_its_own_is_refused(tmp_path: Path) -> None:
    def edit(_: int, config: list[dict[str, Any]]) -> None:
        config.append({"apiVersion": "v1alpha1", "kind": "Layer2VIPConfig", "name": "192.168.7.10", "link": "end0"})

    with pytest.raises(UserError, match="Layer2VIPConfig"):
        take(lab(edit), tmp_path)


@pytest.mark.parametrize("schematic", ["f" * 64, None])
def test_an_image_that_settings_cannot_make_is_named_whole(schematic: str | None, tmp_path: Path) -> None:
    """Else the first `up` would upgrade every node to another image, with a reboot."""
    image = "registry.example/talos/installer:v1.13.9"
    members = [dataclasses.replace(one, schematic=schematic) for one in lab(installer=image)]
    taken = take(members, tmp_path)
    assert taken.left == ()
    read = yaml.safe_load(taken.text)["config"]["homelab:cluster"]
    assert read["talos"]["installer"] == image


def test_an_order_of_extensions_that_is_no_schematics_is_not_taken(tmp_path: Path) -> None:
    members = [dataclasses.replace(one, extensions=("iscsi-tools", "other")) for one in lab()]
    assert "installer" in yaml.safe_load(take(members, tmp_path).text)["config"]["homelab:cluster"]["talos"]


def found(**evidence: str) -> Found:
    slots = {
        number: Slot(number, True, Evidence(console=True, address=evidence.get(f"s{number}", "")))
        for number in range(1, 5)
    }
    return Found({"board1": Board("192.168.7.60", slots=slots)}, {})


def test_a_slot_is_told_or_known_and_never_guessed() -> None:
    members = lab()
    known = found(s1="192.168.7.11", s2="192.168.7.12", s3="192.168.7.13")
    with pytest.raises(UserError, match=r"nobody to ask; say --machine node4=\.\.\."):
        adopt._slots(members, known, {}, Asked(interactive=False))
    told = adopt._slots(members, known, {"node4": "board1/4"}, Asked(interactive=False))
    assert told == SLOTS


@pytest.mark.parametrize("place", ["board2/1", "board1/5", "board1", "1"])
def test_a_slot_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(UserError, match="--without node1"):
        adopt._slots(lab()[:1], found(), {"node1": place}, Asked(interactive=False))


def test_a_worker_may_stay_out_and_a_control_plane_not() -> None:
    members = lab()
    assert [one.name for one in adopt._kept(members, ["node4"])] == ["node1", "node2", "node3"]
    with pytest.raises(UserError, match="node2: it is a control plane"):
        adopt._kept(members, ["node2"])
    with pytest.raises(UserError, match="there is no 'node9'"):
        adopt._kept(members, ["node9"])


def test_the_file_goes_again_when_its_secrets_cannot_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_BACKEND_URL"):
        monkeypatch.delenv(name, raising=False)

    def edit(_: int, config: list[dict[str, Any]]) -> None:
        config[0]["machine"]["registries"] = {"config": {"ghcr.io": {"auth": {"username": "me", "password": "geheim"}}}}

    stack = Stack("cellar", tmp_path)
    taken = takeover.take(lab(edit), BOARDS, SLOTS, stack)
    with pytest.raises(UserError, match="Nothing was written"):
        adopt._write(stack, taken, {})
    assert not stack.settings_file.exists()


def test_the_credentials_lie_where_up_looks(tmp_path: Path) -> None:
    cert = BUNDLE.issue_client()
    stack = Stack("cellar", tmp_path)
    way = Access(cert, ("192.168.7.11",))
    adopt._leave(stack, take(lab(), tmp_path), way, lab())
    kept = tmp_path / ".homelab" / "cellar" / "talosconfig"
    assert kept.stat().st_mode & 0o077 == 0
    assert (tmp_path / ".homelab" / "talosconfig").read_text() == kept.read_text()
    adopt._refuse_another(stack, way)
    other = Access(SecretsBundle.generate().issue_client(), ())
    with pytest.raises(RefusedError, match="is of another cluster"):
        adopt._refuse_another(stack, other)


def test_a_file_that_is_no_talosconfig(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read"):
        adopt._access(tmp_path / "none", None)
    file = tmp_path / "talosconfig"
    file.write_text(talosconfig("x", BUNDLE.issue_client(), []))
    with pytest.raises(UserError, match="neither endpoints nor nodes"):
        adopt._access(file, None)
    with pytest.raises(UserError, match="no context 'y'"):
        adopt._access(file, "y")
