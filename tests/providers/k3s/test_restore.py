"""Out of a played server's real etcd, and back into it. No API server runs here: that is in tests/engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.engine import Reporter
from providers.errors import ProtocolError, RefusedError, UnreachableError
from providers.k3s import backup, files, node, origin, restore
from providers.k3s.restore import Plan
from providers.ssh import reach
from providers.ssh.client import Host as Client
from providers.talos import snapshot
from providers.talos.origin import ForeignSnapshotError
from tests.played import Played
from tests.providers.k3s.stores import played
from tests.providers.k3s.test_node import props
from tools import paths
from twin.hosts import k3s_bootstrap
from twin.hosts.k3s_pki import Authorities
from twin.hosts.k3s_server import Server

pytestmark = [
    pytest.mark.skipif(not paths.servers_bin().exists(), reason="make tools builds the servers"),
    pytest.mark.timeout(300),
]
REPORT = Reporter("")
assert played


def ensure(played: Played, *servers: str, **changed: Any) -> None:
    for name in servers:
        at = f"https://{played.host(servers[0]).address}:2222"  # its SSH answers here; the API would, on a real one
        given = {"etcd": True, "registration": at, "names": [played.host(servers[0]).address], **changed}
        node.ensure(props(played, name, servers, **given), REPORT, acknowledged=False)


def plan(played: Played, *servers: str) -> Plan:
    at = f"https://{played.host(servers[0]).address}:2222"
    return Plan("garage", {name: played.login(name) for name in servers}, at)


def take(played: Played, path: Path, *servers: str) -> backup.Taken:
    return backup.take("garage", {name: played.login(name) for name in servers}, 6443, path)


def put(played: Played, key: str, value: str, name: str = "h1") -> None:
    played.do(k3s_bootstrap.etcdctl(server(played, name), "put", key, value))


def holds(played: Played, key: str, name: str = "h1") -> str:
    return str(
        played.do(k3s_bootstrap.etcdctl(server(played, name), "get", "--print-value-only", key)).decode()
    ).strip()


def server(played: Played, name: str = "h1") -> Server:
    found = played.host(name).units.program("k3s")
    assert isinstance(found, Server)
    return found


def members(played: Played, name: str = "h1") -> set[str]:
    async def ask() -> set[str]:
        async with server(played, name).etcd() as client:
            return {member.name.partition("-")[0] for member in await client.members()}

    return set(played.do(ask()))


def test_a_snapshot_is_fetched_verified_and_proven(played: Played, tmp_path: Path):
    ensure(played, "h1")
    put(played, "/registry/x", "before")
    taken = take(played, tmp_path / "s.db", "h1")
    assert (taken.host, taken.token) == ("h1", "sesame")
    assert bytes(taken.snapshot.values[b"/registry/x"]) == b"before"
    assert taken.snapshot.path.stat().st_mode & 0o077 == 0
    assert not played.host().path(files.SNAPSHOTS).exists(), "nothing stays on the host"
    assert "sesame" not in repr(taken)
    assert not played.happened("unknown_command")


def test_sqlite_has_no_snapshots(played: Played, tmp_path: Path):
    ensure(played, "h1", etcd=False)
    with pytest.raises(UnreachableError, match=r"data in SQLite.*clusters\.garage\.k3s\.etcd: true, `homelab up`"):
        take(played, tmp_path / "s.db", "h1")
    ensure(played, "h1")
    assert take(played, tmp_path / "s.db", "h1").host == "h1", "SQLite became etcd"


def test_a_server_that_does_not_run_is_passed_over(played: Played, tmp_path: Path):
    ensure(played, "h1", "h2")
    played.do(played.host("h1").units.stop("k3s"))
    with pytest.raises(UnreachableError, match=r"h1 .*does not run"):
        take(played, tmp_path / "s.db", "h1")
    assert not list(tmp_path.glob("*.db*")), "nothing is left of what was not taken"


def test_back_to_the_snapshot(played: Played, tmp_path: Path):
    ensure(played, "h1")
    put(played, "/registry/x", "before")
    taken = take(played, tmp_path / "s.db", "h1")
    put(played, "/registry/x", "after")
    config = played.host().read(files.CONFIG)
    for _ in range(2):  # a second reset is not kept off by the first one's flag
        restore.check(plan(played, "h1"), taken.snapshot)
        restore.run(plan(played, "h1"), taken.snapshot, REPORT)
        assert holds(played, "/registry/x") == "before"
    assert played.host().read(files.CONFIG) == config
    assert not played.host().path(files.SNAPSHOTS).exists()
    ensure(played, "h1")
    assert len(played.happened("service_started")) == 3, "what was restored is as the settings say"


@pytest.mark.slow
def test_three_servers_go_back_as_one(played: Played, tmp_path: Path):
    ensure(played, "h2", "h1", "h3")  # the one that began is not the one that is restored on
    put(played, "/registry/x", "before")
    taken = take(played, tmp_path / "s.db", "h1", "h2", "h3")
    put(played, "/registry/x", "after")
    three = plan(played, "h1", "h2", "h3")
    restore.check(three, taken.snapshot)
    restore.run(three, taken.snapshot, REPORT)
    for name in ("h1", "h2", "h3"):
        assert members(played, name) == {"h1", "h2", "h3"}
        assert holds(played, "/registry/x", name) == "before"
        assert not played.host(name).path(files.ASIDE).exists()
    begins = [
        name for name in ("h1", "h2", "h3") if "cluster-init" in yaml.safe_load(played.host(name).read(files.CONFIG))
    ]
    assert begins == ["h1"], "another one that began would begin a second cluster, were its data lost"


@pytest.mark.slow
def test_run_again_wherever_it_was_interrupted(played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ensure(played, "h1", "h2")
    put(played, "/registry/x", "before")
    taken = take(played, tmp_path / "s.db", "h1")
    both, real = plan(played, "h1", "h2"), Client.run
    for stop in range(1, 30, 5):
        put(played, "/registry/x", "after")
        left = [stop]

        def run(self: Client, *args: Any, left: list[int] = left, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return real(self, *args, **kwargs)

        monkeypatch.setattr(Client, "run", run)
        with pytest.raises(KeyboardInterrupt):
            restore.run(both, taken.snapshot, REPORT)
        monkeypatch.setattr(Client, "run", real)
        restore.check(both, taken.snapshot)
        restore.run(both, taken.snapshot, REPORT)
        assert holds(played, "/registry/x", "h2") == "before"
        assert members(played) == {"h1", "h2"}


def test_a_reset_that_was_cut_off_on_the_host_is_done_again(played: Played, tmp_path: Path):
    """k3s has moved the old etcd aside, and died."""
    ensure(played, "h1")
    put(played, "/registry/x", "before")
    taken = take(played, tmp_path / "s.db", "h1")
    played.do(played.host().units.stop("k3s"))
    played.host().path(f"{files.DB}/etcd").rename(played.host().path(f"{files.DB}/etcd-old-1"))
    restore.check(plan(played, "h1"), taken.snapshot)
    restore.run(plan(played, "h1"), taken.snapshot, REPORT)
    assert holds(played, "/registry/x") == "before"


def test_what_is_not_this_clusters_is_refused_untouched(played: Played, tmp_path: Path):
    ensure(played, "h1")
    taken = take(played, tmp_path / "s.db", "h1")
    cut = tmp_path / "cut.db"
    cut.write_bytes(taken.snapshot.path.read_bytes()[:-1])
    with pytest.raises(ProtocolError, match="cut short"):
        snapshot.read(cut)
    with pytest.raises(ForeignSnapshotError, match="sealed with another token"):
        origin.authority(taken.snapshot, "another")
    Authorities(played.host().path("/var/lib/rancher/k3s/server/tls")).make()
    with pytest.raises(ForeignSnapshotError, match="taken before garage was begun anew"):
        restore.check(plan(played, "h1"), taken.snapshot)
    assert played.host().units.state("k3s") == "active"


def test_every_server_is_needed(played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("providers.pace.MIN_LIMIT_S", 0.5)
    monkeypatch.setattr(reach, "LOOK_S", 0.5)
    ensure(played, "h1")
    taken = take(played, tmp_path / "s.db", "h1")
    with pytest.raises(RefusedError, match=r"every server.*h2 .*is no server of garage yet.*Nothing was touched"):
        restore.check(plan(played, "h1", "h2"), taken.snapshot)
    played.do(played.host("h2").cut())
    with pytest.raises(RefusedError, match=r"h2 .*no SSH.*Nothing was touched"):
        restore.check(plan(played, "h1", "h2"), taken.snapshot)
    assert played.host().units.state("k3s") == "active"
