"""Images and cards that a test makes: small, with the layout of the real ones."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from providers.disk.wish import Network, Preparation, Wish

MIB = 1 << 20
BOOT_START, BOOT_SIZE, ROOT_SIZE = 4 * MIB, 40 * MIB, 6 * MIB
CMDLINE = (
    "console=serial0,115200 console=tty1 root=PARTUUID=0badcafe-02 rootfstype=ext4 fsck.repair=yes rootwait resize"
)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVzZXI me@desk"

needs_mtools = pytest.mark.skipif(
    shutil.which("mcopy") is None, reason="mtools (a distribution package) is not installed"
)
needs_sfdisk = pytest.mark.skipif(
    shutil.which("sfdisk") is None, reason="sfdisk (the distribution package fdisk) is not installed"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def mbr(*partitions: tuple[int, int, int]) -> bytes:
    """A table with a signature; partitions are start and size in bytes, and a type."""
    entries = b"".join(struct.pack("<B3sB3sII", 0, b"\0" * 3, kind, b"\0" * 3, start // 512, size // 512)
                       for start, size, kind in partitions)  # fmt: skip
    return b"\0" * 440 + struct.pack("<IH", 0x0BADCAFE, 0) + entries.ljust(64, b"\0") + b"\x55\xaa"


def plain_image(file: Path, size: int = 9 * MIB, seed: int = 1) -> Path:
    """Something like Talos' own: one partition, every byte of it noise."""
    start = 2 * MIB
    file.write_bytes(mbr((start, size - start, 0x83)).ljust(start, b"\0") + noise(size - start, seed))
    return file


def mtools(*command: str) -> str:
    environment = {**os.environ, "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def boot_image(file: Path, files: dict[str, str], *, root: bool = True) -> Path:
    """A boot partition with files, and perhaps a root of noise behind it."""
    end = BOOT_START + BOOT_SIZE
    parts = [(BOOT_START, BOOT_SIZE, 0x0C)] + ([(end, ROOT_SIZE, 0x83)] if root else [])
    with file.open("wb") as out:
        out.write(mbr(*parts))
        out.truncate(end)
        if root:
            out.seek(end)
            out.write(noise(ROOT_SIZE))
    at = f"{file}@@{BOOT_START}"
    mtools("mformat", "-F", "-T", str(BOOT_SIZE // 512), "-h", "255", "-s", "63", "-i", at, "::")
    for name, text in files.items():
        source = file.with_name("one-file")
        source.write_text(text)
        folder = name.rpartition("/")[0]
        if folder:
            mtools("mmd", "-i", at, f"::/{folder}")
        mtools("mcopy", "-i", at, str(source), f"::/{name}")
    return file


def raspberry_image(file: Path) -> Path:
    templates = dict.fromkeys(("user-data", "meta-data", "network-config"), "# a template\n")
    return boot_image(
        file, {"cmdline.txt": CMDLINE + "\n", "config.txt": "[all]\n", **templates, "overlays/a.dtbo": "x"}
    )


def alpine_image(file: Path) -> Path:
    words = "modules=loop,squashfs,sd-mod,usb-storage quiet console=tty1\n"
    return boot_image(file, {"cmdline.txt": words, ".alpine-release": "alpine-rpi-3.22.1 250715\n"}, root=False)


def card_file(file: Path, size: int = 64 * MIB) -> Path:
    """An image file that plays a card; what was on it is not zero."""
    with file.open("wb") as out:
        out.write(noise(MIB, 99))
        out.truncate(size)
    return file


def wish(disk: Path | str, image: Path, **rest: object) -> Wish:
    whole = Wish(
        card="pi1", disk=str(disk), serial="", min_bytes=MIB, max_bytes=4096 * MIB, image=str(image), sha256="",
        kind="talos", generation=1,
    )  # fmt: skip
    return replace(whole, **rest)  # type: ignore[arg-type]


def preparation(**rest: object) -> Preparation:
    whole = Preparation("pi1", "homelab", (KEY,), Network(), ("cgroup_memory=1", "cgroup_enable=memory"))
    return replace(whole, **rest)  # type: ignore[arg-type]


def on_fat(card: Path, name: str, offset: int = BOOT_START) -> bytes:
    """A file of a card's boot partition, read with mtools by the test itself."""
    out = card.with_name("read-back")
    mtools("mcopy", "-n", "-o", "-i", f"{card}@@{offset}", f"::/{name}", str(out))
    return out.read_bytes()


def piece(card: Path, offset: int, size: int) -> bytes:
    """A piece of a card, without reading all of it."""
    with card.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def loop(file: Path, *options: str) -> Iterator[Path]:
    """A loop device over a file."""
    command = ["losetup", "--find", "--show", *options, str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no loop device to be had: {done.stderr.strip()}")
    device = Path(done.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=False)
