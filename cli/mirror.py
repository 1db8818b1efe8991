"""A folder with all charts of a lab and the list of its images, for a lab without internet."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cli.stacks import Stack
from components.images_needed import Needed, needed
from providers.charts import Library, write
from providers.errors import ProtocolError, RefusedError, UserError
from settings import load

INDEX = "index.yaml"
IMAGES = "images.txt"
_IMAGE = re.compile(r"[\w.:-]+(/[\w.-]+)+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Archive:
    """A chart in the folder.

    Attributes:
        about: its Chart.yaml, which a repository's index repeats.
        sha256: of the archive, in hex.
        new: whether it was written now; else the same was there.
    """

    file: str
    about: Mapping[str, Any]
    sha256: str
    new: bool

    @property
    def entry(self) -> dict[str, Any]:
        """Its entry in the index."""
        return {**self.about, "digest": self.sha256, "urls": [self.file]}


@dataclass(frozen=True)
class Mirrored:
    """What `homelab mirror` made."""

    folder: Path
    archives: tuple[Archive, ...]
    needed: Needed

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        charts = [
            {"name": it.about["name"], "version": it.about["version"], "file": it.file, "sha256": it.sha256}
            | {"new": it.new}
            for it in self.archives
        ]
        found = self.needed
        lists = {"images": list(found.images), "disk_images": list(found.disk_images), "notes": list(found.notes)}
        return {"folder": str(self.folder), "charts": charts, **lists}


def make(stack: Stack, folder: Path, say: Say, *, everything: bool = False) -> Mirrored:
    """Fetch the charts from their own repositories and lay them down as a repository; list the images.

    Charts that are in the folder stay, whoever put them there. Run again, it writes what has changed.

    Args:
        stack: whose settings; no secret of theirs is needed.
        folder: made if it isn't there.
        say: is told of each chart.
        everything: also what the parts need that are off.

    Raises:
        UserError: the folder can't be written, or what is in it is not of such a mirror.
        RefusedError: another file has an archive's name, or a chart changed under its version.
        UnreachableError: a repository gives no answer.
        ProtocolError: a repository gives something that is no chart.
    """
    wanted = needed(load(stack.settings_file), everything=everything)
    place = folder.expanduser().absolute()
    try:
        known = _opened(place)
        fetched = _fetch(stack, wanted, say)
        archives = tuple(_lay(place, path, say) for path in fetched)
        _put(place / INDEX, _index(known, archives))
        _put(place / IMAGES, "".join(f"{name}\n" for name in wanted.images).encode())
    except OSError as error:
        raise UserError(f"{error.filename or place}: can't be written or read: {error.strerror}") from None
    return Mirrored(place, archives, wanted)


def _opened(place: Path) -> dict[str, Any]:
    """The folder's index as it is, once everything in the way has been looked at."""
    if place.exists() and not place.is_dir():
        raise UserError(f"{place}: is a file; name a folder")
    place.mkdir(parents=True, exist_ok=True)
    images = place / IMAGES
    lines = images.read_text(encoding="utf-8", errors="replace").splitlines() if images.exists() else []
    if not all(_IMAGE.fullmatch(line) for line in lines):
        raise UserError(f"{images}: is no list of images; move it away, or name another folder")
    return _read_index(place / INDEX)


def _read_index(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {"apiVersion": "v1", "entries": {}}
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("entries"), dict):
        raise UserError(f"{file}: is not the index of a chart repository; move it away, or name another folder")
    return found


def _fetch(stack: Stack, wanted: Needed, say: Say) -> list[Path]:
    """All archives, before the folder is touched: digests are checked against charts.lock.yaml, as in an `up`."""
    library = Library(stack.local / "charts", stack.root / "charts.lock.yaml")
    paths = []
    for number, (name, source) in enumerate(wanted.charts.items(), 1):
        say(f"chart {number} of {len(wanted.charts)}: {name} {source.version} from {source.repo}")
        paths.append(Path(library.archive(source.repo, name, source.version)))
    return paths


def _lay(place: Path, archive: Path, say: Say) -> Archive:
    data = archive.read_bytes()
    digest, target = hashlib.sha256(data).hexdigest(), place / archive.name
    new = not target.exists()
    if not new and hashlib.sha256(target.read_bytes()).hexdigest() != digest:
        raise RefusedError(
            f"{target}: is another file than the chart of that name, which has the SHA-256 {digest}; move it away"
        )
    if new:
        _put(target, data)
        say(f"wrote {target}")
    return Archive(archive.name, _about(archive), digest, new)


def _about(archive: Path) -> dict[str, Any]:
    """A chart's Chart.yaml: the one that lies in the archive's only folder."""
    try:
        with tarfile.open(archive) as tar:
            names = [name for name in tar.getnames() if re.fullmatch(r"[^/]+/Chart\.yaml", name.removeprefix("./"))]
            file = tar.extractfile(names[0]) if names else None
            found = yaml.safe_load(file.read()) if file else None
    except (tarfile.TarError, yaml.YAMLError, EOFError) as error:
        raise ProtocolError(f"{archive}: is damaged ({error}); remove it and try again") from error
    if not isinstance(found, dict) or not {"name", "version"} <= set(found):
        raise ProtocolError(f"{archive}: holds no chart; remove it and try again")
    return found


def _index(known: dict[str, Any], archives: tuple[Archive, ...]) -> bytes:
    """The index with these charts in it; what it had of others stays. Without times: the same again is the same."""
    entries = {name: list(versions or ()) for name, versions in known["entries"].items()}
    for archive in archives:
        name, version = str(archive.about["name"]), str(archive.about["version"])
        others = [entry for entry in entries.get(name, ()) if str(entry.get("version")) != version]
        entries[name] = [archive.entry, *others]
    return yaml.safe_dump({**known, "entries": entries}, width=200, allow_unicode=True).encode()


def _put(file: Path, data: bytes) -> None:
    """Whole or not at all, readable for a web server; a file that is so already is left alone."""
    if file.exists() and file.read_bytes() == data:
        return
    write(file, data)
