"""4d.33: a delete and a refresh find their way to a board whose password was changed since the last `up`."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pulumi.dynamic import Config, ConfigureRequest

from providers import engine
from providers.errors import AuthError, RefusedError
from providers.turingpi import login
from providers.turingpi.client import Endpoint
from providers.turingpi.resources import PowerProvider
from tests.providers.turingpi.lab import PASSWORD, Lab

OLD = "what-state-holds"
SLOT = 2


class Engine:
    """A `pulumi` on PATH that has settings of its own and writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        script = folder / "pulumi"
        script.write_text(f'#!/bin/sh\necho "$*" >> {folder}/asked\ncat {folder}/config || exit 1\n')
        script.chmod(0o755)

    def has(self, boards: object) -> None:
        config = {"homelab:boards": {"value": json.dumps(boards), "objectValue": boards, "secret": True}}
        (self._folder / "config").write_text(json.dumps(config))

    @property
    def asked(self) -> list[str]:
        path = self._folder / "asked"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine in the middle of a call about a resource of the stack `mine`."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    request = SimpleNamespace(urn="urn:pulumi:mine::homelab::pulumi-python:dynamic/turingpi:Power::n-power")
    monkeypatch.setattr(engine, "current_request", lambda: request)
    login._present_boards.cache_clear()
    yield Engine(tmp_path)
    login._present_boards.cache_clear()


@pytest.fixture
def running(lab: Lab) -> Lab:
    """The newest board with the slot's power on."""
    with lab.bmc("new") as bmc:
        bmc.set_power({SLOT: True})
    return lab


def settings(lab: Lab, password: str = PASSWORD, **more: str) -> dict[str, Any]:
    """The boards as the stack's config has them: without the scheme that their URL has."""
    address = lab.url("new").removeprefix("https://")
    return {
        "other": {"address": "127.0.0.1", "password": "x"},
        "new": {"address": address, "password": password, **more},
    }


def stored(lab: Lab, password: str, fingerprint: str = "") -> dict[str, Any]:
    login = {"board": lab.url("new"), "username": "root", "password": password, "fingerprint": fingerprint}
    return {"node": "n", "address": "127.0.0.1", "slot": float(SLOT), "on": True, **login}


def is_on(lab: Lab) -> bool:
    with lab.bmc("new") as bmc:
        return bmc.power()[SLOT]


def brought(boards: object) -> PowerProvider:
    """A provider that the engine configured with these boards, as text, as it comes over the wire."""
    provider = PowerProvider()
    config = {} if boards is None else {"homelab:boards": json.dumps(boards)}
    provider.configure(ConfigureRequest(Config(config, "homelab")))
    return provider


def test_a_delete_goes_on_with_the_settings_present_password(running: Lab, pulumi: Engine) -> None:
    """What a destroy is given is as old as state: both have the password of the last `up`."""
    pulumi.has(settings(running))
    brought(settings(running, OLD)).delete("n-power", stored(running, OLD))
    assert not is_on(running)
    assert pulumi.asked == ["config --show-secrets --json --non-interactive --stack mine"]


def test_a_refresh_reads_with_the_present_password(running: Lab, pulumi: Engine) -> None:
    pulumi.has(settings(running))
    with running.bmc("new") as bmc:
        bmc.set_power({SLOT: False})
    seen = brought(None).read("n-power", stored(running, OLD))
    assert seen.outs is not None
    assert seen.outs["on"] is False
    assert seen.outs["password"] == OLD  # state gets the new one from the next `up`, which shows it as a change


def test_what_configure_brings_wins_and_nothing_is_asked(running: Lab, pulumi: Engine) -> None:
    """An `up` that takes a disabled node out has the present config at hand."""
    brought(settings(running)).delete("n-power", stored(running, OLD))
    assert not is_on(running)
    assert pulumi.asked == []


@pytest.mark.parametrize("boards", [None, {}, {"other": {"address": "127.0.0.1", "password": "x"}}, ["nonsense"], "{"])
def test_without_the_board_in_the_settings_the_stored_password_does(
    running: Lab, pulumi: Engine, boards: object
) -> None:
    brought(boards).delete("n-power", stored(running, PASSWORD))
    assert not is_on(running)
    assert pulumi.asked == []


@pytest.mark.parametrize("present", ["no engine's answer", "no such board", "the refused one"])
def test_a_refusal_stands_when_the_settings_know_nothing_better(running: Lab, pulumi: Engine, present: str) -> None:
    if present != "no engine's answer":
        pulumi.has(settings(running, OLD) if present == "the refused one" else {})
    with pytest.raises(AuthError, match="user root is not let in"):
        brought(None).delete("n-power", stored(running, OLD))
    assert is_on(running)
    assert len(pulumi.asked) == 1


def test_a_certificate_that_the_settings_pin_anew_is_taken(running: Lab, pulumi: Engine) -> None:
    pulumi.has(settings(running))
    brought(None).delete("n-power", stored(running, PASSWORD, fingerprint="sha256:" + "0" * 64))
    assert not is_on(running)


def test_a_present_pin_is_never_undone_by_what_state_holds(running: Lab, pulumi: Engine) -> None:
    """The stored login, unpinned, would hand the password to whoever answers."""
    with pytest.raises(RefusedError):
        brought(settings(running, fingerprint="sha256:" + "0" * 64)).delete("n-power", stored(running, PASSWORD))
    assert is_on(running)


def test_a_board_is_known_by_its_address_in_each_way_of_writing_it() -> None:
    for address, url in (
        ("10.0.0.6", "https://10.0.0.6"),
        ("https://10.0.0.6/", "https://10.0.0.6"),
        ("http://10.0.0.6:80", "http://10.0.0.6:80"),
    ):
        found = login.declared({"b": {"address": address, "username": "me", "password": "p"}}, Endpoint(url))
        assert found == Endpoint(url, "me", "p")
    assert login.declared({"b": {"address": "10.0.0.60", "password": "p"}}, Endpoint("https://10.0.0.6")) is None
