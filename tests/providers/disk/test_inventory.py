"""What `lsblk` and sysfs say of disks, as answers that were seen or that their documentation gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from providers.disk import inventory, proof
from providers.disk.inventory import Disk, Kind, Machine
from providers.disk.wish import Wish
from providers.errors import ProtocolError, RefusedError

GB = 10**9


def item(name: str, **rest: Any) -> dict[str, Any]:
    plain = {
        "name": name, "path": f"/dev/{name}", "type": "disk", "size": 32 * GB, "ro": False, "rm": True,
        "hotplug": True, "tran": "usb", "serial": "0123", "model": "SD_Reader", "label": None, "fstype": None,
        "mountpoints": [None], "maj:min": "8:16",
    }  # fmt: skip
    return {**plain, **rest}


def partition(name: str, **rest: Any) -> dict[str, Any]:
    return item(name, type="part", **{"maj:min": "8:17"} | rest)


def machine(folder: Path, *system: str) -> Machine:
    return Machine(folder / "sys", (str(folder / "by-id"),), frozenset(system))


def seen(folder: Path, *items: dict[str, Any], system: tuple[str, ...] = ("254:0",)) -> list[Disk]:
    return list(inventory.parsed(json.dumps({"blockdevices": items}), machine(folder, *system)))


def wish(disk: str = "/dev/sdb", serial: str = "", low: int = 8, high: int = 64) -> Wish:
    return Wish("pi1", disk, serial, low * GB, high * GB, "a.img", "", "talos", 1)


def refusal(disks: list[Disk], wished: Wish | None = None) -> str:
    with pytest.raises(RefusedError) as caught:
        proof.prove(wished or wish(), disks)
    assert "cards.pi1" in str(caught.value)
    return str(caught.value)


def test_a_card_in_a_reader_is_taken(tmp_path: Path) -> None:
    disks = seen(tmp_path, item("sda", **{"maj:min": "8:0"}), item("sdb", children=[partition("sdb1", fstype="vfat")]))
    found = proof.prove(wish(), disks)
    assert (found.path, found.serial, found.holds) == ("/dev/sdb", "0123", ("sdb1: vfat",))


def test_old_util_linux_says_numbers_and_booleans_as_texts(tmp_path: Path) -> None:
    [disk] = seen(tmp_path, item("sdb", size=str(32 * GB), ro="0", rm="1", hotplug="1"))
    assert (disk.size_bytes, disk.read_only, disk.removable) == (32 * GB, False, True)


def test_without_udev_sysfs_tells_transport_serial_and_model(tmp_path: Path) -> None:
    real = tmp_path / "sys/devices/platform/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0"
    (real / "device").mkdir(parents=True)
    (real / "device/serial").write_text("0x1234abcd\n")
    (real / "device/name").write_text("SC32G\n")
    (tmp_path / "sys/block").mkdir()
    (tmp_path / "sys/block/mmcblk0").symlink_to(real)
    blank = {"tran": None, "serial": None, "model": None, "rm": False, "hotplug": False}
    [disk] = seen(tmp_path, item("mmcblk0", **blank))
    assert (disk.transport, disk.serial, disk.model, disk.removable) == ("mmc", "0x1234abcd", "SC32G", True)
    assert proof.prove(wish("", serial="0x1234abcd"), [disk]) is disk


def test_a_name_that_stays_is_followed(tmp_path: Path) -> None:
    (tmp_path / "by-id").mkdir()
    (tmp_path / "by-id/usb-Reader_0123").symlink_to("/dev/sdb")
    disks = seen(tmp_path, item("sdb"))
    assert disks[0].links == (f"{tmp_path}/by-id/usb-Reader_0123",)
    assert proof.prove(wish(f"{tmp_path}/by-id/usb-Reader_0123"), disks).path == "/dev/sdb"


def test_another_serial_is_refused(tmp_path: Path) -> None:
    said = refusal(seen(tmp_path, item("sdb")), wish(serial="9999"))
    assert "its serial is 0123, and the settings say 9999" in said


def test_a_serial_that_nobody_or_that_two_have_is_refused(tmp_path: Path) -> None:
    twins = seen(tmp_path, item("sdb"), item("sdc", **{"maj:min": "8:32"}))
    assert "no disk has the serial 9" in refusal(twins, wish("", serial="9"))
    assert "/dev/sdb and /dev/sdc have the serial 0123" in refusal(twins, wish("", serial="0123"))


@pytest.mark.parametrize(("size", "words"), [(4 * GB, "4.0 GB"), (2000 * GB, "2000.0 GB")])
def test_a_wrong_size_is_refused(tmp_path: Path, size: int, words: str) -> None:
    said = refusal(seen(tmp_path, item("sdb", size=size)))
    assert f"it has {words}, and the settings say 8.0 GB to 64.0 GB" in said


def test_an_empty_reader_is_refused(tmp_path: Path) -> None:
    assert "no card is in the reader" in refusal(seen(tmp_path, item("sdb", size=0)))


def test_a_mounted_partition_is_refused(tmp_path: Path) -> None:
    said = refusal(seen(tmp_path, item("sdb", children=[partition("sdb1", mountpoints=["/media/photos", None])])))
    assert "umount /media/photos" in said


def test_swap_on_it_is_refused(tmp_path: Path) -> None:
    said = refusal(seen(tmp_path, item("sdb", children=[partition("sdb2", mountpoints=["[SWAP]"])])))
    assert "this machine runs from it" in said


@pytest.mark.parametrize("mount", ["/", "/boot/firmware"])
def test_the_system_disk_is_refused_by_its_mounts(tmp_path: Path, mount: str) -> None:
    disks = seen(tmp_path, item("mmcblk0", tran="mmc", children=[partition("mmcblk0p2", mountpoints=[mount])]))
    assert "this machine runs from it" in refusal(disks, wish("/dev/mmcblk0"))


def test_the_system_disk_is_refused_in_a_container_that_sees_no_mounts(tmp_path: Path) -> None:
    disks = seen(tmp_path, item("sdb", children=[partition("sdb1")]), system=("8:17",))
    assert "this machine runs from it" in refusal(disks)


def test_what_is_no_card_is_refused(tmp_path: Path) -> None:
    said = refusal(seen(tmp_path, item("sdb", rm=False, hotplug=False, tran="sata")))
    assert "it is not removable" in said
    assert "hangs on sata" in said


def test_a_disk_that_hangs_on_something_unknown_is_refused(tmp_path: Path) -> None:
    assert "nobody knows what" in refusal(seen(tmp_path, item("sdb", tran=None)))


def test_a_card_with_its_lock_switch_on_is_refused(tmp_path: Path) -> None:
    assert "lock switch" in refusal(seen(tmp_path, item("sdb", ro=True)))


def test_a_disk_under_lvm_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sys/block/sdb/sdb1/holders/dm-0").mkdir(parents=True)
    assert "dm-0 is built on it" in refusal(seen(tmp_path, item("sdb", children=[partition("sdb1")])))


@pytest.mark.parametrize(("name", "kind"), [("sdb1", "part"), ("zram0", "disk"), ("md0", "raid1"), ("sr0", "rom")])
def test_what_is_no_whole_disk_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    assert "it is no whole disk" in refusal(seen(tmp_path, item(name, type=kind)), wish(f"/dev/{name}"))


def test_all_reasons_are_told_at_once(tmp_path: Path) -> None:
    said = refusal(seen(tmp_path, item("sdb", ro=True, size=GB, mountpoints=["/mnt"])), wish(serial="9"))
    assert all(word in said for word in ("serial", "mounted", "lock switch", "1.0 GB"))


def test_a_disk_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    said = refusal(seen(tmp_path, item("sda")), wish(str(tmp_path / "none")))
    assert "homelab cards" in said
    assert "set its generation to 0" in said


def test_a_folder_is_no_card(tmp_path: Path) -> None:
    assert "there is no disk" in refusal([], wish(str(tmp_path)))


@pytest.mark.parametrize("answer", ["", "{}", "[]", '{"blockdevices": [{"name": "sda"}]}'])
def test_an_answer_that_is_none_is_told(tmp_path: Path, answer: str) -> None:
    with pytest.raises(ProtocolError, match="util-linux"):
        inventory.parsed(answer, machine(tmp_path))


def test_this_machines_own_disks_are_read() -> None:
    system = [disk for disk in inventory.disks() if disk.runs_system]
    for disk in system:
        assert any("runs from it" in reason for reason in proof.refusals(wish(disk.path), disk))
    assert all(disk.kind in Kind for disk in inventory.disks())
