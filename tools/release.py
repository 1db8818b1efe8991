"""Takes what others made: the Pulumi engine that is on PATH, the official archives of the engine and its plugins."""

from __future__ import annotations

import hashlib
import http.client
import os
import platform
import re
import shutil
import subprocess
import tarfile
import urllib.request
from pathlib import Path

from tools import pins
from tools.pins import ENGINE, Release, Tool
from tools.work import InstallError

ANSWER_S = 5.0
ARCHITECTURES = ("x86_64", "amd64"), ("aarch64", "arm64")
DIGESTS = {40: "sha1", 64: "sha256"}  # by the length of what the list says; the plugins' lists hold the former


class NotToBeHad(Exception):
    """The release can't be fetched from here; another source has to do."""


def on_path(ours: Path, path: str | None = None) -> Path | None:
    """The folder of a fitting `pulumi` on PATH with all its programs beside it; none of our own, under `ours`."""
    search = os.environ.get("PATH", os.defpath) if path is None else path
    foreign = [entry for entry in search.split(os.pathsep) if not Path(entry).is_relative_to(ours)]
    found = shutil.which(ENGINE.programs[0], path=os.pathsep.join(foreign))
    if found is None:
        return None
    folder = Path(found).resolve().parent
    complete = all((folder / program).is_file() for program in ENGINE.programs)
    return folder if complete and fits(_version(found)) else None


def fits(version: str) -> bool:
    """Whether an engine of this version can take the pinned one's place: the same major, and no older."""
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version.strip())
    if match is None:
        return False
    asked = tuple(int(part) for part in pins.PULUMI.split("."))
    given = (int(match[1]), int(match[2]), int(match[3]))
    return given[0] == asked[0] and given >= asked


def _version(program: str) -> str:
    try:
        done = subprocess.run(
            [program, "version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def link(folder: Path, target: Path) -> None:
    """Let `target` point at the programs of an installed engine."""
    for program in ENGINE.programs:
        (target / program).symlink_to(folder / program)


def archive_name(release: Release, machine: str | None = None) -> str:
    """What the archive for this machine is called.

    Raises:
        NotToBeHad: there is none.
    """
    machine = (machine or platform.machine()).lower()
    words = [word for word, names in zip(release.architectures, ARCHITECTURES, strict=True) if machine in names]
    if not words:
        raise NotToBeHad(f"no release for {machine}")
    return release.archive.format(system=platform.system().lower(), architecture=words[0])


def fetch(tool: Tool, release: Release, target: Path, scratch: Path) -> None:
    """Download a tool's release into `scratch`, check it and unpack its programs into `target`.

    The checksum comes from the release's own list, over the same HTTPS host as the archive. So it proves that the
    archive arrived whole and is the one that the list names; it does not prove who made either, as a checksum pinned
    here would. The project has none to pin: nobody here has had a release archive to compute it from.

    Raises:
        NotToBeHad: the host is not reached, or the release isn't there.
        InstallError: the archive is not what the release's list says, or lacks a program.
    """
    name = archive_name(release)
    checksums, archive = scratch / "checksums.txt", scratch / name
    _download(f"{release.folder}/{release.checksums}", checksums)
    wanted = listed(checksums.read_text(errors="replace"), name)
    _download(f"{release.folder}/{name}", archive)
    found = _digest(archive, wanted)
    if found != wanted:
        raise InstallError(
            f"{name}: its {DIGESTS[len(wanted)]} is {found}, but the release's list says {wanted}."
            " Not used; try again later."
        )
    unpack(tool, release, archive, target)


def listed(checksums: str, name: str) -> str:
    """The checksum that a list gives for a file, in hex.

    Raises:
        NotToBeHad: it isn't in the list, or of no kind that is known.
    """
    for line in checksums.splitlines():
        parts = line.split()
        if len(parts) == 2 and parts[1].lstrip("*").removeprefix("./") == name and len(parts[0]) in DIGESTS:
            return parts[0].lower()
    raise NotToBeHad(f"the release lists no checksum for {name}")


def _digest(path: Path, like: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, DIGESTS[len(like)]).hexdigest()


def unpack(tool: Tool, release: Release, archive: Path, target: Path) -> None:
    """Take a tool's programs out of its release archive, and nothing else.

    Raises:
        InstallError: one of them is not in it.
    """
    with tarfile.open(archive) as tar:
        members = {member.name.removeprefix("./"): member for member in tar if member.isfile()}
        for program in tool.programs:
            source = tar.extractfile(members[name]) if (name := f"{release.inside}{program}") in members else None
            if source is None:
                raise InstallError(f"{archive.name} holds no {program}")
            with source, (target / program).open("wb") as out:
                shutil.copyfileobj(source, out)
            (target / program).chmod(0o755)


def _download(url: str, target: Path) -> None:
    """Write what a URL gives into a file."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer, target.open("wb") as out:  # noqa: S310
            shutil.copyfileobj(answer, out, 1 << 20)
    except (OSError, http.client.HTTPException) as exc:
        raise NotToBeHad(f"{url}: {exc}") from None
