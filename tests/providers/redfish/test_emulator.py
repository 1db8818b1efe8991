"""The client against sushy-tools' emulator: power, boot from the network, MAC addresses, logins, certificates."""

from collections.abc import Iterator

import pytest

from providers.errors import AuthError, UserError
from providers.redfish.client import PXE
from providers.redfish.login import forget_refusals
from providers.turingpi.wire import CertificateError
from tests.providers.redfish.emulator import MACS, OTHER, UUID, Emulator, emulator


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("plain"), systems=(UUID, OTHER)) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("guarded"), tls=True) as running:
        yield running


def test_a_machine_is_switched_on_and_off_and_what_is_done_is_not_done_again(plain: Emulator):
    """The emulator lets 1 to 11 s pass before a switch shows, as real power does."""
    with plain.client(system=UUID) as bmc:
        assert bmc.system().power == "Off"
        bmc.power_off()  # already
        bmc.power_on(limit_s=40)
        assert bmc.system().power == "On"
        bmc.power_on(limit_s=0)  # already: nothing to wait for
        bmc.power_off(grace_s=40)
        assert bmc.system().power == "Off"


def test_boot_from_the_network_is_read_back(plain: Emulator):
    with plain.client(system=OTHER) as bmc:
        assert bmc.boot_once(PXE).target == "Pxe"
        assert bmc.system().target == "Pxe"
        assert bmc.system().enabled != "Disabled"


def test_mac_addresses_of_all_cards(plain: Emulator):
    with plain.client(system=OTHER) as bmc:
        assert bmc.macs() == MACS


def test_one_of_several_machines_must_be_named(plain: Emulator):
    with plain.client() as bmc, pytest.raises(UserError, match=r"has 2 machines .*write which one under `system`"):
        bmc.system()
    with plain.client(system="box7") as bmc, pytest.raises(UserError, match="there is no machine box7; it has"):
        bmc.system()


def test_a_login_and_a_pinned_certificate(guarded: Emulator):
    with guarded.client(fingerprint=guarded.fingerprint) as bmc:
        assert bmc.system().uuid == UUID


def test_a_wrong_password_is_tried_once(guarded: Emulator):
    forget_refusals()
    for _ in range(10):
        with (
            guarded.client("wrong") as bmc,
            pytest.raises(AuthError, match=r"user admin is not let in .*check username and password") as caught,
        ):
            bmc.system()
        assert "wrong" not in str(caught.value)


def test_another_certificate_gets_no_login(guarded: Emulator):
    other = "sha256:" + "0" * 64
    with guarded.client(fingerprint=other) as bmc, pytest.raises(CertificateError, match="nothing was sent"):
        bmc.system()
