"""A note on this machine that a disk is just being written, so that a killed flash is known for what it is.

A module with half an image boots something that never answers, and so does somebody's own system on a disk that must
not be touched. The note is what tells them apart.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(".homelab") / "flashing"


def _path(board: str, slot: int) -> Path:
    return FOLDER / f"{re.sub(r'[^A-Za-z0-9.]+', '-', board)}-{slot}"


def interrupted(board: str, slot: int) -> bool:
    """Whether a flash of this slot began here and did not end."""
    return _path(board, slot).exists()


def forget(board: str, slot: int) -> None:
    """The disk was seen to be whole after all."""
    _path(board, slot).unlink(missing_ok=True)


@contextlib.contextmanager
def writing(board: str, slot: int) -> Iterator[None]:
    """Leave the note while the body runs, and after it unless it succeeded."""
    path = _path(board, slot)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
        os.fsync(file.fileno())
    yield
    path.unlink()
