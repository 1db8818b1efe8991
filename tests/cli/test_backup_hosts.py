"""`homelab backup` and `homelab restore` of a cluster on hosts, as far as they ask. More is in tests/engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli import backup_hosts, restore_k3s
from cli.clusters import reached
from cli.observe import Lab
from cli.stacks import Stack
from providers.errors import ProtocolError, UserError
from settings import from_values
from tests.played import Played
from tests.providers.k3s.stores import played
from tests.providers.k3s.test_restore import ensure
from tools import paths

pytestmark = pytest.mark.skipif(not paths.servers_bin().exists(), reason="make tools builds the servers")
assert played


def lab(played: Played, root: Path, **garage: Any) -> Lab:
    """h1 is a server, h2 an agent, of `garage`."""
    key = played.login("h1")["key"]
    cluster = {
        "endpoint": {"vip": "127.107.2.230"},
        "talos": {"version": "v1.13.9"},
        "kubernetes": {"version": "v1.36.1"},
    }
    hosts = {
        name: {"cluster": "garage", "role": role, "address": played.login(name)["address"],
               "ssh": {"host_key": played.login(name)["host_key"], "key": key, "port": 2222}}
        for name, role in (("h1", "controlplane"), ("h2", "worker"))
    }  # fmt: skip
    sections = {
        "cluster": cluster,
        "boards": {},
        "nodes": {},
        "clusters": {"garage": {"k3s": {"version": "v1.36.3+k3s1", "etcd": True}, **garage}},
        "hosts": hosts,
    }
    made = from_values({name: json.dumps(section) for name, section in sections.items()})
    return Lab(Stack("homelab", root), made, certificate=None, kubeconfig=None)


def test_a_backup_has_its_token_beside_it(played: Played, tmp_path: Path) -> None:
    ensure(played, "h1")
    made = backup_hosts.make(lab(played, tmp_path), "garage", None)
    assert made.path.parent == tmp_path / ".homelab" / "homelab" / "backups"
    assert made.path.name.startswith("etcd-garage-")
    assert made.token is not None
    assert made.token.read_text() == "sesame\n"
    assert [path.stat().st_mode & 0o777 for path in (made.path, made.token)] == [0o600, 0o600]
    assert made.as_json()["token"] == str(made.token)
    assert "sesame" not in json.dumps(made.as_json())


def test_what_a_restore_tells_before_it_asks(played: Played, tmp_path: Path) -> None:
    ensure(played, "h1")
    where = lab(played, tmp_path)
    made = backup_hosts.make(where, "garage", tmp_path)
    planned = restore_k3s.check(where, "garage", made.path)
    told = "\n".join(restore_k3s.story(planned))
    assert "h1: begins from the snapshot" in told
    assert "h2: not touched" in told
    assert "lost: everything that was changed since then" in told
    kept = restore_k3s.rescue(planned)
    assert kept is not None
    assert kept.name.startswith("before-restore-garage-")
    cut = tmp_path / "cut.db"
    cut.write_bytes(made.path.read_bytes()[:-1])
    with pytest.raises(ProtocolError, match="cut short"):
        restore_k3s.check(where, "garage", cut)


def test_a_cluster_that_is_not_there_is_named(played: Played, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--cluster attic: is unknown; there are: garage"):
        reached(lab(played, tmp_path), "attic", k3s=True)
