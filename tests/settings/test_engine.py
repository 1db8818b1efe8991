"""The shipped stack files in the hands of the real engine: it decrypts them, and leaves an owner's comments alone."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from settings import load
from tools import paths

pytestmark = pytest.mark.engine

_ROOT = Path(__file__).parent.parent.parent
_SALT = re.compile(r"^encryptionsalt: .*$", re.MULTILINE)
Run = Callable[..., str]


@pytest.fixture
def pulumi(tmp_path: Path) -> Run:
    for name in ("Pulumi.homelab.yaml", "Pulumi.twin.yaml", "Pulumi.sixteen.yaml"):
        shutil.copy(_ROOT / name, tmp_path)
    (tmp_path / "Pulumi.yaml").write_text("name: homelab\nruntime: python\n")
    (tmp_path / "state").mkdir()
    env = {
        **paths.environment("twin"),
        "PULUMI_BACKEND_URL": f"file://{tmp_path / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "twin",
    }

    def run(*arguments: str) -> str:
        command = [str(paths.pulumi_bin() / "pulumi"), *arguments, "--non-interactive", "--color", "never"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("stack", ["twin", "sixteen"])
def test_a_new_backend_keeps_the_salt_and_decrypts_the_passwords(pulumi: Run, tmp_path: Path, stack: str):
    file = tmp_path / f"Pulumi.{stack}.yaml"
    salt = _SALT.findall(file.read_text())
    pulumi("stack", "init", stack)
    assert _SALT.findall(file.read_text()) == salt
    shown = json.loads(pulumi("config", "--stack", stack, "--show-secrets", "--json"))
    decrypted = {key: value["objectValue"] for key, value in shown.items()}
    boards = load(file, decrypted).boards.values()
    assert {board.plain_password for board in boards} == {"opens-this-board"}


def test_storing_the_password_leaves_the_owners_comments_alone(pulumi: Run, tmp_path: Path):
    file = tmp_path / "Pulumi.homelab.yaml"
    before = file.read_text().splitlines()
    pulumi("stack", "init", "homelab")
    pulumi("config", "set", "--stack", "homelab", "--secret", "--path", "homelab:boards.board1.password", "hunter2")
    after = file.read_text()
    assert [line for line in before if line not in after.splitlines()] == []
    assert "hunter2" not in after
    assert load(file).warnings == ()
