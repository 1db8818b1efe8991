"""Which changes need a reboot, and the names of images."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import UserError
from providers.talos import documents, patches, plan
from providers.talos.config import render
from providers.talos.schematic import Schematic, image_url, installer

BOTH = ("siderolabs/iscsi-tools", "siderolabs/util-linux-tools")


@pytest.fixture
def old(node_config, bundle):
    return render(node_config, bundle)


def changed(old, patch):
    return plan.compare(old, documents.dump(patches.apply(documents.load(old), [patch])))


@pytest.mark.parametrize(
    "patch",
    [
        {"machine": {"kubelet": {"image": "x"}}},
        {"machine": {"network": {"nameservers": ["1.1.1.1"]}}},
        {"machine": {"sysctls": {"a": "1"}}},
        {"machine": {"nodeLabels": {"a": "b"}}},
        {"machine": {"features": {"hostDNS": {"enabled": False}}}},
        {"machine": {"kernel": {"modules": [{"name": "nbd"}]}}},
        {"cluster": {"apiServer": {"certSANs": ["x"]}}},
        {"apiVersion": "v1alpha1", "kind": "HostnameConfig", "hostname": "other"},
        {"apiVersion": "v1alpha1", "kind": "UserVolumeConfig", "name": "longhorn"},
    ],
)
def test_live(old, patch):
    changes = changed(old, patch)
    assert (bool(changes.live), changes.reboot, changes.later) == (True, (), ())


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"machine": {"files": [{"path": "/var/x", "content": "y"}]}}, "machine.files"),
        ({"machine": {"env": {"http_proxy": "x"}}}, "machine.env"),
        ({"machine": {"token": "x"}}, "machine.token"),
        ({"machine": {"udev": {"rules": ["x"]}}}, "machine.udev"),
        ({"machine": {"features": {"diskQuotaSupport": False}}}, "machine.features.diskQuotaSupport"),
    ],
)
def test_reboot(old, patch, path):
    assert changed(old, patch).reboot == (path,)


def test_taken_live_and_used_later(old):
    changes = changed(old, {"machine": {"install": {"image": "other"}}, "cluster": {"etcd": {"extraArgs": {"a": "b"}}}})
    assert changes.reboot == ()
    assert [note.partition(":")[0] for note in changes.later] == ["cluster.etcd.extraArgs.a", "machine.install.image"]


def test_no_change_no_values(old, node_config, bundle):
    assert plan.compare(old, old).nothing
    changes = changed(old, {"machine": {"token": "very-secret"}})
    assert "very-secret" not in repr(changes)
    with pytest.raises(UserError):
        plan.compare(old, "kind: HostnameConfig\napiVersion: v1alpha1\n")


def test_a_removed_document(old):
    without = documents.dump(item for item in documents.load(old) if documents.is_main(item))
    assert plan.compare(old, without).live == ("HostnameConfig",)


@given(st.sampled_from(["token", "type", "files", "env", "kubelet", "sysctls", "network"]), st.booleans())
def test_back_is_as_far_as_forth(key, empty):
    one = documents.dump([{"machine": {"a": "b"}, "cluster": {}}])
    two = documents.dump([{"machine": {"a": "b", key: {} if empty else {"x": "y"}}, "cluster": {}}])
    assert plan.compare(one, two) == plan.compare(two, one)
    assert plan.compare(one, two).nothing is empty


@pytest.mark.parametrize(
    ("schematic", "expected"),
    [
        (Schematic(""), "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"),
        (Schematic("", BOTH), "613e1592b2da41ae5e265e8789429f22e121aab91cb4deb6bc3c0b6262961245"),
        (Schematic("rpi_generic"), "ee21ef4a5ef808a9b7484cc0dda0f25075021691c8c09a276591eedb638ea1f9"),
        (Schematic("rpi_generic", BOTH), "f8a903f101ce10f686476024898734bb6b36353cc4d41f348514db9004ec0a9d"),
        (Schematic("turingrk1"), "df156b82096feda49406ac03aa44e0ace524b7efe4e1f0e144a1e1ae3930f1c0"),
        (Schematic("turingrk1", BOTH), "85f683902139269fbc5a7f64ea94a694d31e0b3d94347a225223fcbd042083ae"),
    ],
)
def test_the_factorys_own_ids(schematic, expected):
    assert schematic.id == expected


def test_images():
    assert image_url("https://factory.talos.dev/", "abc", "v1.13.9") == (
        "https://factory.talos.dev/image/abc/v1.13.9/metal-arm64.raw.xz"
    )
    assert installer("https://factory.talos.dev", "abc", "v1.13.9") == "factory.talos.dev/metal-installer/abc:v1.13.9"
    assert installer("https://factory.talos.dev", "abc", "v1.9.6") == "factory.talos.dev/installer/abc:v1.9.6"
    assert installer("http://127.10.0.2:8080", "abc", "v1.13.9") == "127.10.0.2:8080/metal-installer/abc:v1.13.9"


def test_a_reinstall_of_another_role_is_a_reboot(node_config, bundle, old):
    worker = render(dataclasses.replace(node_config, role="worker"), bundle)
    assert "machine.type" in plan.compare(old, worker).reboot
