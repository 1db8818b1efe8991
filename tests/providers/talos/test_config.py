"""Machine configs: their contents, their comparison, and Talos' own opinion of them."""

import dataclasses
import itertools
import subprocess
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import UserError
from providers.talos import documents
from providers.talos.config import NodeConfig, fingerprint, render, same, summary

VERSIONS = ("v1.9.6", "v1.10.9", "v1.11.6", "v1.12.0", "v1.13.9")
EVERYTHING = {
    "disk": None,
    "disk_selector": {"size": ">= 16GB", "type": "ssd"},
    "dns": "k8s.home.arpa",
    "gateway": "192.168.1.1",
    "nameservers": ["192.168.1.1"],
    "time_servers": ["pool.ntp.org"],
    "cni": "cilium-kube-proxy-free",
    "longhorn_path": "/var/mnt/longhorn",
    "extensions": ["siderolabs/iscsi-tools"],
    "labels": {"zone": "cellar", "app": "x"},
    "taints": {"dedicated": "gpu:NoSchedule"},
    "mirrors": {"docker.io": ["https://mirror.home.arpa"]},
    "credentials": {"ghcr.io": {"username": "me", "password": "hunter2-hunter2"}},
    "schedule_on_control_planes": False,
    "patches": [{"machine": {"sysctls": {"vm.nr_hugepages": "1024"}}}],
}


def rendered(config, bundle, **changes):
    found = documents.load(render(dataclasses.replace(config, **changes), bundle))
    return documents.main(found), found


def test_the_vip_is_on_the_interface_with_the_nodes_mac(node_config, bundle):
    """4b.12: whatever the kernel calls the interface."""
    main, _ = rendered(node_config, bundle, mac="02:AB:00:00:00:01")
    assert main["machine"]["network"]["interfaces"] == [
        {"deviceSelector": {"hardwareAddr": "02:ab:00:00:00:01"}, "dhcp": True, "vip": {"ip": "192.168.1.230"}}
    ]


def test_no_node_takes_the_vip_for_its_own_address(node_config, bundle):
    """4b.13."""
    main, _ = rendered(node_config, bundle)
    expected = ["192.168.1.0/24", "!192.168.1.230/32"]
    assert main["machine"]["kubelet"]["nodeIP"]["validSubnets"] == expected
    assert main["cluster"]["etcd"]["advertisedSubnets"] == expected


def test_a_worker_has_no_vip_and_no_keys(node_config, bundle):
    main, _ = rendered(node_config, bundle, role="worker")
    assert "vip" not in main["machine"]["network"]["interfaces"][0]
    assert set(main["machine"]["ca"]) == set(main["cluster"]["ca"]) == {"crt"}
    text = render(dataclasses.replace(node_config, role="worker"), bundle)
    for secret in (bundle.secretbox_secret, bundle.to_dict()["certs"]["k8s"]["key"]):
        assert secret not in text


def test_metrics_can_be_scraped_from_other_nodes(node_config, bundle):
    """4e.42."""
    cluster = rendered(node_config, bundle)[0]["cluster"]
    assert cluster["controllerManager"]["extraArgs"] == {"bind-address": "0.0.0.0"}
    assert cluster["scheduler"]["extraArgs"] == {"bind-address": "0.0.0.0"}
    assert cluster["etcd"]["extraArgs"] == {"listen-metrics-urls": "http://0.0.0.0:2381"}
    assert cluster["proxy"]["extraArgs"] == {"metrics-bind-address": "0.0.0.0:10249"}


def test_load_balancers_use_control_planes_that_run_pods(node_config, bundle):
    label = "node.kubernetes.io/exclude-from-external-load-balancers"
    assert label not in rendered(node_config, bundle)[0]["machine"].get("nodeLabels", {})
    main, _ = rendered(node_config, bundle, schedule_on_control_planes=False)
    assert main["machine"]["nodeLabels"] == {label: ""}


def test_longhorns_mount_comes_with_iscsi(node_config, bundle):
    assert "extraMounts" not in rendered(node_config, bundle)[0]["machine"]["kubelet"]
    main, _ = rendered(node_config, bundle, extensions=["siderolabs/iscsi-tools"])
    (mount,) = main["machine"]["kubelet"]["extraMounts"]
    assert (mount["destination"], mount["options"]) == ("/var/lib/longhorn", ["bind", "rshared", "rw"])


