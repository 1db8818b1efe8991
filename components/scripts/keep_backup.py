"""Puts a fresh snapshot of etcd where backups are kept: verified, under its final name or not at all; old ones go.

Runs in the backup job's pod, with `providers/talos/snapshot.py` and what that needs beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from providers.errors import HomelabError, ProtocolError
from providers.talos import snapshot
from providers.talos.snapshot import Snapshot

STAMP = "%Y%m%dT%H%M%SZ"
LEFTOVER = timedelta(days=1)
MB = 1_000_000


@dataclass(frozen=True)
class Rules:
    """What is kept.

    Attributes:
        keep: so many of the newest stay, whatever their age.
        max_age: older ones beyond those go.
        minimum_bytes: a smaller snapshot is none.
    """

    keep: int
    max_age: timedelta
    minimum_bytes: int


def name(cluster: str, at: datetime) -> str:
    """A backup's file name; it says when."""
    return f"etcd-{cluster}-{at.astimezone(UTC).strftime(STAMP)}.db"


def taken_at(path: Path, cluster: str) -> datetime | None:
    """When a backup was taken, from its name; None for a file that is none."""
    found = re.fullmatch(rf"etcd-{re.escape(cluster)}-(\d{{8}}T\d{{6}}Z)\.db", path.name)
    return datetime.strptime(found[1], STAMP).replace(tzinfo=UTC) if found else None


def backups(folder: Path, cluster: str) -> list[tuple[datetime, Path]]:
    """The backups in a folder, the oldest first."""
    listed = ((taken_at(path, cluster), path) for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted((at, path) for at, path in listed if at is not None)


def keep(fresh: Path, folder: Path, cluster: str, rules: Rules, now: datetime) -> Path:
    """Verify a snapshot and give it its place; then let old ones go.

    What lies in the folder under a backup's name is always whole: it is copied beside, read back, and renamed.

    Raises:
        ProtocolError: it is damaged or too small, or was damaged on the way.
    """
    found = snapshot.read(fresh)
    if found.size_bytes < rules.minimum_bytes:
        raise ProtocolError(
            f"{fresh}: {found.size_bytes} bytes are less than the {rules.minimum_bytes} of the settings"
        )
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name(cluster, now)
    part = target.with_name(f".{target.name}.part")
    try:
        _copied(fresh, part)
        if snapshot.read(part).sha256 != found.sha256:
            raise ProtocolError(f"{target}: what was written is not what was sent")
        _note(target, found)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    _forget_old(folder, cluster, rules, now)
    return target


def note(path: Path) -> Path:
    """The file beside a backup that says what verifying it found."""
    return path.with_suffix(".json")


def _copied(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o600)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _note(target: Path, found: Snapshot) -> None:
    words = {"revision": found.revision, "keys": found.keys, "sha256": found.sha256, "size_bytes": found.size_bytes}
    note(target).write_text(json.dumps(words), encoding="utf-8")


def _forget_old(folder: Path, cluster: str, rules: Rules, now: datetime) -> None:
    """Backups beyond the newest that are too old, and what killed runs left; nothing else in the folder."""
    for at, path in backups(folder, cluster)[: -rules.keep]:
        if now - at > rules.max_age:
            path.unlink()
            note(path).unlink(missing_ok=True)
    for path in folder.glob(f".etcd-{cluster}-*.part"):
        if now.timestamp() - path.stat().st_mtime > LEFTOVER.total_seconds():
            path.unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    """The job's command."""
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--snapshot", "--folder"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--cluster", required=True)
    for flag in ("--keep", "--max-age-days", "--minimum-mb"):
        parser.add_argument(flag, type=int, required=True)
    given = parser.parse_args(arguments)
    rules = Rules(given.keep, timedelta(days=given.max_age_days), given.minimum_mb * MB)
    try:
        kept = keep(given.snapshot, given.folder, given.cluster, rules, datetime.now(UTC))
    except (HomelabError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{kept}: {note(kept).read_text(encoding='utf-8')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
