"""What a stack is on this machine: its settings file, its folder, and whether a twin stands in for its hardware."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import yaml

from providers.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
# Which of the twin's labs plays a stack's hardware. Other stacks may have a lab of their own name.
LABS = {"twin": "four", "sixteen": "sixteen"}


@dataclass(frozen=True)
class Stack:
    """A stack by name. `root` is the project's folder."""

    name: str
    root: Path = ROOT

    @property
    def settings_file(self) -> Path:
        """The one file that an owner edits."""
        return self.root / f"Pulumi.{self.name}.yaml"

    @property
    def local(self) -> Path:
        """Everything that this machine keeps and git does not."""
        return self.root / ".homelab"

    @property
    def folder(self) -> Path:
        """Where the stack's credentials are kept."""
        return self.local / self.name

    @property
    def lab(self) -> str:
        """The twin's lab for this stack, whether there is one or not."""
        return LABS.get(self.name, self.name)

    @property
    def lab_file(self) -> Path:
        """The simulated hardware's description."""
        return self.root / "twin" / "labs" / f"{self.lab}.yaml"

    @property
    def is_twin(self) -> bool:
        """Whether the hardware is simulated. Everything else is somebody's real lab."""
        return self.lab_file.is_file()

    @property
    def time_scale(self) -> float:
        """Real seconds for one device second: 1 on real hardware, what the lab file says on a twin."""
        lab = yaml.safe_load(self.lab_file.read_text(encoding="utf-8")) if self.is_twin else {}
        return float(lab.get("scale", 1))

    @property
    def twin_state(self) -> Path:
        """Where the twin keeps its disks."""
        return self.local / "twin" / self.lab


def find(name: str, root: Path = ROOT) -> Stack:
    """A stack that has a settings file.

    Raises:
        UserError: there is none; names the ones there are.
    """
    stack = Stack(name, root)
    if stack.settings_file.is_file():
        return stack
    known = sorted(path.name.split(".")[1] for path in root.glob("Pulumi.*.yaml"))
    raise UserError(f"no stack {name!r}: there is no {stack.settings_file.name}; {suggestion(name, known)}")


def suggestion(name: str, known: list[str]) -> str:
    """A "did you mean", or the list."""
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
