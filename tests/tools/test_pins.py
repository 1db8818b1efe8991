"""The pins: what decides a tool's key, and that they say the same as the Go modules."""

import dataclasses
import re
import shutil

import pytest

from tools import pins
from tools.plugins import resource_random

TOOLS = [pins.ENGINE, pins.SERVERS, *pins.PLUGINS, *pins.TEST_TOOLS]


def requirements(folder: str) -> dict[str, str]:
    text = (pins.GO_MODULES / folder / "go.mod").read_text()
    return dict(re.findall(r"^(?:require )?\s*(\S+\.\S+/\S+) v(\S+?)(?: // indirect)?$", text, re.MULTILINE))


def test_the_pins_are_the_versions_of_the_go_modules():
    sdk = "github.com/pulumi/pulumi/sdk/v3"
    assert requirements("pulumi")["github.com/pulumi/pulumi/pkg/v3"] == pins.PULUMI
    assert requirements("pulumi")[sdk] == pins.PULUMI
    assert requirements("language")[sdk] == pins.LANGUAGE_HOST
    servers = requirements("servers")
    assert servers["k8s.io/kubernetes"] == pins.KUBERNETES
    assert servers["sigs.k8s.io/kwok"] == pins.KWOK
    assert {servers[f"go.etcd.io/etcd/{part}/v3"] for part in ("server", "etcdctl", "etcdutl")} == {pins.ETCD}
    assert requirements("talosctl")["github.com/siderolabs/talos"] == pins.TALOSCTL
    assert requirements("kubernetes")["github.com/pulumi/pulumi-kubernetes/sdk/v4"] == pins.KUBERNETES_PLUGIN
    assert requirements("kubeadm")["k8s.io/kubernetes"] == pins.KUBERNETES
    assert requirements("helm")["helm.sh/helm/v3"] == pins.HELM
    assert requirements("actionlint")["github.com/rhysd/actionlint"] == pins.ACTIONLINT
    major, minor, patch = map(int, pins.PROMTOOL.split("."))  # as a library, Prometheus 3.10.0 is called v0.310.0
    assert requirements("promtool")["github.com/prometheus/prometheus"] == f"0.{major}{minor:02}.{patch}"


def test_the_engine_is_the_version_of_the_python_sdk():
    assert f"\npulumi=={pins.PULUMI} " in (pins.ROOT / "requirements.txt").read_text()


def test_the_plugins_are_the_versions_of_their_packages():
    locked = (pins.ROOT / "requirements.txt").read_text()
    assert f"\npulumi-kubernetes=={pins.KUBERNETES_PLUGIN} " in locked
    assert f"\npulumi-random=={pins.RANDOM_PLUGIN} " in locked
    assert resource_random.VERSION == pins.RANDOM_PLUGIN


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_build_has_its_modules_and_their_checksums(tool):
    for build in tool.builds:
        assert (pins.GO_MODULES / build.folder / "go.mod").is_file()
        assert (pins.GO_MODULES / build.folder / "go.sum").is_file()


def test_a_key_changes_with_the_recipe_and_with_its_modules_only(tmp_path):
    folder = tmp_path / "talosctl"
    shutil.copytree(pins.GO_MODULES / "talosctl", folder)
    before = pins.key(pins.TALOS_CLIENT, tmp_path)
    assert before == pins.key(pins.TALOS_CLIENT)
    assert pins.key(dataclasses.replace(pins.TALOS_CLIENT, minutes=99.0, title="other"), tmp_path) == before
    assert pins.key(dataclasses.replace(pins.TALOS_CLIENT, version="1.12.1"), tmp_path) != before
    (folder / "go.sum").write_text("")
    assert pins.key(pins.TALOS_CLIENT, tmp_path) != before


def test_a_key_changes_with_a_script_of_our_own_and_with_build_tags(tmp_path, monkeypatch):
    script = pins.ROOT / pins.RANDOM_PROVIDER.own[0].source
    before = pins.key(pins.RANDOM_PROVIDER)
    copy = tmp_path / pins.RANDOM_PROVIDER.own[0].source
    copy.parent.mkdir(parents=True)
    copy.write_text(script.read_text() + "# changed\n")
    monkeypatch.setattr(pins, "ROOT", tmp_path)
    assert pins.key(pins.RANDOM_PROVIDER) != before
    build = pins.HELM_CLIENT.builds[0]
    tagged = dataclasses.replace(pins.HELM_CLIENT, builds=(dataclasses.replace(build, tags=("netgo",)),))
    assert pins.key(tagged) != pins.key(pins.HELM_CLIENT)


def test_the_keys_differ():
    assert len({pins.key(tool) for tool in TOOLS}) == len(TOOLS)
