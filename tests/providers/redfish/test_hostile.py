"""The client against services that behave as no standard says: the quirks of real BMCs, and things that are none."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.errors import AuthError, HomelabError, ProtocolError, RefusedError, UnreachableError
from providers.redfish.client import HTTP, PXE
from providers.redfish.login import forget_refusals
from tests.providers.redfish.emulator import Asked, Hostile, Reply, hostile

SYSTEM = "/redfish/v1/Systems/1"
SESSIONS = "/redfish/v1/SessionService/Sessions"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
PASSWORD = "hunter2-secret"


class Bmc:
    """A good BMC; tests spoil parts of it."""

    def __init__(self) -> None:
        self.power = "Off"
        self.boot = {"BootSourceOverrideTarget": "None", "BootSourceOverrideEnabled": "Disabled"}
        self.resets = ["On", "ForceOff", "ForceRestart", "GracefulShutdown"]
        self.spoiled: dict[tuple[str, str], Callable[[Asked], Reply | None]] = {}
        self.logins = 0
        self.valid: set[str] = set()
        self.etag = '"1"'

    def __call__(self, asked: Asked) -> Reply:
        spoil = self.spoiled.get((asked.method, asked.path))
        if spoil is not None and (reply := spoil(asked)) is not None:
            return reply
        if asked.path == "/redfish/v1/":
            links = {"Sessions": {"@odata.id": SESSIONS}}
            return Reply(
                body={"RedfishVersion": "1.8.0", "Systems": {"@odata.id": "/redfish/v1/Systems"}, "Links": links}
            )
        if (asked.method, asked.path) == ("POST", SESSIONS):
            return self._log_in(asked)
        if asked.headers.get("x-auth-token") not in self.valid:
            return Reply(401, {"error": {"message": "no session"}})
        return self._of_the_system(asked)

    def _log_in(self, asked: Asked) -> Reply:
        if asked.body != {"UserName": "admin", "Password": PASSWORD}:
            return Reply(401, {"error": {"message": "bad"}})
        self.logins += 1
        token = f"token{self.logins}"
        self.valid.add(token)
        link = f"{SESSIONS}/{self.logins}"
        return Reply(201, {"@odata.id": link}, {"X-Auth-Token": token, "Location": link})

    def _of_the_system(self, asked: Asked) -> Reply:
        match asked.method, asked.path:
            case "GET", "/redfish/v1/Systems":
                return Reply(body={"Members": [{"@odata.id": SYSTEM}]})
            case "GET", "/redfish/v1/Systems/1":
                return Reply(body=self.description(), headers={"ETag": self.etag} if self.etag else {})
            case "POST", "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset":
                self.power = "Off" if "Off" in asked.body["ResetType"] else "On"
                return Reply(204)
            case "PATCH", "/redfish/v1/Systems/1":
                self.boot |= asked.body["Boot"]
                return Reply(200, {})
            case "DELETE", _:
                self.valid.clear()
                return Reply(204)
        return Reply(404, {"error": {"message": "nothing here"}})

    def description(self) -> dict[str, Any]:
        action = {"target": RESET, "ResetType@Redfish.AllowableValues": self.resets}
        allowed = {"BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Hdd"]}
        return {
            "Id": "1",
            "UUID": "ABC",
            "PowerState": self.power,
            "Boot": {**self.boot, **allowed},
            "Actions": {"#ComputerSystem.Reset": action},
            "HostCorrelation": {"HostMACAddress": ["AA-BB-CC-00-00-01", "", "00:00:00:00:00:00", "none"]},
        }


@pytest.fixture
def bmc() -> Bmc:
    forget_refusals()
    return Bmc()


@pytest.fixture
def service(bmc: Bmc, tmp_path: Path) -> Iterator[Hostile]:
    with hostile(tmp_path, bmc) as running:
        yield running


def _fails(service: Hostile, kind: type[HomelabError], match: str, act: str = "system") -> str:
    with service.client() as client, pytest.raises(kind, match=match) as caught:
        getattr(client, act)()
    assert PASSWORD not in str(caught.value)
    assert service.url in str(caught.value)
    return str(caught.value)


def test_a_session_is_opened_once_and_given_back(bmc: Bmc, service: Hostile):
    with service.client() as client:
        for _ in range(5):
            client.system()
        assert client.macs() == ("aa:bb:cc:00:00:01",)  # as old iLOs tell them
    assert bmc.logins == 1
    assert service.count("DELETE", f"{SESSIONS}/1") == 1
    assert all("authorization" not in asked.headers for asked in service.asked)


def test_a_session_that_the_bmc_ended_is_renewed_once(bmc: Bmc, service: Hostile):
    with service.client() as client:
        client.system()
        bmc.valid.clear()
        assert client.system().power == "Off"
    assert bmc.logins == 2


def test_an_endless_401_ends_after_two_logins(bmc: Bmc, service: Hostile):
    bmc.spoiled[("GET", "/redfish/v1/Systems")] = lambda _: Reply(401, {"error": {"message": "go away"}})
    _fails(service, AuthError, "user admin is not let in .*go away")
    assert bmc.logins == 2
    _fails(service, AuthError, "user admin is not let in")  # remembered: a BMC locks users out
    assert bmc.logins == 2


def test_without_a_session_service_the_password_goes_with_each_request(bmc: Bmc, service: Hostile):
    bmc.spoiled[("POST", SESSIONS)] = lambda _: Reply(405, {})
    _fails(service, AuthError, "not let in")
    sent = [asked.headers.get("authorization", "") for asked in service.asked if asked.path == "/redfish/v1/Systems"]
    assert [word[:6] for word in sent] == ["Basic "]


def test_no_password_over_plain_http(bmc: Bmc, tmp_path: Path):
    with hostile(tmp_path, bmc, tls=False) as plain:
        _fails(plain, AuthError, "asks for a login over plain http; write the address with https://")
        assert all(PASSWORD not in json.dumps(asked.body) for asked in plain.asked)
        assert all("authorization" not in asked.headers for asked in plain.asked)


def test_a_web_page_with_200_is_no_redfish(bmc: Bmc, service: Hostile):
    bmc.spoiled[("GET", "/redfish/v1/")] = lambda _: Reply(body="<html>welcome</html>")
    _fails(service, ProtocolError, "got a web page; nothing at this address speaks Redfish")


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (Reply(body=[1, 2]), "not a Redfish resource"),
        (Reply(body={"hello": "world"}), "not a Redfish service's"),
        (Reply(301, {}, {"Location": "https://elsewhere/"}), "sent on to https://elsewhere/; write that address"),
        (Reply(body={"RedfishVersion": "1", "Systems": {"@odata.id": "https://evil/redfish/v1/"}}), "is not a link of"),
        (Reply(body={"RedfishVersion": "1"}), "is not a link of this BMC"),
    ],
    ids=["list", "json-of-another", "redirect", "link-away", "no-systems"],
)  # fmt: skip
def test_what_is_no_service_is_told(bmc: Bmc, service: Hostile, reply: Reply, match: str):
    bmc.spoiled[("GET", "/redfish/v1/")] = lambda _: reply
    _fails(service, ProtocolError, match)


def test_a_question_whose_answer_is_cut_is_asked_again(bmc: Bmc, service: Hostile):
    left = [1, 1]
    bmc.spoiled[("GET", SYSTEM)] = lambda _: Reply(cut=True) if left and left.pop() else None
    with service.client() as client:
        assert client.system().power == "Off"
    assert service.count("GET", SYSTEM) == 3


def test_a_reset_whose_answer_is_cut_is_not_asked_again(bmc: Bmc, service: Hostile):
    """It may have been done: a second one would cut the power of a machine that just starts."""
    bmc.spoiled[("POST", RESET)] = lambda _: Reply(cut=True)
    _fails(service, UnreachableError, "the connection was cut", "power_on")
    assert service.count("POST", RESET) == 1


def test_nothing_listens(tmp_path: Path, bmc: Bmc):
    with hostile(tmp_path, bmc) as gone:
        pass
    begin = time.monotonic()
    _fails(gone, UnreachableError, "no connection")
    assert time.monotonic() - begin < 5


def test_a_refusal_has_the_bmcs_own_words(bmc: Bmc, service: Hostile):
    info = [{"MessageId": "x", "Message": "The server is locked down."}, {"Message": "Ask the admin."}]
    bmc.spoiled[("POST", RESET)] = lambda _: Reply(409, {"error": {"@Message.ExtendedInfo": info}})
    _fails(service, RefusedError, "On: refused .HTTP 409.; The server is locked down. Ask the admin.", "power_on")


def test_a_system_without_power_is_none(bmc: Bmc, service: Hostile):
    bmc.spoiled[("GET", SYSTEM)] = lambda _: Reply(body={"Id": "1"})
    _fails(service, ProtocolError, "no power state in the answer")


@pytest.mark.parametrize(
    ("etag", "takes", "status"),
    [
        ('W/"a"', '"a"', 412),  # marked as weak, compared by letter
        ('W/"a"', 'W/"a"', 412),
        ('"a"', None, 412),  # gives an ETag and takes none
        ("", "*", 428),  # gives none and wants one
        ("", None, 428),
    ],
)
def test_etags_as_each_bmc_wants_them(bmc: Bmc, service: Hostile, etag: str, takes: str | None, status: int):
    bmc.etag = etag
    bmc.spoiled[("PATCH", SYSTEM)] = lambda asked: None if asked.headers.get("if-match") == takes else Reply(status, {})
    with service.client() as client:
        assert client.boot_once().enabled == "Once"
    assert service.count("PATCH", SYSTEM) <= 3


def test_a_bmc_that_wants_the_mode_gets_the_one_it_has(bmc: Bmc, service: Hostile):
    bmc.boot["BootSourceOverrideMode"] = "Legacy"
    wants = lambda asked: None if "BootSourceOverrideMode" in asked.body["Boot"] else Reply(400, {})  # noqa: E731
    bmc.spoiled[("PATCH", SYSTEM)] = wants
    with service.client() as client:
        assert client.boot_once(PXE).mode == "Legacy"


def test_what_was_taken_and_not_done_is_an_error(bmc: Bmc, service: Hostile):
    bmc.spoiled[("PATCH", SYSTEM)] = lambda _: Reply(204)
    _fails(service, RefusedError, "was told to boot from Pxe and says None", "boot_once")


def test_what_it_can_not_boot_from_is_refused_before_it_is_asked(service: Hostile):
    with (
        service.client() as client,
        pytest.raises(RefusedError, match="does not boot from UefiHttp, only from None, P"),
    ):
        client.boot_once(HTTP)
    assert service.count("PATCH", SYSTEM) == 0


def test_a_restart_takes_what_the_bmc_has(bmc: Bmc, service: Hostile):
    bmc.power, bmc.resets = "On", ["On", "ForceOff", "PowerCycle"]
    with service.client() as client:
        client.restart()
    assert [asked.body for asked in service.asked if asked.path == RESET] == [{"ResetType": "PowerCycle"}]
    bmc.resets = ["On", "ForceOff"]
    _fails(service, RefusedError, "takes no ForceRestart, only On, ForceOff", "restart")


def test_a_machine_that_does_not_shut_down_by_itself_loses_its_power(bmc: Bmc, service: Hostile):
    bmc.power = "On"
    ignored = lambda asked: Reply(204) if asked.body["ResetType"] == "GracefulShutdown" else None  # noqa: E731
    bmc.spoiled[("POST", RESET)] = ignored
    with service.client() as client:
        client.power_off(grace_s=0.2)
        assert client.system().power == "Off"
    kinds = [asked.body["ResetType"] for asked in service.asked if asked.path == RESET]
    assert kinds == ["GracefulShutdown", "ForceOff"]
