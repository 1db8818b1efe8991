"""Where a rehearsal is played: the program as a commit has it, and as it is now, side by side over one twin.

Both have the checkout's Python packages, and share one `.homelab` of their own, so that the owner's own state,
credentials and twins are never touched.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cli.stacks import Stack
from providers.errors import HomelabError, UserError
from tools import paths

FOLDER = Path(".homelab") / "rehearsal"
GIT_S = 120.0


@dataclass(frozen=True)
class Side:
    """One of the two programs: a folder with the stack in it."""

    root: Path
    name: str

    @property
    def stack(self) -> Stack:
        """The rehearsal's stack, as this side has it."""
        return Stack(self.name, self.root)

    def run(self, *arguments: str) -> int:
        """Run a verb of this side's own program, in front of the user's eyes but not among what a machine reads.

        Returns:
            Its exit code.
        """
        command = [sys.executable, "-m", "cli.main", *arguments, "--stack", self.name, "--yes"]
        return subprocess.call(command, cwd=self.root, env=self._environment(), stdout=sys.stderr)

    def _environment(self) -> dict[str, str]:
        """Without a word of the real lab's: its passphrase, its backend, its stack."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PULUMI_", "HOMELAB_STACK"))}
        return {**kept, "PYTHONPATH": str(self.root), "PULUMI_CONFIG_PASSPHRASE": paths.TWIN_PASSPHRASE}


@dataclass(frozen=True)
class Stage:
    """Both sides under one folder.

    Attributes:
        commit: that the base is.
        base: the program and the settings of that commit.
        change: those of the working tree, with everything that is not committed yet.
    """

    folder: Path
    commit: str
    base: Side
    change: Side


def build(root: Path, reference: str, name: str) -> Stage:
    """Make the stage for a rehearsal from `reference` to what is in the project's folder now.

    Args:
        root: the project's folder.
        reference: a commit, branch or tag.
        name: of the rehearsal's stack.

    Raises:
        UserError: there is no such commit.
        HomelabError: git fails.
    """
    commit = _git(root, "rev-parse", "--verify", "--end-of-options", f"{reference}^{{commit}}", user=reference)
    folder = root / FOLDER
    base, change = Side(folder / "base", name), Side(folder / "change", name)
    clear(root)
    _extract(root, commit.decode().strip(), base.root)
    _copy(root, change.root)
    (folder / "shared").mkdir(mode=0o700)
    for side in (base, change):
        (side.root / ".homelab").symlink_to(folder / "shared")
        if not (side.root / ".venv").exists():
            (side.root / ".venv").symlink_to(root / ".venv")
    return Stage(folder, commit.decode().strip(), base, change)


def clear(root: Path) -> None:
    """Remove what a rehearsal has left."""
    shutil.rmtree(root / FOLDER, ignore_errors=True)


def _extract(root: Path, commit: str, target: Path) -> None:
    target.mkdir(parents=True)
    packed = io.BytesIO(_git(root, "archive", "--format=tar", commit))
    with tarfile.open(fileobj=packed) as archive:
        archive.extractall(target, filter="data")


def _copy(root: Path, target: Path) -> None:
    """The working tree as git sees it: what is ignored stays where it is."""
    for path in _files(root):
        source, copy = root / path, target / path
        if source.is_file():  # one that was removed is still listed until that is committed
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)


def _files(root: Path) -> Iterator[str]:
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    yield from (path for path in listed.decode().split("\0") if path)


def _git(root: Path, *arguments: str, user: str = "") -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, timeout=GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HomelabError(f"git {arguments[0]}: {error}") from None
    if done.returncode != 0:
        if user:
            raise UserError(f"--base {user}: is no commit that git knows here; `git fetch` may bring it")
        raise HomelabError(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
