"""The pins: what decides a tool's key, and that they say the same as the Go modules."""

import dataclasses
import re
import shutil

import pytest

from tools import pins

TOOLS = [pins.ENGINE, pins.SERVERS, pins.TALOS_CLIENT]


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


def test_the_engine_is_the_version_of_the_python_sdk():
    assert f"\npulumi=={pins.PULUMI} " in (pins.ROOT / "requirements.txt").read_text()


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


def test_the_keys_differ():
    assert len({pins.key(tool) for tool in TOOLS}) == len(TOOLS)
