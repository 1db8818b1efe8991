"""What `refresh` finds on a host that somebody worked on, and that the next `up` repairs it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from providers.k3s import drift, files
from providers.k3s.resources import NodeProvider
from tests.played import Played
from tests.providers.k3s.test_node import VERSION, Quick, ensure, played, props
from twin.hosts.host import Host

assert played


async def disable(host: Host) -> None:
    host.units.enabled.discard("k3s")


async def change(host: Host) -> None:
    host.put(files.CONFIG, host.read(files.CONFIG) + "debug: true\n")


async def exchange(host: Host) -> None:
    host.put(files.BINARY, "k3s v1.36.9+k3s1 arm64\n")


def stop(host: Host) -> Coroutine[Any, Any, None]:
    return host.units.stop("k3s")


@pytest.mark.parametrize(
    ("by_hand", "words"),
    [
        (stop, "k3s is inactive"),
        (disable, "k3s does not start with the host"),
        (change, f"{files.CONFIG} was changed"),
    ],
)
def test_what_was_changed_by_hand_is_found_and_repaired(played: Played, by_hand: Any, words: str):
    provider, given = NodeProvider(), props(played)
    made = provider.create(given).outs or {}
    untouched = provider.read("h1-k3s", made).outs or {}
    assert untouched["drift"] == ""
    assert not provider.diff("h1-k3s", untouched, given).changes
    played.do(by_hand(played.host()))
    seen = provider.read("h1-k3s", made).outs or {}
    assert seen["drift"] == words == drift.on(given)
    assert provider.diff("h1-k3s", seen, given).changes
    after = provider.update("h1-k3s", seen, given).outs or {}
    assert after["drift"] == ""
    assert (provider.read("h1-k3s", after).outs or {})["drift"] == ""
    assert played.host().units.state("k3s") == "active"


def test_another_version_by_hand_is_named(played: Played):
    provider = NodeProvider()
    made = provider.create(props(played)).outs or {}
    played.do(exchange(played.host()))
    seen = provider.read("h1-k3s", made).outs or {}
    assert seen["drift"] == f"{files.BINARY} is v1.36.9+k3s1, not {VERSION}"


def test_a_host_that_was_set_up_anew(played: Played):
    """An agent is gone, and made again; a server is still counted by etcd, so it is not."""
    made = NodeProvider().create(props(played)).outs or {}
    played.host().forget(files.MARK)
    assert drift.on(made) == "nothing of its cluster is on it: it was set up anew"
    assert NodeProvider().read("h1-k3s", made).id == "h1-k3s"
    assert NodeProvider().read("h1-k3s", {**made, "role": "worker"}).id == ""


def test_a_host_that_is_away_is_left_as_it_was(played: Played, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("providers.ssh.reach.LOOK_S", 0.5)
    monkeypatch.setattr("providers.pace.MIN_LIMIT_S", 0.5)
    given = props(played)
    ensure(given)
    played.do(played.host().cut())
    assert NodeProvider().read("h1-k3s", given).outs == given
    assert Quick.starts == 1
