"""A board's new password is stored only when the board takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import rotate_logins
from cli.rotate_prove import refuse
from providers.errors import AuthError, UserError
from providers.turingpi.client import Endpoint
from tests.cli.lab import lab as settled
from tests.providers.turingpi.conftest import lab, twin  # noqa: F401  # fixtures
from tests.providers.turingpi.lab import PASSWORD, Lab


def test_a_password_that_the_board_takes(lab: Lab) -> None:  # noqa: F811
    rotate_logins.tried("board1", Endpoint(lab.url("new"), password=PASSWORD))


def test_a_password_that_it_refuses_is_tried_once(lab: Lab) -> None:  # noqa: F811
    with pytest.raises(AuthError, match=r"board1 .*refuses this password.*ssh root@.* passwd.*nothing was stored"):
        rotate_logins.tried("board1", Endpoint(lab.url("new"), password="wrong"))
    rotate_logins.tried("board1", Endpoint(lab.url("new"), password=PASSWORD))


def test_which_board(tmp_path: Path) -> None:
    found = settled(tmp_path)
    assert rotate_logins._chosen(found, None) == "board1"
    assert rotate_logins._chosen(found, "board1") == "board1"
    with pytest.raises(UserError, match="did you mean 'board1'"):
        rotate_logins._chosen(found, "board2")


def test_tokens_that_need_reboots_are_refused_where_none_are_allowed(tmp_path: Path) -> None:
    found = settled(tmp_path)
    with pytest.raises(UserError, match=r"cluster\.talos\.allow_reboot"):
        refuse(found, "bootstrap-tokens")
    refuse(found, "os-ca")
