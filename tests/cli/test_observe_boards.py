"""Boards of every firmware, asked as `watch` asks them; the twin's boards answer here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from cli.observe_answers import ask
from cli.observe_scene import SeenBoard, look
from tests.cli.lab import lab as bare
from tests.providers.turingpi.lab import PASSWORD, Lab, forget_sessions, running


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running(tmp_path_factory.mktemp("boards")) as found:
        yield found


def seen(twin: Lab, name: str, password: str = PASSWORD) -> SeenBoard:
    """The lab of the other tests, with one of the twin's boards in the place of its own."""
    forget_sessions()
    here = bare(twin.state.parent)
    values = {"name": "board1", "address": twin.url(name), "password": password}
    board = type(here.settings.boards["board1"]).model_validate(values)
    settings = here.settings.model_copy(update={"boards": {"board1": board}})
    return look(dataclasses.replace(here, settings=settings)).boards[0]


@pytest.mark.parametrize("name", ["new", "mid", "old"])
def test_every_firmware_tells_the_power_of_its_slots(boards: Lab, name: str) -> None:
    with boards.bmc(name) as bmc:
        bmc.set_power({1: True, 2: False})
    found = seen(boards, name)
    assert found.state == "answering"
    assert [slot.power for slot in found.slots[:2]] == ["on", "off"]
    assert found.firmware


def test_a_flash_that_goes_on_is_seen_from_outside(boards: Lab) -> None:
    with boards.bmc("new") as bmc:
        bmc.flash_start(2, "image.raw", 3 << 20, None)
    flash = seen(boards, "new").flash
    assert flash is not None
    assert flash.state in ("Transferring", "Error")  # the twin gives up on an upload that does not begin
    with boards.bmc("new") as bmc:
        bmc.flash_cancel()
    flash = seen(boards, "new").flash
    assert flash is not None
    assert (flash.state, flash.text) == ("Error", "cancelled by user")


def test_a_board_that_refuses_its_password_says_so(boards: Lab) -> None:
    found = seen(boards, "mid", "a wrong one")
    assert found.state == "refused"
    assert {slot.power for slot in found.slots} == {"refused"}


def test_a_password_that_cannot_be_opened_is_not_sent(boards: Lab) -> None:
    here = bare(boards.state.parent)
    board = here.settings.boards["board1"].model_copy(update={"password": None})
    settings = here.settings.model_copy(update={"boards": {"board1": board}})
    assert ask(dataclasses.replace(here, settings=settings)).boards["board1"].state == "unknown"
