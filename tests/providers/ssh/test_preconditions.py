"""What a host must have: read, set, and left alone the second time; rebooted only with the owner's word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from providers.errors import RefusedError
from providers.ssh import preconditions
from providers.ssh.client import connect
from providers.ssh.preconditions import MODULES, PACKAGES, commented, observe, plan, prepare, reboots, with_cgroups
from tests.played import Played


def quiet(_: str) -> None:
    """Progress that nobody reads."""


def _prepare(played: Played, *, allow: bool = False, times: tuple[str, ...] = (), user: str = "root") -> list[str]:
    return prepare(played.target(user=user), times, allow_reboot=allow, progress=quiet)


@pytest.mark.parametrize("user", ["root", "pi"])
def test_a_bare_host_is_prepared_once(tmp_path: Path, user: str):
    with Played(tmp_path, {"h1": {"memory_cgroup": True}}) as played:
        first = _prepare(played, times=("10.0.0.1",), user=user)
        assert first == [
            f"installs {', '.join(PACKAGES)}", "swap off", f"modules {', '.join(MODULES)}", "sysctls", "time by NTP",
        ]  # fmt: skip
        host = played.host()
        assert host.sysctls["net.ipv4.ip_forward"] == "1"
        assert "# /swapfile none swap sw 0 0" in host.read("/etc/fstab")
        assert host.read("/proc/swaps").count("\n") == 1
        assert host.read("/etc/systemd/timesyncd.conf.d/90-homelab.conf") == "[Time]\nNTP=10.0.0.1\n"
        assert host.units.state("iscsid") == "active"
        events = len(played.happened("packages_installed"))
        assert _prepare(played, times=("10.0.0.1",), user=user) == []
        assert len(played.happened("packages_installed")) == events
        assert not played.happened("unknown_command")


def test_what_was_set_outlives_a_reboot(tmp_path: Path):
    with Played(tmp_path, {"h1": {"memory_cgroup": True}}) as played:
        _prepare(played)
        played.do(played.host().reboot())
        assert _prepare(played) == []


def test_a_reboot_needs_a_word(tmp_path: Path):
    with Played(tmp_path) as played:
        with pytest.raises(
            RefusedError, match=r"needs cgroup_memory=1 cgroup_enable=memory and a reboot; write hosts\.h1"
        ):
            _prepare(played)
        assert "cgroup" not in played.host().read("/boot/firmware/cmdline.txt")
        assert played.host().boots == 1


def test_a_reboot_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.05")
    with Played(tmp_path) as played:
        done = _prepare(played, allow=True)
        assert done[-1] == "memory cgroups in /boot/firmware/cmdline.txt"
        assert played.host().boots == 2
        assert _prepare(played) == []
        assert played.host().boots == 2


def test_another_system_is_refused_untouched(tmp_path: Path):
    release = {"/etc/os-release": 'ID=fedora\nPRETTY_NAME="Fedora 43"\n'}
    with Played(tmp_path, {"h1": {"files": release}}) as played:
        with pytest.raises(RefusedError, match='runs "Fedora 43", and only Debian and its kin'):
            _prepare(played)
        assert not played.happened("packages_installed")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda seen: replace(seen, packages=seen.packages - {"nfs-common"}), "installs nfs-common"),
        (lambda seen: replace(seen, swaps=True), "swap off"),
        (lambda seen: replace(seen, fstab="/dev/x none swap sw 0 0\n"), "swap off"),
        (lambda seen: replace(seen, modules=seen.modules - {"overlay"}), "modules overlay"),
        (lambda seen: replace(seen, sysctls={**seen.sysctls, "net.ipv4.ip_forward": "0"}), "sysctls"),
        (lambda seen: replace(seen, synchronizes=False), "time by NTP"),
    ],
)
def test_each_thing_is_set_by_itself(right: preconditions.Seen, change: Callable[..., preconditions.Seen], word: str):
    assert [step.word for step in plan(change(right), ())] == [word]


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> preconditions.Seen:
    with Played(tmp_path_factory.mktemp("right"), {"h1": {"memory_cgroup": True}}) as played:
        _prepare(played)
        with connect(played.target()) as host:
            seen = observe(host)
    assert plan(seen, ()) == []
    return seen


def test_cgroups_of_both_versions(right: preconditions.Seen):
    assert not reboots(right)
    assert not reboots(replace(right, controllers=frozenset())), "version 1 has no such file"
    assert reboots(replace(right, controllers=frozenset({"cpu"})))


def test_lines_are_changed_once():
    assert commented(commented("/a none swap sw 0 0\n")) == commented("/a none swap sw 0 0\n")
    assert commented("# /a none swap sw 0 0\n/dev/x / ext4 defaults 0 1\n") == (
        "# /a none swap sw 0 0\n/dev/x / ext4 defaults 0 1\n"
    )
    assert with_cgroups("a cgroup_disable=memory b") == "a b cgroup_memory=1 cgroup_enable=memory"
    assert with_cgroups(with_cgroups("a")) == with_cgroups("a")
