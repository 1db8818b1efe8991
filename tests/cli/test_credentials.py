"""What `up` leaves behind: whole files, for the owner only, and links to the last stack."""

from __future__ import annotations

import stat
from pathlib import Path

from cli import credentials
from cli.stacks import Stack

OUTPUTS = {"kubeconfig": "kube: 1\n", "talosconfig": "talos: 1\n", "endpoints": {"api": "https://127.0.0.1"}}


def test_files_are_whole_private_and_linked(tmp_path: Path) -> None:
    stack = Stack("twin", tmp_path)
    used = credentials.leave(stack, OUTPUTS)
    assert used == [tmp_path / ".homelab" / "kubeconfig", tmp_path / ".homelab" / "talosconfig"]
    for link in used:
        file = tmp_path / ".homelab" / "twin" / link.name
        assert link.is_symlink()
        assert link.resolve() == file
        assert not link.readlink().is_absolute()  # the folder may move
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text() == OUTPUTS[link.name]
    assert sorted(path.name for path in (tmp_path / ".homelab" / "twin").iterdir()) == ["kubeconfig", "talosconfig"]


def test_a_wide_open_older_file_becomes_private(tmp_path: Path) -> None:
    stack = Stack("twin", tmp_path)
    stack.folder.mkdir(parents=True)
    old = stack.folder / "kubeconfig"
    old.write_text("old")
    old.chmod(0o644)
    credentials.leave(stack, OUTPUTS)
    assert stat.S_IMODE(old.stat().st_mode) == 0o600


def test_links_follow_the_last_stack_and_go_with_it(tmp_path: Path) -> None:
    twin, real = Stack("twin", tmp_path), Stack("homelab", tmp_path)
    credentials.leave(real, OUTPUTS)
    credentials.leave(twin, OUTPUTS)
    link = tmp_path / ".homelab" / "kubeconfig"
    assert link.readlink() == Path("twin/kubeconfig")
    credentials.forget(real)
    assert link.exists()
    credentials.forget(twin)
    assert not link.is_symlink()
    assert list((tmp_path / ".homelab").iterdir()) == []


def test_what_is_not_exported_is_left_alone(tmp_path: Path) -> None:
    stack = Stack("twin", tmp_path)
    credentials.leave(stack, OUTPUTS)
    assert credentials.leave(stack, {}) == []
    assert credentials.kubeconfig(stack) == "kube: 1\n"


def test_before_the_first_up_there_is_nothing(tmp_path: Path) -> None:
    stack = Stack("twin", tmp_path)
    assert credentials.kubeconfig(stack) is None
    assert credentials.talos_certificate(stack) is None
    credentials.forget(stack)


def test_tenants_have_files_of_their_own_that_go_with_them(tmp_path: Path) -> None:
    stack = Stack("twin", tmp_path)
    tenants = {name: {"api": "https://192.0.2.1:6443", "kubeconfig": f"{name}: 1\n"} for name in ("school", "workshop")}
    used = credentials.leave(stack, {**OUTPUTS, "tenants": tenants})
    files = {name: stack.folder / "tenants" / f"{name}.kubeconfig" for name in tenants}
    assert used[2:] == [files["school"], files["workshop"]]
    assert files["school"].read_text() == "school: 1\n"
    assert stat.S_IMODE(files["school"].stat().st_mode) == 0o600
    credentials.leave(stack, {"talosconfig": "talos: 2\n"})  # as `adopt` does, which knows of no tenants
    assert files["workshop"].exists()
    del tenants["workshop"]
    credentials.leave(stack, {**OUTPUTS, "tenants": tenants})
    assert not files["workshop"].exists()
    assert files["school"].exists()
    credentials.forget(stack)
    assert not stack.folder.exists()
