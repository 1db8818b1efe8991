"""What machines find on their boot partition, read back with mtools, sfdisk and tar, not with the code under test."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.disk import card as cards
from providers.disk import cmdline, marker
from providers.disk.target import Target
from providers.disk.wish import Network, Preparation
from providers.errors import FlashError, RefusedError
from tests.providers.disk import scene
from tests.providers.disk.scene import BOOT_SIZE, BOOT_START, MIB, ROOT_SIZE, card_file, loop, needs_root, on_fat, piece

pytestmark = [scene.needs_mtools, scene.needs_sfdisk]
STATIC = Network("end0", "192.168.1.40/24", "192.168.1.1", ("192.168.1.1", "9.9.9.9"), promiscuous=True)


def write(card: Path, image: Path, kind: str, preparation: Preparation, **rest: Any) -> None:
    cards.write(scene.wish(card, image, kind=kind, preparation=preparation), cache=card.parent / "cache", **rest)


def raspberry(folder: Path, size: int = 64 * MIB, **rest: Any) -> Path:
    card = card_file(folder / "card.img", size)
    write(card, scene.raspberry_image(folder / "raspios.img"), "raspberry-pi-os", scene.preparation(**rest))
    return card


def alpine(folder: Path, **rest: Any) -> Path:
    card = card_file(folder / "card.img", 600 * MIB)
    write(card, scene.alpine_image(folder / "alpine.img"), "alpine", scene.preparation(**rest))
    return card


def partitions(card: Path) -> list[tuple[int, int, str]]:
    done = subprocess.run(["sfdisk", "--json", str(card)], capture_output=True, text=True, check=True)
    table = json.loads(done.stdout)["partitiontable"]
    assert table["id"] == "0x0badcafe", "the root's PARTUUID is made of it"
    return [(part["start"] * 512, part["size"] * 512, part["type"]) for part in table["partitions"]]


def user_data(card: Path) -> dict[str, Any]:
    text = on_fat(card, "user-data").decode()
    assert text.startswith("#cloud-config\n")
    return dict(yaml.safe_load(text))


def test_raspberry_pi_os_gets_its_three_files(tmp_path: Path) -> None:
    card = raspberry(tmp_path)
    data = user_data(card)
    assert data["hostname"] == "pi1"
    assert data["ssh_pwauth"] is False
    [user] = data["users"]
    assert (user["name"], user["lock_passwd"], user["ssh_authorized_keys"]) == ("homelab", True, [scene.KEY])
    assert ["systemctl", "enable", "--now", "ssh"] in data["runcmd"]
    assert yaml.safe_load(on_fat(card, "meta-data"))["instance_id"] == "pi1-1"
    assert yaml.safe_load(on_fat(card, "network-config")) == {
        "network": {"version": 2, "ethernets": {"eth0": {"dhcp4": True}}}
    }


def test_the_kernels_words_are_added_to_its_one_line(tmp_path: Path) -> None:
    line = on_fat(raspberry(tmp_path), "cmdline.txt").decode()
    assert line == f"{scene.CMDLINE} cgroup_memory=1 cgroup_enable=memory\n"


def test_a_static_address_and_a_promiscuous_interface(tmp_path: Path) -> None:
    card = raspberry(tmp_path, network=STATIC)
    network = yaml.safe_load(on_fat(card, "network-config"))["network"]["ethernets"]
    assert network == {
        "end0": {
            "dhcp4": False,
            "addresses": ["192.168.1.40/24"],
            "routes": [{"to": "default", "via": "192.168.1.1"}],
            "nameservers": {"addresses": ["192.168.1.1", "9.9.9.9"]},
        }
    }
    data = user_data(card)
    assert "ip link set end0 promisc on" in data["write_files"][0]["content"]
    assert ["systemctl", "enable", "--now", "promiscuous.service"] in data["runcmd"]


def test_a_read_only_root_is_set_last_and_rebooted_into(tmp_path: Path) -> None:
    data = user_data(raspberry(tmp_path, read_only_root=True))
    assert data["packages"] == ["overlayroot"]
    assert [step[-1] for step in data["runcmd"][-2:]] == ["enable_bootro", "enable_overlayfs"]
    assert data["power_state"]["mode"] == "reboot"


def test_everything_else_on_the_card_is_the_image(tmp_path: Path) -> None:
    card = raspberry(tmp_path)
    assert on_fat(card, "config.txt") == b"[all]\n"
    root = piece(card, BOOT_START + BOOT_SIZE, ROOT_SIZE)
    assert root == scene.noise(ROOT_SIZE)


def test_a_larger_boot_partition_keeps_files_and_root(tmp_path: Path) -> None:
    card = raspberry(tmp_path, 160 * MIB, boot_bytes=100 * MIB)
    boot, root = partitions(card)
    assert boot == (BOOT_START, 100 * MIB, "c")
    assert root == (104 * MIB, ROOT_SIZE, "83")
    assert on_fat(card, "overlays/a.dtbo") == b"x"
    assert "cgroup_enable=memory" in on_fat(card, "cmdline.txt").decode()
    assert "bytes free" in scene.mtools("mdir", "-i", f"{card}@@{BOOT_START}", "::")
    assert piece(card, root[0], ROOT_SIZE) == scene.noise(ROOT_SIZE)
    assert not list((tmp_path / "cache").glob("*-boot*[0-9]")), "what was made for it is removed"


def test_a_smaller_boot_partition_than_the_images_own_is_as_the_image_has_it(tmp_path: Path) -> None:
    assert partitions(raspberry(tmp_path, boot_bytes=MIB))[0] == (BOOT_START, BOOT_SIZE, "c")


def unpacked(card: Path, hostname: str = "pi1") -> tuple[dict[str, str], dict[str, tarfile.TarInfo]]:
    with tarfile.open(fileobj=io.BytesIO(on_fat(card, f"{hostname}.apkovl.tar.gz"))) as archive:
        members = {item.name: item for item in archive.getmembers()}
        opened = {name: archive.extractfile(item) for name, item in members.items() if item.isfile()}
        return {name: file.read().decode() for name, file in opened.items() if file is not None}, members


def test_alpine_gets_its_overlay_and_a_second_partition(tmp_path: Path) -> None:
    card = alpine(tmp_path)
    files, members = unpacked(card)
    assert files["etc/hostname"] == "pi1\n"
    assert "iface eth0 inet dhcp" in files["etc/network/interfaces"]
    assert "openssh" in files["etc/apk/world"].split()
    assert files["etc/apk/repositories"].splitlines()[0].endswith("/v3.22/main")
    assert files["root/.ssh/authorized_keys"] == f"{scene.KEY}\n"
    assert (members["root/.ssh"].mode, members["root/.ssh/authorized_keys"].mode) == (0o700, 0o600)
    assert "etc/.default_boot_services" in members
    assert members["etc/runlevels/default/sshd"].linkname == "/etc/init.d/sshd"
    boot, system = partitions(card)
    assert boot == (BOOT_START, BOOT_SIZE, "c")
    assert system == (44 * MIB, 556 * MIB, "83"), "the rest of the card"
    assert "cgroup_enable=memory" in on_fat(card, "cmdline.txt").decode()


def test_alpines_static_address(tmp_path: Path) -> None:
    files, _ = unpacked(alpine(tmp_path, network=STATIC, hostname="berry"), "berry")
    lines = files["etc/network/interfaces"].splitlines()
    assert "iface end0 inet static" in lines
    assert "\taddress 192.168.1.40" in lines
    assert "\tnetmask 255.255.255.0" in lines
    assert "\tup ip link set $IFACE promisc on" in lines
    assert files["etc/resolv.conf"] == "nameserver 192.168.1.1\nnameserver 9.9.9.9\n"


def test_an_old_file_system_is_not_found_in_alpines_new_partition(tmp_path: Path) -> None:
    card = card_file(tmp_path / "card.img", 600 * MIB)
    with card.open("r+b") as file:
        file.seek(44 * MIB)
        file.write(scene.noise(MIB))
    write(card, scene.alpine_image(tmp_path / "alpine.img"), "alpine", scene.preparation())
    assert piece(card, 44 * MIB, MIB) == bytes(MIB)


def first_boot(folder: Path, script: str, root: str) -> list[str]:
    """Run Alpine's first-boot script with stand-ins for every program that it calls; gives their calls."""
    tools, calls = folder / "bin", folder / "calls"
    tools.mkdir()
    calls.touch()
    names = "id adduser addgroup chpasswd mkdir cp chmod chown mkfs.ext4 mount setup-disk rm sync umount reboot"
    for name in names.split():
        fails = "exit 1" if name == "id" else "exit 0"
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $* ${{KERNELOPTS:-}}" >>{calls}\n{fails}\n')
        (tools / name).chmod(0o755)
    mounts = folder / "mounts"
    mounts.write_text(
        f"{root} / {'tmpfs' if root == 'tmpfs' else 'ext4'} rw 0 0\n/dev/mmcblk0p1 /media/mmcblk0p1 vfat ro 0 0\n"
    )
    script = script.replace("/proc/mounts", str(mounts)).replace("/var/log/first-boot.log", str(folder / "log"))
    path = {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", script], env=path, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, (folder / "log").read_text()
    return [line.strip() for line in calls.read_text().splitlines()]


def test_alpines_first_boot_makes_the_second_partition_the_system(tmp_path: Path) -> None:
    files, members = unpacked(alpine(tmp_path, read_only_root=True))
    assert members["etc/local.d/first-boot.start"].mode == 0o755
    calls = first_boot(tmp_path, files["etc/local.d/first-boot.start"], "tmpfs")
    assert "adduser -D homelab" in calls
    wanted = [
        "mkfs.ext4 -q -F -L system /dev/mmcblk0p2",
        "mount -t ext4 /dev/mmcblk0p2 /mnt",
        "mount --bind /media/mmcblk0p1 /mnt/boot",
        "setup-disk -m sys /mnt console=tty1 cgroup_memory=1 cgroup_enable=memory overlaytmpfs=yes",
        "rm -f /mnt/etc/local.d/first-boot.start",
        "reboot",
    ]
    assert [call for call in calls if call in wanted] == wanted


def test_alpines_first_boot_does_nothing_on_a_system_disk(tmp_path: Path) -> None:
    files, _ = unpacked(alpine(tmp_path))
    assert first_boot(tmp_path, files["etc/local.d/first-boot.start"], "/dev/mmcblk0p2") == []


# What is found before a byte is written.


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (scene.plain_image, "raspberry-pi-os", "its first partition is no FAT"),
        (scene.alpine_image, "raspberry-pi-os", "has no user-data on its boot partition"),
        (scene.raspberry_image, "alpine", r"has no \.alpine-release"),
        (lambda file: scene.boot_image(file, {"user-data": "#\n"}), "raspberry-pi-os", r"has no cmdline\.txt"),
    ],
)
def test_an_image_of_another_kind_is_refused(tmp_path: Path, make: Any, kind: str, words: str) -> None:
    card = card_file(tmp_path / "card.img", 600 * MIB)
    with pytest.raises(FlashError, match=words):
        write(card, make(tmp_path / "a.img"), kind, scene.preparation())
    assert piece(card, 0, MIB) == scene.noise(MIB, 99)


