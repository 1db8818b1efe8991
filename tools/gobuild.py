"""Builds a tool's programs from Go modules at exact versions, each module checked against `go.sum`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
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


def command(go: str, build: GoBuild, target: Path) -> list[str]:
    """The `go build` that writes the programs into a folder."""
    ldflags = " ".join([pins.GO_LINKER, *(f"-X {variable}" for variable in build.set_variables)])
    plain = [f"-gcflags={pattern}=-N -l" for pattern in build.unoptimised]
    return [go, "build", *plain, "-ldflags", ldflags, "-o", f"{target}/", *build.packages]


def build(tool: Tool, target: Path, work: Work) -> None:
    """Write all of a tool's programs into `target`.

    Raises:
        InstallError: no usable Go, or a build failed.
    """
    go = find_go()
    for part in tool.builds:
        work.run(command(go, part, target), cwd=pins.GO_MODULES / part.folder, env=environment())
    for script in tool.scripts:
        _copy(go, script, target)


def _copy(go: str, script: ModuleFile, target: Path) -> None:
    asked = [go, "list", "-m", "-f", "{{.Dir}}", script.module]
    folder = pins.GO_MODULES / script.folder
    done = subprocess.run(
        asked, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    source = Path(done.stdout.strip()) / script.source
    if done.returncode != 0 or not source.is_file():
        raise InstallError(f"{script.module} holds no {script.source}: {done.stderr.strip()}")
    copied = target / script.program
    shutil.copyfile(source, copied)
    copied.chmod(0o755)
