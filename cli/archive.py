"""A stack's state in one file: the exported checkpoint, the settings and Pulumi.yaml of the moment, and their sums.

The checkpoint's secrets stay encrypted as they are in the state, with the stack's passphrase or provider.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.backends import PROJECT_FILE
from cli.locks import PROJECT
from cli.running import moment
from cli.stacks import Stack
from providers.errors import ProtocolError, UserError

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"
MOST_BYTES = 1 << 30  # of one file; a state has a few megabytes


@dataclass(frozen=True)
class State:
    """An exported checkpoint.

    Attributes:
        text: as the engine gave it.
    """

    text: str = field(repr=False)

    @property
    def deployment(self) -> dict[str, Any]:
        """The checkpoint; empty for a stack that never had an `up`."""
        return json.loads(self.text).get("deployment") or {}

    @property
    def urns(self) -> list[str]:
        """Its resources."""
        return [str(one["urn"]) for one in self.deployment.get("resources") or ()]

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes in it."""
        return sorted(urn.rsplit("::", 1)[-1] for urn in self.urns if urn.split("::")[2] == f"{PROJECT}:Node")

    @property
    def written(self) -> datetime | None:
        """When the engine wrote it."""
        return moment(str((self.deployment.get("manifest") or {}).get("time", "")))

    @property
    def secrets(self) -> tuple[str, dict[str, Any]]:
        """Who encrypted its secrets ("passphrase", "service", "cloud" or ""), and that provider's own state."""
        provider = self.deployment.get("secrets_providers") or {}
        return str(provider.get("type", "")), provider.get("state") or {}


@dataclass(frozen=True)
class Archive:
    """An archive that was read and is whole.

    Attributes:
        stack: whose it is.
        made: when.
        reason: "by hand", or what it was made before.
        files: name -> content.
    """

    path: Path
    stack: str
    made: datetime
    reason: str
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def state(self) -> State:
        """The checkpoint."""
        return State(self.files[STATE].decode())

    @property
    def settings(self) -> bytes:
        """The settings file of that moment."""
        return self.files[f"Pulumi.{self.stack}.yaml"]

    @property
    def digest(self) -> str:
        """The checkpoint's SHA-256."""
        return _digest(self.files[STATE])


def write(path: Path, stack: Stack, state: State, reason: str, now: datetime | None = None) -> Archive:
    """Write an archive: whole or not at all, readable by the owner only.

    Raises:
        UserError: it can't be written.
    """
    made = now or datetime.now(UTC)
    try:
        project = stack.root / PROJECT_FILE
        sources = [path for path in (stack.settings_file, project) if path.is_file()]
        files = {STATE: state.text.encode(), **{source.name: source.read_bytes() for source in sources}}
        manifest = _manifest(stack.name, state, reason, made, files)
        _store(path, {MANIFEST: json.dumps(manifest, indent=2).encode() + b"\n", **files}, made)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None
    return Archive(path, stack.name, made, reason, files)


def _manifest(
    stack: str, state: State, reason: str, made: datetime, files: Mapping[str, bytes]
) -> dict[str, str | int | dict[str, dict[str, str | int]]]:
    return {
        "format": FORMAT,
        "project": PROJECT,
        "stack": stack,
        "made": made.isoformat(timespec="seconds"),
        "reason": reason,
        "resources": len(state.urns),
        "secrets": state.secrets[0],
        "files": {name: {"bytes": len(content), "sha256": _digest(content)} for name, content in files.items()},
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _store(path: Path, files: Mapping[str, bytes], made: datetime) -> None:
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz") as tar:
                for name, content in files.items():
                    member = tarfile.TarInfo(name)
                    member.size, member.mode, member.mtime = len(content), 0o600, int(made.timestamp())
                    tar.addfile(member, io.BytesIO(content))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def read(path: Path) -> Archive:
    """Read an archive and hold it against its own sums.

    Raises:
        UserError: there is no such file.
        ProtocolError: it is cut short, damaged, or no archive of this program.
    """
    try:
        files = _members(path)
        manifest = json.loads(files.pop(MANIFEST))
        _check(path, manifest, files)
        return Archive(path, str(manifest["stack"]), _made(manifest), str(manifest["reason"]), files)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError):
        raise ProtocolError(f"{path}: cut short or damaged; take another one") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ProtocolError(f"{path}: is no archive of `homelab state backup`") from None
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None


def _made(manifest: Mapping[str, Any]) -> datetime:
    made = moment(str(manifest["made"]))
    if made is None:
        raise ValueError("no moment")
    return made


def _members(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(path, mode="r:gz") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() and member.size <= MOST_BYTES else None
            if content is None:
                raise ValueError(f"{member.name}: not a file of such an archive")
            found[member.name] = content.read()
    return found


def _check(path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    if manifest["format"] != FORMAT:
        raise ProtocolError(f"{path}: of format {manifest['format']}, this program knows {FORMAT}; use a newer one")
    listed = manifest["files"]
    needed = {STATE, f"Pulumi.{manifest['stack']}.yaml"}
    if set(listed) != set(files) or not needed <= set(files):
        raise ProtocolError(f"{path}: cut short or damaged; take another one")
    for name, content in files.items():
        if listed[name]["sha256"] != _digest(content):
            raise ProtocolError(f"{path}: {name} is damaged: its checksum is another; take another archive")
    json.loads(files[STATE])["version"]  # what is not a checkpoint ends here
