"""The checkout's Python packages: a virtualenv in `.venv` with the locked requirements, and the project on its path."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.pins import ROOT
from tools.work import InstallError, Work

LOCKS = {"up": "requirements.txt", "test": "requirements-dev.txt"}
SCRIPT = """#!{python}
import sys

from {module} import {name}

sys.exit({name}())
"""


@dataclass(frozen=True)
class Packages:
    """The packages of one group. The test group's lock holds all of the `up` group's, at the same versions."""

    group: str
    root: Path = ROOT

    @property
    def folder(self) -> Path:
        """The virtualenv."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def installed(self) -> bool:
        """Whether this group's lock, or that of the test group, is what was installed last."""
        if not self.python.exists():
            return False
        groups = {self.group, "test"}
        return any(
            self._stamp(group).is_file() and self._stamp(group).read_text() == self._state(group) for group in groups
        )

    def install(self, work: Work) -> None:
        """Make the virtualenv and install the group's lock, every archive checked against its hash.

        Raises:
            InstallError: `venv` or `pip` failed.
        """
        for group in LOCKS:
            self._stamp(group).unlink(missing_ok=True)
        if not self.python.exists():
            work.run([sys.executable, "-m", "venv", "--clear", str(self.folder)])
        lock = self.root / LOCKS[self.group]
        pip = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes"]
        work.run([*pip, "-r", str(lock)], cwd=self.root)
        self._put_project_on_path()
        self._stamp(self.group).write_text(self._state(self.group))

    def _stamp(self, group: str) -> Path:
        return self.folder / f".homelab-{group}"

    def _state(self, group: str) -> str:
        """What a finished installation is known by: the lock, the commands it made and where the checkout was then."""
        text = (self.root / LOCKS[group]).read_bytes() + (self.root / "pyproject.toml").read_bytes()
        return f"{hashlib.sha256(text).hexdigest()} {self.root}\n"

    def _put_project_on_path(self) -> None:
        """Make the checkout importable, and the commands of pyproject.toml run, from any folder."""
        packages = sorted(self.folder.glob("lib/python3.*/site-packages"))
        if not packages:
            raise InstallError(f"{self.folder} is no virtualenv; delete it and try again")
        (packages[0] / "homelab.pth").write_text(f"{self.root}\n")
        for name, entry in scripts(self.root).items():
            module, function = entry.split(":")
            path = self.folder / "bin" / name
            path.write_text(SCRIPT.format(python=self.python, module=module, name=function))
            path.chmod(0o755)


def scripts(root: Path) -> dict[str, str]:
    """The commands that pyproject.toml declares: name -> `module:function`."""
    import tomllib  # noqa: PLC0415  the first look at Python's version comes before this

    document = tomllib.loads((root / "pyproject.toml").read_text())
    declared: dict[str, str] = document["project"]["scripts"]
    return declared
