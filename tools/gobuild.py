"""Builds a tool's programs from Go modules at exact versions, each module checked against `go.sum`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools import pins
from tools.pins import GoBuild, ModuleFile, Tool
from tools.work import InstallError, Work


def environment() -> dict[str, str]:
    """Go's environment, without what a user's own settings could change in a build."""
    return {**os.environ, **pins.GO_ENVIRONMENT}


def find_go() -> str:
    """Where the Go command is.

    Raises:
        InstallError: it is missing or too old.
    """
    wanted = ".".join(str(part) for part in pins.GO)
    found = shutil.which("go")
    if found is None:
        raise InstallError(
            f"Go {wanted} or newer is needed to build it, and `go` is not on PATH: https://go.dev/doc/install"
        )
    said = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False, timeout=60).stdout
    if not new_enough(said):
        raise InstallError(
            f"Go {wanted} or newer is needed to build it; {found} is {said.strip() or 'of no known version'}"
        )
    return found


def new_enough(said: str) -> bool:
    """Whether what `go env GOVERSION` says is at least the pinned version."""
    match = re.match(r"go(\d+)\.(\d+)", said)
    return match is not None and (int(match[1]), int(match[2])) >= pins.GO


def command(go: str, build: GoBuild, target: Path, overlay: Path | None = None) -> list[str]:
    """The `go build` that writes the programs into a folder; `overlay` is for `go build -overlay`."""
    ldflags = " ".join([pins.GO_LINKER, *(f"-X {variable}" for variable in build.set_variables)])
    plain = [f"-gcflags={pattern}=-N -l" for pattern in build.unoptimised]
    laid_over = [] if overlay is None else ["-overlay", str(overlay)]
    tags = [f"-tags={','.join(build.tags)}"] if build.tags else []
    return [go, "build", *tags, *plain, "-ldflags", ldflags, *laid_over, "-o", f"{target}/", *build.packages]


def build(tool: Tool, target: Path, work: Work) -> None:
    """Write all of a tool's programs into `target`.

    Raises:
        InstallError: no usable Go, or a build failed.
    """
    go = find_go()
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        overlay = _overlay(go, tool, Path(scratch)) if tool.embedded else None
        for part in tool.builds:
            work.run(command(go, part, target, overlay), cwd=pins.GO_MODULES / part.folder, env=environment())
    for script in tool.scripts:
        copied = target / script.program
        shutil.copyfile(_in_module(go, script), copied)
        copied.chmod(0o755)


def _overlay(go: str, tool: Tool, scratch: Path) -> Path:
    """Let Go see a module's files in the folder of the package that embeds them; nothing is put there."""
    package = pins.GO_MODULES / tool.builds[0].folder / tool.builds[0].packages[0]
    laid = {str(package / file.program): str(_in_module(go, file)) for file in tool.embedded}
    path = scratch / "overlay.json"
    path.write_text(json.dumps({"Replace": laid}))
    return path


def _in_module(go: str, file: ModuleFile) -> Path:
    """Where a module's file is, after the module has been fetched and checked.

    Raises:
        InstallError: there is none.
    """
    folder = pins.GO_MODULES / file.folder
    asked = [go, "mod", "download", "-json", file.module]
    done = subprocess.run(
        asked, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    found = json.loads(done.stdout or "{}").get("Dir")
    if done.returncode != 0 or not found or not (Path(found) / file.source).is_file():
        raise InstallError(f"{file.module} holds no {file.source}: {done.stderr.strip()}")
    return Path(found) / file.source