def test_longhorns_mount_is_where_its_data_is(node_config, bundle):
    path = "/var/mnt/longhorn"
    main, _ = rendered(node_config, bundle, extensions=["siderolabs/iscsi-tools"], longhorn_path=path)
    (mount,) = main["machine"]["kubelet"]["extraMounts"]
    assert (mount["destination"], mount["source"]) == (path, path)


@pytest.mark.parametrize(
    ("cni", "name", "kube_proxy"),
    [
        ("flannel", "flannel", True),
        ("flannel-host-gw", "none", True),
        ("cilium", "none", True),
        ("cilium-kube-proxy-free", "none", False),
        ("none", "none", True),
    ],
)
def test_only_plain_flannel_comes_with_talos_and_one_network_replaces_kube_proxy(
    node_config, bundle, cni, name, kube_proxy
):
    cluster = rendered(node_config, bundle, cni=cni)[0]["cluster"]
    assert cluster["network"]["cni"] == {"name": name}
    assert (cluster["proxy"] != {"disabled": True}) is kube_proxy


@pytest.mark.parametrize(("version", "document"), [("v1.11.6", False), ("v1.12.0", True), ("v1.13.9", True)])
def test_the_host_name_has_a_document_of_its_own_from_1_12(node_config, bundle, version, document):
    main, found = rendered(node_config, bundle, talos=version)
    assert ("hostname" in main["machine"]["network"]) is not document
    assert [item["hostname"] for item in found if item.get("kind") == "HostnameConfig"] == ["node1"] * document


def test_a_gateway_makes_the_address_static(node_config, bundle):
    (interface,) = rendered(node_config, bundle, gateway="192.168.1.1")[0]["machine"]["network"]["interfaces"]
    assert interface["dhcp"] is False
    assert interface["addresses"] == ["192.168.1.231/24"]
    assert interface["routes"] == [{"network": "0.0.0.0/0", "gateway": "192.168.1.1"}]


def test_the_disk_by_its_attributes(node_config, bundle):
    """4a.9."""
    main, _ = rendered(node_config, bundle, disk_selector={"serial": "0x1234"})
    assert main["machine"]["install"]["diskSelector"] == {"serial": "0x1234"}
    assert "disk" not in main["machine"]["install"]


def test_the_nodes_patches_come_last(node_config, bundle):
    patches = ["machine: {sysctls: {a: '1'}}", {"machine": {"sysctls": {"a": "2"}}}]
    assert rendered(node_config, bundle, patches=patches)[0]["machine"]["sysctls"] == {"a": "2"}


def test_the_same_settings_give_the_same_text_whatever_their_order(node_config, bundle):
    one = dataclasses.replace(node_config, labels={"a": "1", "b": "2"}, mirrors={"x": ["1"], "y": ["2"]})
    two = dataclasses.replace(node_config, labels={"b": "2", "a": "1"}, mirrors={"y": ["2"], "x": ["1"]})
    assert render(one, bundle) == render(two, bundle)


def test_from_a_map_as_pulumi_hands_it_over(node_config):
    data = dataclasses.asdict(node_config) | {"port": 6443.0, "gateway": None, "patches": [{"a": 1.0}]}
    config = NodeConfig.from_dict(data)
    assert config.port == 6443
    assert isinstance(config.port, int)
    assert config.patches == [{"a": 1}]


def test_from_a_map_that_is_wrong(node_config):
    data = dataclasses.asdict(node_config)
    with pytest.raises(UserError, match="unknown keys colour"):
        NodeConfig.from_dict(data | {"colour": "red"})
    del data["vip"]
    with pytest.raises(UserError, match="vip"):
        NodeConfig.from_dict(data)


def test_a_version_that_is_none(node_config, bundle):
    with pytest.raises(UserError, match=r"v1\.13\.9"):
        render(dataclasses.replace(node_config, talos="latest"), bundle)


