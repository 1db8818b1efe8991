"""The boot service's pod and its programs, and what pools of the settings come to."""

import base64
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from components import boot_service, pool
from components.versions import NETBOOT
from providers.errors import UserError
from providers.netboot import dnsmasq
from providers.netboot.join import ANYBODY
from settings import load

ROOT = Path(__file__).parents[2]
LAB = load(ROOT / "tests/settings/valid/pools.yaml")


def test_the_archive_is_the_same_for_the_same_files():
    files = {"mac/a.ipxe": "one", "boot.ipxe": "two"}
    packed = boot_service.archive(files)
    assert packed == boot_service.archive(dict(reversed(files.items())))
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as tar:
        assert {name: tar.extractfile(name).read().decode() for name in tar.getnames()} == files  # type: ignore[union-attr]


def test_what_does_not_fit_a_secret_is_told():
    import random

    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=2_000_000))
    with pytest.raises(UserError, match="do not fit into a Secret"):
        boot_service.archive({"a": noise})


@pytest.mark.parametrize("arm64", ["", "http://nas/ipxe-arm64.efi"])
def test_the_pods_programs_are_shell(tmp_path: Path, arm64: str):
    for name, text in (("fetch", boot_service.fetch_program(pool.images(LAB), arm64)), ("serve", boot_service.SERVE)):
        (tmp_path / name).write_text(text)
        subprocess.run(["sh", "-n", str(tmp_path / name)], check=True)


def test_images_are_fetched_once_and_checked(tmp_path: Path):
    """The program itself, with `curl` and the pod's folders in its place."""
    image = {
        "name": "ram-r1",
        "kernel": "http://nas/vmlinuz",
        "initramfs": "http://nas/root",
        "kernel_sha256": "0" * 64,
    }
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "curl").write_text(
        '#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\necho "$3" > "$2"\necho "$3"\n'
    )
    (binaries / "curl").chmod(0o755)
    (tmp_path / "tftp").mkdir()
    (tmp_path / "tftp" / "ipxe.efi").write_text("loader")

    def run(listed: dict[str, str]) -> subprocess.CompletedProcess[str]:
        program = boot_service.fetch_program([listed]).replace("/state", f"{tmp_path}/state")
        program = program.replace("/var/lib/tftpboot", f"{tmp_path}/tftp")
        return subprocess.run(
            ["sh", "-c", program], capture_output=True, text=True, env={"PATH": f"{binaries}:/usr/bin:/bin"}
        )

    wrong = run(image)
    assert wrong.returncode != 0, "a wrong checksum"
    assert not (tmp_path / "state/images/ram-r1/kernel").exists()
    del image["kernel_sha256"]
    assert run(image).returncode == 0
    assert (tmp_path / "state/images/ram-r1/kernel").read_text() == "http://nas/vmlinuz\n"
    assert "fetching" not in run(image).stdout
    assert (tmp_path / "state/tftp/ipxe.efi").read_text() == "loader"


def test_the_pod_is_in_the_nodes_network_and_says_why_it_is_root():
    made = boot_service.pod("node2", "192.168.1.232:8069", "mark")
    spec = made["spec"]["template"]["spec"]
    assert spec["hostNetwork"]
    assert spec["nodeSelector"] == {"kubernetes.io/hostname": "node2"}
    assert made["spec"]["strategy"] == {"type": "Recreate"}
    containers = {one["name"]: one for one in spec["containers"]}
    assert containers["dnsmasq"]["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert "runAsUser" not in containers["http"]["securityContext"], "the HTTP server needs no root"
    assert "homelab/root-reason" in made["spec"]["template"]["metadata"]["annotations"]
    images = {one["image"] for one in [*spec["containers"], *spec["initContainers"]]}
    assert images == set(NETBOOT.values())
    assert all(":" in image and not image.endswith(":latest") for image in images)


def test_pools_of_the_settings_become_plain_data():
    boxes, ram = pool.plan(LAB, {"boxes": {"box1": "config/1/config.yaml", ANYBODY: "config/2/config.yaml"}})
    assert boxes.machines[0].config == "config/1/config.yaml"
    assert boxes.config == "config/2/config.yaml"
    assert boxes.image.kernel.startswith("https://factory.talos.dev/image/")
    assert boxes.image.kernel.endswith("/v1.13.9/kernel-amd64")
    assert ram.image.name == "ram-r1"
    text = dnsmasq.config(pool.service(LAB, LAB.boot_service), [boxes, ram])  # type: ignore[arg-type]
    assert "dhcp-host=02:00:00:00:01:01,set:pool-boxes,set:tag-boxes-fast,192.168.1.81,box1" in text
    assert "dhcp-option=tag:tag-boxes-fast,42,192.168.1.1" in text
    assert "dhcp-option=option:router,192.168.1.1" in text


def test_tags_become_labels_of_their_machines():
    named = pool.entries(LAB, LAB.pools["boxes"])
    assert named["box1"]["labels"] == {"example.com/rack": "left", "example.com/disk": "fast"}
    assert named[ANYBODY]["labels"] == {"example.com/rack": "left"}
    assert named["box1"]["taints"] == {"example.com/only": "batch:NoSchedule"}


def test_a_machine_without_a_generation_gets_no_config_of_talos():
    boxes = LAB.pools["boxes"]
    machine = boxes.machines["box1"].model_copy(update={"generation": 0})
    closed = boxes.model_copy(update={"machines": {"box1": machine}, "range": None})
    assert pool.entries(LAB, closed) == {}


def test_who_switches_a_machine():
    kinds = [pool.power_of(LAB, one) for each in LAB.pools.values() for one in each.machines.values()]
    assert [one["kind"] for one in kinds] == ["redfish", "wake"]
    assert kinds[0]["url"] == "https://192.168.1.80"
    assert kinds[1]["broadcast"] == "192.168.1.255"
