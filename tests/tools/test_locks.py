"""The offline check of the requirement locks."""

import shutil

import pytest

from tools import locks, pins


@pytest.fixture
def root(tmp_path):
    for name in (locks.RUNTIME, locks.TESTS):
        for suffix in ("in", "txt"):
            shutil.copy(pins.ROOT / f"{name}.{suffix}", tmp_path)
    return tmp_path


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_locks_of_the_project_fit(root):
    assert locks.problems(root) == []


def test_a_requirement_that_is_not_locked(root):
    change(root / "requirements.in", "\nrich", "\nrich\nleft-pad>=1")
    assert locks.problems(root) == ["requirements.txt: left-pad is missing, requirements.in asks for it"]


def test_a_locked_version_that_does_not_fit(root):
    change(root / "requirements.in", "cryptography>=50,<51", "cryptography>=51")
    version = next(pin.version for pin in locks.locked(root / "requirements.txt") if pin.name == "cryptography")
    assert locks.problems(root) == [
        f"requirements.txt: cryptography {version} is not what requirements.in asks for (>=51)"
    ]


def test_a_locked_package_that_nobody_asks_for_any_more(root):
    change(root / "requirements.in", "\nrich", "\n# rich")
    (root / "requirements.txt").write_text("rich==1.0 \\\n    --hash=sha256:00\n    # via -r requirements.in\n")
    assert "requirements.txt: rich is locked, but requirements.in does not ask for it any more" in locks.problems(root)


def test_the_test_lock_holds_the_runtime_at_its_versions(root):
    change(root / "requirements-dev.txt", "\npulumi==3.232.0", "\npulumi==3.231.0")
    assert "requirements-dev.txt: pulumi is not at requirements.txt's 3.232.0" in locks.problems(root)


def test_a_pin_without_a_hash(root):
    with (root / "requirements.txt").open("a") as lock:
        lock.write("bare==1.0\n    # via rich\n")
    assert "requirements.txt: bare 1.0 has no hash" in locks.problems(root)