def test_a_card_without_room_for_alpines_system_is_refused(tmp_path: Path) -> None:
    card = card_file(tmp_path / "card.img", 64 * MIB)
    with pytest.raises(FlashError, match="take a larger card"):
        write(card, scene.alpine_image(tmp_path / "alpine.img"), "alpine", scene.preparation())


def test_a_card_too_small_for_a_larger_boot_partition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="is too small for the image"):
        raspberry(tmp_path, 64 * MIB, boot_bytes=100 * MIB)


# What goes wrong after the image is on the card.


def test_a_full_boot_partition_is_told(tmp_path: Path) -> None:
    image = scene.raspberry_image(tmp_path / "raspios.img")
    big = tmp_path / "big"
    big.write_bytes(scene.noise(39 * MIB))
    scene.mtools("mcopy", "-i", f"{image}@@{BOOT_START}", str(big), "::/big")
    card = card_file(tmp_path / "card.img")
    keys = tuple(f"ssh-ed25519 AAAA{scene.noise(3000, i).hex()}" for i in range(200))
    with pytest.raises(FlashError, match="its boot partition can't be used: mcopy"):
        write(card, image, "raspberry-pi-os", scene.preparation(keys=keys))
    found = marker.read(piece(card, marker.OFFSET, marker.BYTES))
    assert found is not None
    assert found.state == marker.WRITING, "it is written anew, not taken for whole"


