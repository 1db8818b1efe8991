"""What is done on a balancer's host: installed once, reloaded when changed, and never over somebody else's files."""

from collections.abc import Callable

import pytest

from providers.balancer import hosts
from providers.balancer.config import Front, Sharing
from providers.balancer.hosts import HAPROXY, KEEPALIVED, Wish
from providers.errors import ForeignNodeError, ProtocolError
from providers.ssh.client import Answer, Target

FRONT = Front("garage", "*:6443", {"cp1": "10.0.0.11:6443"})
WISH = Wish(FRONT, Sharing("10.0.0.5", 5, "", "10.0.0.31", ["10.0.0.32"], 200))


class Host:
    """A host that knows packages and services."""

    def __init__(self) -> None:
        self.target = Target("lb1", "10.0.0.31", "ssh-ed25519 AAAA", "key")
        self.files: dict[str, bytes] = {}
        self.log: list[str] = []
        self.packages = False
        self.active: set[str] = set()

    def run(
        self, command: str, *, stdin: bytes = b"", timeout_s: float = 60, check: bool = True, secret: bool = False
    ) -> Answer:
        self.log.append(command)
        words = command.split()
        if command == "ip -j -4 address show":
            return Answer(0, '[{"ifname": "eth0", "addr_info": [{"local": "10.0.0.31"}]}]', "")
        if words[1:] == ["-v"]:
            return Answer(0 if self.packages else 127, "", "")
        if words[:2] == ["apt-get", "install"]:
            assert HAPROXY in self.files, "the package would write its own file first"
            self.packages = True
            self.active = {"haproxy", "keepalived"}
        if words[:2] == ["systemctl", "is-active"]:
            return Answer(0 if words[2] in self.active else 3, "", "")
        if words[:2] == ["systemctl", "restart"]:
            self.active.add(words[2])
        if words[:2] == ["systemctl", "disable"]:
            self.active.discard(words[-1])
        return Answer(0, "", "")

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> bool:
        changed = self.files.get(path) != data
        self.files[path] = data
        return changed

    def remove(self, path: str) -> None:
        self.files.pop(path, None)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def ensure(host: Host) -> Callable[[Wish], list[str]]:
    def run(wish: Wish) -> list[str]:
        host.log.clear()
        return hosts.ensure(host, wish, lambda _: None)

    return run


def test_it_is_installed_with_our_files_and_both_are_checked(host: Host, ensure: Callable[[Wish], list[str]]):
    ensure(WISH)
    assert b"server cp1 10.0.0.11:6443" in host.files[HAPROXY]
    assert b"interface eth0" in host.files[KEEPALIVED]
    assert f"haproxy -c -q -f {HAPROXY}" in host.log
    assert f"keepalived -t -f {KEEPALIVED}" in host.log
    assert hosts.drift(host, WISH) == ""


def test_again_nothing_is_installed_or_restarted(host: Host, ensure: Callable[[Wish], list[str]]):
    ensure(WISH)
    assert ensure(WISH) == []
    assert not [line for line in host.log if "apt-get" in line or "restart" in line or "reload" in line]


def test_another_control_plane_only_reloads_haproxy(host: Host, ensure: Callable[[Wish], list[str]]):
    ensure(WISH)
    more = Front("garage", "*:6443", {**FRONT.backends, "cp2": "10.0.0.12:6443"})
    assert ensure(Wish(more, WISH.sharing)) == ["haproxy"]
    assert [line for line in host.log if "reload" in line or "restart" in line] == ["systemctl reload haproxy"]


def test_what_was_stopped_or_changed_by_hand_is_seen_and_set_right(host: Host, ensure: Callable[[Wish], list[str]]):
    ensure(WISH)
    host.active.discard("keepalived")
    host.files[HAPROXY] += b"# mine\n"
    assert hosts.drift(host, WISH) == f"{HAPROXY} was changed, keepalived does not run"
    assert ensure(WISH) == ["haproxy", "keepalived"]
    assert hosts.drift(host, WISH) == ""


def test_somebody_elses_balancer_is_left_alone(host: Host, ensure: Callable[[Wish], list[str]]):
    host.files[HAPROXY] = b"frontend theirs\n"
    with pytest.raises(ForeignNodeError, match=r"lb1 .*haproxy\.cfg is not this program's; nothing was done.* mv "):
        ensure(WISH)
    assert host.log == []
    hosts.remove(host)
    assert host.files == {HAPROXY: b"frontend theirs\n"}


def test_a_host_without_that_address_says_what_it_has(host: Host, ensure: Callable[[Wish], list[str]]):
    other = Wish(FRONT, Sharing("10.0.0.5", 5, "", "10.0.0.99", [], 200))
    with pytest.raises(
        ProtocolError, match=r"no network interface has the address 10\.0\.0\.99; there are 10\.0\.0\.31"
    ):
        ensure(other)
    assert host.files == {}


def test_taken_off_the_vip_goes_first(host: Host, ensure: Callable[[Wish], list[str]]):
    ensure(WISH)
    host.log.clear()
    hosts.remove(host)
    assert [line for line in host.log if "disable" in line] == [
        "systemctl disable --now keepalived",
        "systemctl disable --now haproxy",
    ]
    assert host.files == {}
    hosts.remove(host)
