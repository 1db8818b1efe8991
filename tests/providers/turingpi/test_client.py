"""The client against a twin's boards: every firmware, logins, certificates, and answers that go wrong."""

import time

import pytest

from providers.errors import AuthError, HomelabError, RefusedError, UnreachableError, UserError
from providers.turingpi.client import Abilities, certificate_fingerprint
from providers.turingpi.wire import CertificateError
from tests.providers.turingpi.lab import FIRMWARES, Lab, forget_sessions


@pytest.mark.parametrize("board", FIRMWARES)
def test_power_by_printed_slots_on_every_firmware(lab: Lab, board: str) -> None:
    with lab.bmc(board) as bmc:
        bmc.set_power({1: False, 2: True, 3: False, 4: False})
        assert bmc.power() == {1: False, 2: True, 3: False, 4: False}
        bmc.set_power({2: False})
        assert not any(bmc.power().values())


def test_what_a_firmware_can_is_found_out_by_asking(lab: Lab) -> None:
    seen = {board: lab.bmc(board).abilities() for board in FIRMWARES}
    assert seen == {"new": Abilities(True, True), "mid": Abilities(True, False), "old": Abilities(False, False)}


@pytest.mark.parametrize("board", FIRMWARES)
def test_console_info_usb_and_reset(lab: Lab, board: str) -> None:
    with lab.bmc(board) as bmc:
        assert isinstance(bmc.uart(1), str)
        assert bmc.info()
        bmc.clear_usb_boot()
        if board != "old":
            bmc.uart_write(1, "printenv & x=1")
            bmc.usb_reset(1)
            bmc.reset(1)


def test_node_info_of_all_slots(lab: Lab) -> None:
    with lab.bmc("new") as bmc:
        assert sorted(bmc.node_info()) == [1, 2, 3, 4]


def test_4a7_a_wrong_password_is_tried_once_and_says_so(lab: Lab) -> None:
    """Polling with it does not run into the board's ban."""
    bmc = lab.bmc("new", password="wrong")
    for _ in range(20):
        with pytest.raises(AuthError, match="username and password in the settings"):
            bmc.power()
    with lab.bmc("new") as right:
        right.power()


def test_4a7_a_ban_says_how_long(lab: Lab) -> None:
    for attempt in range(7):
        with pytest.raises(AuthError):
            lab.bmc("mid", password=f"wrong{attempt}").power()
    with pytest.raises(AuthError, match=r"banned for another \d+ s"):
        lab.bmc("mid").power()
    lab.fault("bmc-crash", board="mid", for_s=0.1)  # the ban is in the daemon's memory
    time.sleep(0.3)
    forget_sessions()
    lab.settled("mid")


def test_4a7_lost_tokens_are_renewed_without_a_word(lab: Lab) -> None:
    with lab.bmc("new") as bmc:
        bmc.power()
        lab.fault("bmc-tokens-lost", board="new")
        assert set(bmc.power()) == {1, 2, 3, 4}


def test_4a7_a_password_reset_to_the_default_is_never_guessed(lab: Lab) -> None:
    with lab.bmc("new") as bmc:
        bmc.power()
        lab.fault("bmc-password", board="new")
        lab.fault("bmc-tokens-lost", board="new")
        with pytest.raises(AuthError, match="default password, which is never tried"):
            bmc.power()
    lab.fault("bmc-password", board="new", password="not-the-default")
    forget_sessions()
    lab.settled("new")


def test_4a7_another_certificate_is_refused_before_anything_is_sent(lab: Lab) -> None:
    pin = certificate_fingerprint(lab.url("new"))
    with lab.bmc("new", fingerprint=pin.upper().replace("SHA256", "sha256")) as bmc:
        bmc.power()
    lab.fault("bmc-certificate", board="new")
    lab.settled("new")
    with pytest.raises(CertificateError, match=certificate_fingerprint(lab.url("new"))):
        lab.bmc("new", fingerprint=pin).power()


def test_4a8_answers_in_other_firmwares_shapes(lab: Lab) -> None:
    for variant in ("nested", "bare", "array"):
        lab.clear()
        lab.fault("bmc-shape", board="new", variant=variant)
        with lab.bmc("new") as bmc:
            assert set(bmc.power()) == {1, 2, 3, 4}
            assert isinstance(bmc.uart(1), str)
            assert bmc.abilities() == Abilities(True, True)


@pytest.mark.parametrize("fault", ["answer-cut", "answer-drop"])
def test_4a8_one_cut_answer_is_asked_again(lab: Lab, fault: str) -> None:
    lab.fault(fault, board="new", type="power")
    assert set(lab.bmc("new").power()) == {1, 2, 3, 4}


@pytest.mark.parametrize("fault", ["answer-malformed", "answer-html", "answer-500", "answer-slow", "answer-hang"])
def test_4a8_bad_answers_are_errors_within_the_deadline(lab: Lab, fault: str) -> None:
    lab.fault(fault, board="new", type="power", times=5)
    began = time.monotonic()
    with pytest.raises(HomelabError, match=lab.url("new")):
        lab.bmc("new", timeout_s=1.0).power()
    assert time.monotonic() - began < 1.6


def test_a_dead_daemon_is_unreachable(lab: Lab) -> None:
    lab.fault("bmc-crash", board="new", for_s=200)
    with pytest.raises(UnreachableError, match="no connection"):
        lab.bmc("new", timeout_s=1.0).power()
    lab.settled("new")


def test_4a4_slots_whose_power_is_unknown_are_left_out(lab: Lab) -> None:
    with lab.bmc("new") as bmc:
        lab.fault("power-lies", board="new")
        assert len(bmc.power()) < 4


def test_a_slot_that_does_not_exist_is_never_sent(lab: Lab) -> None:
    with pytest.raises(UserError, match="slots 1 to 4"):
        lab.bmc("new").set_power({256: True})


def test_the_board_that_is_no_board(lab: Lab) -> None:
    with pytest.raises((RefusedError, HomelabError)):
        lab.bmc("new", username="nobody").power()
