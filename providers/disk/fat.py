"""Files on a FAT inside a disk or image, by mtools at the partition's offset: nothing is mounted, nobody needs root.

The kernel need not know the partitions: a machine may have no driver for FAT, and a desktop's automounter sees
nothing to mount.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from providers.disk.table import Partition
from providers.errors import FlashError, RefusedError

LIMIT_S = 300
_TOOLS = ("mcopy", "mdir", "mformat")


def require_tools() -> None:
    """See that mtools is installed, before a card is touched that would need it.

    Raises:
        RefusedError: it is not.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise RefusedError(
            f"{', '.join(missing)}: not found on this machine; install the package mtools, run this again"
        )


class Fat:
    """The FAT at an offset of a disk or file.

    Args:
        path: of the disk or file.
        offset: where the file system begins, in bytes.
        where: the subject of messages.
    """

    def __init__(self, path: str | Path, offset: int, where: str) -> None:
        self._image = f"{path}@@{offset}"
        self._where = where

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None when there is no such file.

        Raises:
            FlashError: the file system can't be read.
        """
        if name.lower() not in self.names():
            return None
        with tempfile.TemporaryDirectory(prefix="homelab-card-") as folder:
            self._run("mcopy", "-n", "-i", self._image, f"::/{name}", f"{folder}/file")
            return Path(folder, "file").read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Put a file into the file system's root, in place of one of that name.

        Raises:
            FlashError: it can't be written, or is full.
        """
        with tempfile.TemporaryDirectory(prefix="homelab-card-") as folder:
            file = Path(folder, "file")
            file.write_bytes(content)
            self._run("mcopy", "-o", "-i", self._image, str(file), f"::/{name}")

    def names(self) -> set[str]:
        """What the file system's root holds, in lower case.

        Raises:
            FlashError: there is no FAT.
        """
        listed = self._run("mdir", "-b", "-a", "-i", self._image, "::/")
        return {line.removeprefix("::/").rstrip("/").lower() for line in listed.splitlines() if line}

    def copy_to(self, other: Fat) -> None:
        """All files and folders into another file system.

        Raises:
            FlashError: they can't be read or written.
        """
        with tempfile.TemporaryDirectory(prefix="homelab-card-") as folder:
            self._run("mcopy", "-s", "-n", "-p", "-m", "-i", self._image, "::/*", folder)
            found = sorted(str(path) for path in Path(folder).iterdir())
            other._run("mcopy", "-s", "-o", "-p", "-m", "-i", other._image, *found, "::/")

    def format(self, partition: Partition, label: str) -> None:
        """Make an empty FAT32 as large as a partition.

        Raises:
            FlashError: it can't be made.
        """
        sectors, hidden = partition.size // 512, partition.start // 512
        size = ("-T", str(sectors), "-H", str(hidden), "-h", "255", "-s", "63")
        self._run("mformat", "-F", *size, "-v", label, "-i", self._image, "::")

    def _run(self, *command: str) -> str:
        environment = {**os.environ, "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False, env=environment
            )
        except FileNotFoundError:
            raise RefusedError(f"{command[0]}: not found on this machine; install the package mtools") from None
        except subprocess.TimeoutExpired:
            raise FlashError(f"{self._where}: {command[0]} did not end within {LIMIT_S} s") from None
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().replace("\n", "; ")
            raise FlashError(f"{self._where}: its boot partition can't be used: {command[0]}: {said}")
        return done.stdout
