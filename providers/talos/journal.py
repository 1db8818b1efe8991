"""What a restore has done, kept beside the credentials: so that one that was interrupted goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from providers.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One restore under way. Nodes are known by the kernel's id of a boot: a reboot makes every note worthless.

    Attributes:
        snapshot: the checksum of what is restored.
        empty: boots that were begun by a wipe and have no etcd yet.
        node: on which etcd was begun from the snapshot, or "".
        boot: that node's boot.
        restarted: workers that were rebooted since.
        wiping: control planes have been told to wipe themselves, and may be rebooting.
    """

    snapshot: str
    empty: tuple[str, ...] = ()
    node: str = ""
    boot: str = ""
    restarted: tuple[str, ...] = ()
    wiping: bool = False


class Journal:
    """The notes of one stack's restore.

    Args:
        path: the file; it is there only while a restore is under way.
        snapshot: the checksum of what is to be restored. Notes on another one count for nothing.
    """

    def __init__(self, path: Path, snapshot: str) -> None:
        self._path = path
        self.entry = self._read(snapshot)

    @property
    def resumes(self) -> bool:
        """Whether a restore of this snapshot was begun before."""
        return self._path.exists() and self.entry != Entry(self.entry.snapshot)

    def begin(self) -> None:
        """The first control planes are about to be told to wipe themselves."""
        self._write(replace(self.entry, wiping=True))

    def emptied(self, boots: Iterable[str]) -> None:
        """Every control plane is empty, in these boots."""
        self._write(replace(self.entry, empty=tuple(sorted(boots)), node="", boot="", restarted=()))

    def begun(self, node: str, boot: str) -> None:
        """A node with the snapshot is about to be told to begin."""
        self._write(replace(self.entry, node=node, boot=boot))

    def restarted(self, worker: str) -> None:
        """A worker has been rebooted."""
        self._write(replace(self.entry, restarted=(*self.entry.restarted, worker)))

    def end(self) -> None:
        """The restore is done."""
        self._path.unlink(missing_ok=True)

    def _read(self, snapshot: str) -> Entry:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()}
            entry = Entry(**fields)
        except (OSError, ValueError, TypeError, AttributeError):  # none, or of no use: everything is done again
            return Entry(snapshot)
        return entry if entry.snapshot == snapshot else Entry(snapshot)

    def _write(self, entry: Entry) -> None:
        self.entry = entry
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh.write_text(json.dumps(asdict(entry)), encoding="utf-8")
            fresh.replace(self._path)
        except OSError as error:
            raise UserError(f"{self._path}: can't be written: {error.strerror}") from None
