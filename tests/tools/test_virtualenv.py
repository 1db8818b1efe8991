"""When the Python packages count as installed, and how the checkout gets onto their path."""

import subprocess
import sys

import pytest

from tools import pins
from tools.virtualenv import LOCKS, Packages, scripts


@pytest.fixture
def checkout(tmp_path):
    for name in (*LOCKS.values(), "pyproject.toml"):
        (tmp_path / name).write_text((pins.ROOT / name).read_text())
    packages = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / ".venv" / "bin").mkdir()
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    return tmp_path


def stamp(packages: Packages) -> None:
    packages._stamp(packages.group).write_text(packages._state(packages.group))


def test_nothing_is_installed_before_an_installation_has_ended(checkout):
    assert not Packages("up", checkout).installed()
    stamp(Packages("up", checkout))
    assert Packages("up", checkout).installed()


def test_the_test_group_holds_the_runtime_but_not_the_other_way_round(checkout):
    stamp(Packages("up", checkout))
    assert not Packages("test", checkout).installed()
    stamp(Packages("test", checkout))
    Packages("up", checkout)._stamp("up").unlink()
    assert Packages("up", checkout).installed()


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_another_lock_or_another_command_installs_again(name, checkout):
    stamp(Packages("up", checkout))
    (checkout / name).write_text("")
    assert not Packages("up", checkout).installed()


def test_a_checkout_that_moved_installs_again(checkout, tmp_path_factory):
    stamp(Packages("up", checkout))
    moved = checkout.rename(tmp_path_factory.mktemp("elsewhere") / "lab")
    assert not Packages("up", moved).installed()


def test_the_command_runs_from_any_folder(checkout, tmp_path_factory):
    (checkout / "cli").mkdir()
    (checkout / "cli" / "main.py").write_text("def app():\n    print('here')\n    return 5\n")
    Packages("up", checkout)._put_project_on_path()
    assert (checkout / ".venv" / "lib" / "python3.11" / "site-packages" / "homelab.pth").read_text() == f"{checkout}\n"
    done = subprocess.run(
        [checkout / ".venv" / "bin" / "homelab"],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={"PYTHONPATH": str(checkout)},  # a bare link to Python reads no .pth file of the made-up virtualenv
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (5, "here\n")


def test_the_project_declares_its_command():
    assert scripts(pins.ROOT) == {"homelab": "cli.main:app"}