class Loses(Target):
    """After the image was verified, a file of the boot partition gets other bytes."""

    syncs = 0

    def sync(self) -> None:
        super().sync()
        self.syncs += 1
        if self.syncs == 4:
            scene.mtools("mdel", "-i", f"{self.disk.path}@@{BOOT_START}", "::/user-data")


def test_a_prepared_file_that_is_lost_is_noticed(tmp_path: Path) -> None:
    image, card = scene.raspberry_image(tmp_path / "raspios.img"), card_file(tmp_path / "card.img")
    with pytest.raises(FlashError, match="gives back another user-data than was written"):
        write(card, image, "raspberry-pi-os", scene.preparation(), open_target=Loses)


@needs_root
def test_a_loop_device_is_prepared_without_mounting(tmp_path: Path) -> None:
    image, card = scene.raspberry_image(tmp_path / "raspios.img"), card_file(tmp_path / "card.img")
    with loop(card) as device:
        wished = scene.wish(device, image, kind="raspberry-pi-os", preparation=scene.preparation())
        cards.write(wished, cache=tmp_path / "cache")
    assert user_data(card)["hostname"] == "pi1"


@pytest.mark.parametrize(
    ("line", "words", "expected"),
    [
        ("a b=1", ("c", "b=2"), "a c b=2"),
        ("cgroup_enable=cpuset", ("cgroup_enable=memory",), "cgroup_enable=cpuset cgroup_enable=memory"),
        ("a cgroup_memory=1 b", ("cgroup_memory=1",), "a b cgroup_memory=1"),
        (" console=a \n root=x ", ("console=b",), "console=a root=x console=b"),
    ],
)
def test_words_of_a_command_line(line: str, words: tuple[str, ...], expected: str) -> None:
    made = cmdline.with_words(line.encode(), words, "a.img")
    assert made == f"{expected}\n".encode()
    assert cmdline.with_words(made, words, "a.img") == made, "twice is once"