def test_the_same_config_written_otherwise(node_config, bundle):
    """The node writes it back in its own style."""
    text = render(node_config, bundle)
    found = documents.load(text)
    found[0]["machine"]["pods"] = []
    found[0]["machine"]["sysctls"] = {}
    found[0]["machine"]["env"] = None
    rewritten = yaml.safe_dump_all(reversed(found), default_flow_style=True, sort_keys=True)
    assert same(text, rewritten)
    assert fingerprint(text) == fingerprint(rewritten)


@pytest.mark.parametrize(
    "path", ["machine.token", "machine.install.wipe", "cluster.clusterName", "cluster.etcd.ca.key"]
)
def test_another_value_is_another_config(node_config, bundle, path):
    text = render(node_config, bundle)
    found = documents.load(text)
    *way, last = path.split(".")
    place = found[0]
    for key in way:
        place = place[key]
    place[last] = True if isinstance(place[last], bool) else "other"
    changed = documents.dump(found)
    assert not same(text, changed)
    assert fingerprint(text) != fingerprint(changed)


def test_the_summary_tells_and_keeps_secrets(node_config, bundle):
    config = dataclasses.replace(node_config, **EVERYTHING)
    facts = summary(render(config, bundle))
    assert facts["hostname"] == "node1"
    assert facts["interfaces"] == ["hardwareAddr=02:00:00:00:00:01 192.168.1.231/24 vip 192.168.1.230"]
    assert facts["disk"] == {"size": ">= 16GB", "type": "ssd"}
    assert facts["logins"] == ["ghcr.io"]
    shown = repr(facts)
    for secret in ("hunter2", bundle.trustd_token, bundle.bootstrap_token, bundle.cluster_secret):
        assert secret not in shown
    assert len(shown) < 1200


words = st.text("abcxyz01", min_size=1, max_size=8)


@given(st.dictionaries(words, words, max_size=4), st.permutations(["a", "b", "c"]))
def test_fingerprints_follow_sameness(labels, order):
    def config(keys):
        return documents.dump([{"machine": {"nodeLabels": {key: labels.get(key, "") for key in keys}, **labels}}])

    assert fingerprint(config(order)) == fingerprint(config("abc"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("off", "off"), ("12:34:56:17:18:19", "12:34:56:17:18:19"), ("2024-01-01", "2024-01-01"), ("010", "010")],
)
def test_yaml_is_read_as_talos_reads_it(text, value):
    assert documents.load(f"a: {text}") == [{"a": value}]
    assert documents.load(documents.dump([{"a": value}])) == [{"a": value}]


def test_a_broken_config_does_not_show_its_secrets():
    with pytest.raises(UserError) as caught:
        documents.load("machine:\n  token: s3cret.s3cret: x\n")
    assert "s3cret" not in str(caught.value)
    assert "line 2" in str(caught.value)


def all_configs(node_config):
    extras: tuple[dict[str, Any], ...] = ({}, EVERYTHING)
    for version, role, extra in itertools.product(VERSIONS, ("controlplane", "worker"), extras):
        kubernetes = "v1.32.4" if version < "v1.12" else "v1.35.0"
        yield dataclasses.replace(node_config, talos=version, role=role, kubernetes=kubernetes, **extra)


def test_talosctl_takes_every_config(node_config, bundle, tmp_path):
    """What Talos itself says. A talosctl older than the config's version doesn't know all its documents."""
    from tools import paths

    talosctl = paths.talosctl()
    known = talosctl_minor(talosctl)
    checked = 0
    for number, config in enumerate(all_configs(node_config)):
        if known < (1, 12) <= config.minor:
            continue
        path = tmp_path / f"{number}.yaml"
        path.write_text(render(config, bundle))
        command = [str(talosctl), "validate", "--mode", "metal", "--config", str(path)]
        seen = subprocess.run(command, capture_output=True, text=True, check=False)
        assert seen.returncode == 0, f"{config.talos} {config.role}: {seen.stdout} {seen.stderr}"
        checked += 1
    assert checked >= 12


def talosctl_minor(talosctl):
    seen = subprocess.run([str(talosctl), "version", "--client", "--short"], capture_output=True, text=True, check=True)
    major, minor = seen.stdout.split("v", 1)[1].split(".")[:2]
    return int(major), int(minor)
