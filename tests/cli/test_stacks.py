"""What is a twin and what is somebody's real lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import stacks
from providers.errors import UserError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for stack in ("twin", "sixteen", "homelab", "mine"):
        (tmp_path / f"Pulumi.{stack}.yaml").touch()
    labs = tmp_path / "twin" / "labs"
    labs.mkdir(parents=True)
    for lab in ("four", "sixteen", "mine"):
        (labs / f"{lab}.yaml").write_text("scale: 0.01\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "lab", "is_twin", "scale"),
    [
        ("twin", "four", True, 0.01),
        ("sixteen", "sixteen", True, 0.01),
        ("mine", "mine", True, 0.01),
        ("homelab", "homelab", False, 1),
    ],
)
def test_the_lab_behind_a_stack(project: Path, name: str, lab: str, is_twin: bool, scale: float) -> None:
    stack = stacks.find(name, project)
    assert (stack.lab, stack.is_twin, stack.time_scale) == (lab, is_twin, scale)


def test_a_mistyped_stack(project: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'homelab'"):
        stacks.find("homelap", project)
    with pytest.raises(UserError, match="known: homelab, mine, sixteen, twin"):
        stacks.find("zzz", project)


def test_a_stacks_name_is_no_path(project: Path) -> None:
    with pytest.raises(UserError):
        stacks.find("../twin", project)
