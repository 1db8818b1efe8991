"""How a host becomes a node of a cluster: files, versions, whose it is. What k3s itself does is in tests/engine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.engine import Reporter
from providers.errors import FlashError, ForeignNodeError, RefusedError, UnreachableError
from providers.k3s import files, node, remains
from providers.ssh import reach
from tests.played import Played
from twin.hosts import k3s as played_k3s
from twin.hosts.host import Host
from twin.hosts.units import PROGRAMS

VERSION = "v1.36.3+k3s1"
CA = "-----BEGIN CERTIFICATE-----\n"


class Quick:
    """A k3s that is up at once and serves nothing."""

    starts = 0

    def __init__(self, host: Host) -> None:
        self.host = host

    async def start(self) -> None:
        Quick.starts += 1
        config = yaml.safe_load(self.host.read(files.CONFIG))
        word = self.host.read(config["token-file"]).strip().rpartition(":")[2]
        self.host.put(files.TLS, CA)
        digest = hashlib.sha256(CA.encode()).hexdigest()
        self.host.put(files.SERVER_TOKEN, f"K10{digest}::server:{word}\n", 0o600)

    async def stop(self) -> None:
        """Nothing."""

    def kill(self) -> None:
        """Nothing."""


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    Quick.starts = 0
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.05")
    monkeypatch.setitem(PROGRAMS, files.BINARY, lambda host, argv: Quick(host))
    with Played(tmp_path / "hosts", {"h1": {}, "h2": {}}) as hosts:
        yield hosts


def props(played: Played, name: str = "h1", servers: tuple[str, ...] = ("h1",), **changed: Any) -> dict[str, Any]:
    found = {
        **played.login(name), "cluster": "garage", "role": "controlplane", "version": VERSION,
        "releases": "https://example.com/releases", "scripts": "https://example.com/scripts", "token": "sesame",
        "servers": {server: played.login(server) for server in servers}, "names": [], "vip": "",
        "api_port": 6443, "registration": "https://10.0.0.9:6443", "etcd": len(servers) > 1, "cni": "flannel-host-gw",
        "pod_subnet": "10.42.0.0/16", "service_subnet": "10.43.0.0/16", "disable": ["traefik"],
        "secrets_encryption": True, "labels": {"example.com/rack": "left"}, "taints": {"slow": "yes:NoSchedule"},
        "generation": 0,
    }  # fmt: skip
    return found | changed


def ensure(given: dict[str, Any], *, acknowledged: bool = False) -> None:
    node.ensure(given, Reporter(""), acknowledged=acknowledged)


def config(played: Played, name: str = "h1") -> dict[str, Any]:
    return dict(yaml.safe_load(played.host(name).read(files.CONFIG)))


def test_a_server_is_made_once(played: Played):
    ensure(props(played))
    host = played.host()
    assert host.units.state("k3s") == "active"
    assert host.read(files.BINARY) == f"k3s {VERSION} arm64\n"
    assert host.read(files.TOKEN) == "sesame\n"
    assert oct(host.path(files.TOKEN).stat().st_mode & 0o777) == oct(host.path(files.CONFIG).stat().st_mode & 0o777)
    assert host.path(files.TOKEN).stat().st_mode & 0o077 == 0
    assert config(played) == {
        "node-name": "h1", "node-ip": host.address, "token-file": files.TOKEN,
        "node-label": ["example.com/rack=left"], "node-taint": ["slow=yes:NoSchedule"],
        "cluster-cidr": "10.42.0.0/16", "service-cidr": "10.43.0.0/16", "flannel-backend": "host-gw",
        "secrets-encryption": True, "write-kubeconfig-mode": "0600", "disable": ["traefik"],
    }  # fmt: skip
    downloads = len(played.happened("download"))
    ensure(props(played))
    assert len(played.happened("download")) == downloads
    assert Quick.starts == 1
    assert not played.happened("unknown_command")


def test_a_changed_setting_restarts_it(played: Played):
    ensure(props(played))
    ensure(props(played, disable=[]))
    assert "disable" not in config(played)
    assert Quick.starts == 2


def test_the_first_begins_and_the_second_joins(played: Played):
    servers = ("h1", "h2")
    ensure(props(played, "h2", servers))
    assert config(played, "h2")["cluster-init"] is True
    ensure(props(played, "h1", servers))
    assert config(played, "h1")["server"] == "https://10.0.0.9:6443"
    digest = hashlib.sha256(CA.encode()).hexdigest()
    assert played.host("h1").read(files.TOKEN) == f"K10{digest}::server:sesame\n", (
        "joins the cluster of this authority only"
    )
    ensure(props(played, "h2", servers))
    assert config(played, "h2")["cluster-init"] is True, "how it came in stays as it is"


def test_none_begins_while_another_may_have_the_cluster(played: Played, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reach, "LOOK_S", 0.5)
    monkeypatch.setattr("providers.pace.MIN_LIMIT_S", 0.5)
    played.do(played.host("h2").cut())
    with pytest.raises(UnreachableError, match="h2 gave no answer and may have the cluster already"):
        ensure(props(played, "h1", ("h1", "h2")))
    assert Quick.starts == 0


@pytest.mark.parametrize(
    "left", ["/var/lib/rancher/k3s/server/db/state.db", "/etc/kubernetes/admin.conf", "/etc/cni/net.d/x"]
)
def test_what_another_cluster_left_is_refused_untouched(played: Played, left: str):
    host = played.host()
    host.put(left, "other")
    with pytest.raises(
        ForeignNodeError, match=r"nothing was touched\. To remove it .*raise hosts\.h1\.generation by one"
    ):
        ensure(props(played))
    assert host.read(left) == "other"
    assert not played.happened("download")
    ensure(props(played), acknowledged=True)
    assert not host.path(left).exists()
    assert host.units.state("k3s") == "active"


def test_an_empty_folder_is_nobodys(played: Played):
    played.host().path("/etc/cni/net.d").mkdir(parents=True)
    ensure(props(played))


def test_a_download_that_is_not_what_was_published(played: Played, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(played_k3s, "_release", lambda version: b"cut off" if Quick.starts else b"k3s x y\n")
    real = played_k3s._published
    monkeypatch.setattr(
        played_k3s, "_published", lambda version, name: b"cut off" if name == "k3s-arm64" else real(version, name)
    )
    with pytest.raises(FlashError, match="was published; it was thrown away"):
        ensure(props(played))
    assert not played.host().path("/usr/local/bin/.k3s.new").exists()
    assert not played.host().path(files.BINARY).exists()


def test_no_way_to_the_internet_is_told(played: Played, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(played_k3s, "_published", lambda version, name: None)
    with pytest.raises(RefusedError, match=r"can't download https://example\.com/releases/v1\.36\.3%2Bk3s1/sha256sum"):
        ensure(props(played))


@pytest.mark.parametrize(("wanted", "word"), [("v1.38.0+k3s1", "more than one minor later"), ("v1.35.1+k3s1", "older")])
def test_versions_go_minor_by_minor(played: Played, wanted: str, word: str):
    ensure(props(played))
    with pytest.raises(RefusedError, match=word):
        ensure(props(played, version=wanted))
    assert played.host().read(files.BINARY) == f"k3s {VERSION} arm64\n"


def test_a_run_killed_anywhere_is_repeated_by_running_it(played: Played, monkeypatch: pytest.MonkeyPatch):
    """Stopped after each of its commands in turn; the next run always ends well, and the host was never foreign."""
    from providers.ssh.client import Host as Client

    real = Client.run
    for stop in range(2, 40, 4):
        played.do(_blank(played))
        left = [stop]

        def run(self: Client, *args: Any, left: list[int] = left, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return real(self, *args, **kwargs)

        monkeypatch.setattr(Client, "run", run)
        try:
            ensure(props(played))
            break
        except KeyboardInterrupt:
            pass
        finally:
            monkeypatch.setattr(Client, "run", real)
        ensure(props(played))
        assert played.host().units.state("k3s") == "active"


async def _blank(played: Played) -> None:
    host = played.host()
    await host.cut()
    host.wipe()
    await host.boot()


def test_taking_it_out_leaves_nothing(played: Played):
    ensure(props(played))
    played.host().put("/etc/rancher/node/password", "x")
    node.remove(props(played), Reporter(""))
    host = played.host()
    assert host.units.state("k3s") == "inactive"
    for path in (*remains.PLACES, files.MARK):
        assert not host.path(path).exists(), path
    node.remove(props(played), Reporter(""))


def test_a_host_of_another_cluster_is_left_alone(played: Played):
    ensure(props(played))
    node.remove(props(played, token="another"), Reporter(""))
    assert played.host().units.state("k3s") == "active"


def test_a_host_that_is_gone_is_let_go(played: Played, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(node, "GONE_S", 0.5)
    played.do(played.host().cut())
    node.remove(props(played), Reporter(""))


def test_a_lost_state_finds_the_token_again(played: Played):
    given = props(played)
    assert node.token_of(given) is None
    ensure(given)
    assert node.token_of(given) == "sesame"
    assert node.token_of({**given, "cluster": "attic"}) is None, "another cluster's is not ours"
