"""When each orphan was seen first. What was seen twice, and some time apart, is no passing thing."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from drift.findings import Finding, Report
from providers import pace
from providers.errors import UserError

APART_S = 600.0  # device seconds between the first sighting and the one that may remove
Sightings = Mapping[str, datetime]


def apart() -> timedelta:
    """How long after its first sighting an orphan may go: ten minutes, of the twin's own time on a twin."""
    return timedelta(seconds=APART_S * pace.scale())


def read(path: Path) -> dict[str, datetime]:
    """What was noted; nothing where nothing was.

    Raises:
        UserError: the file is damaged.
    """
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): datetime.fromisoformat(at) for key, at in noted["first_seen"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: can't be read ({error}); delete it, and every orphan is a new one") from None


def write(path: Path, sightings: Sightings) -> None:
    """Note them. The file is there whole or not at all."""
    kept = {key: at.isoformat() for key, at in sorted(sightings.items())}
    put(path, json.dumps({"first_seen": kept}, indent=2) + "\n", mode=0o600)


def noted(before: Sightings, report: Report, now: datetime) -> dict[str, datetime]:
    """The sightings after a look: those of what is there, and of what could not be looked for."""
    there = {finding.key: min(before.get(finding.key, now), now) for finding in report.orphans}
    unseen = {key: at for key, at in before.items() if key not in there and report.hides(key)}
    return {**unseen, **there}


def dated(report: Report, sightings: Sightings) -> Report:
    """The report with the first sighting of each orphan."""
    known = (f.since(sightings[f.key]) if f.key in sightings else f for f in report.findings)
    return replace(report, findings=tuple(known))


def seen_twice(finding: Finding, now: datetime, wait: timedelta) -> bool:
    """Whether an orphan was there long enough ago, and still is."""
    first = finding.first_seen
    return first is not None and now - first >= wait and first < now


def put(path: Path, text: str, mode: int) -> None:
    """Write a file so that nobody ever reads half of it.

    Raises:
        UserError: it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None
    fresh = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(mode)
        fresh.replace(path)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None
    finally:
        fresh.unlink(missing_ok=True)
