"""A machine's BMC over Redfish: power, boot once from the network, MAC addresses.

Links are followed and never built: iLO, iDRAC and the rest call the same things by other paths. What differs between
them otherwise (ETags that must or must not be sent, boot modes that can't be set, resets that are missing) is found out
by asking, in a bounded number of steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from providers import pace
from providers.deadline import Deadline
from providers.errors import ProtocolError, RefusedError, UserError
from providers.redfish import answers
from providers.redfish.answers import OFF, ON, System
from providers.redfish.login import Login
from providers.turingpi.wire import Answer, ConnectionFaultError, Wire

ROOT = "/redfish/v1/"
ANSWER_TIMEOUT_S = 30.0  # BMCs take their time: a system's description may be collected anew for each question
TRIES = 3
RETRY_PAUSE_S = 0.5
POLL_S = 2.0
POWER_S = 120.0
GRACE_S = 180.0  # for an operating system to shut down by itself

PXE, HTTP = "Pxe", "UefiHttp"
_HARD_RESTARTS = ("ForceRestart", "PowerCycle")
_HARD_OFF = ("ForceOff",)
_ANY = "*"


@dataclass(frozen=True)
class Endpoint:
    """How a BMC is reached.

    Attributes:
        fingerprint: SHA-256 of the certificate that it must show, as hex.
        system: which machine is meant, where the BMC has several.
    """

    url: str
    username: str
    password: str = field(repr=False)
    fingerprint: str | None = None
    system: str = ""


class _RedfishWire(Wire):
    def hint(self, error: Exception) -> str:
        """A BMC's Redfish is on https unless it is an emulator's."""
        if self.secure and ("WRONG_VERSION" in str(error) or "HTTP_REQUEST" in str(error)):
            return "; this port speaks no TLS: write the address with http://, or take the BMC's https port"
        return ""


class Redfish:
    """One machine's BMC.

    Every call ends in bounded time, retries and logins included, and raises:
        UnreachableError: no answer, or a cut one.
        AuthError: the credentials are refused; never tried again by itself.
        ProtocolError: the answer is not Redfish's.
        RefusedError: the BMC said no, or shows another certificate than the pinned one.
        UserError: the BMC has several machines and none is named, or it has not the one that is.
    """

    def __init__(self, wire: Wire, login: Login, system: str = "", timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._wire = wire
        self._login = login
        self._wanted = system
        self._timeout_s = timeout_s
        self._root: dict[str, Any] | None = None
        self._link = ""

    @classmethod
    def connect(cls, endpoint: Endpoint, timeout_s: float = ANSWER_TIMEOUT_S) -> Redfish:
        """A client; nothing is asked until the first call.

        Raises:
            UserError: the URL or the fingerprint makes no sense.
        """
        wire = _RedfishWire(endpoint.url, endpoint.fingerprint)
        return cls(wire, Login(endpoint.username, endpoint.password), endpoint.system, timeout_s)

    def __enter__(self) -> Self:
        """Use it in a `with`."""
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        """Give the session back and close the connections."""
        self.close()

    @property
    def name(self) -> str:
        """The BMC's address, for messages."""
        return self._wire.name

    def close(self) -> None:
        """Log out, and close the kept connections."""
        self._login.log_out(self._wire, Deadline(min(5.0, self._timeout_s)))
        self._wire.close()

    def systems(self) -> list[str]:
        """The paths of all machines behind this BMC: one, unless it is a chassis'."""
        where = f"{self.name}: systems"
        link = answers.path(where, _link(self._service(), "Systems"))
        return answers.members(where, self._get(link)[0])

    def system(self) -> System:
        """The machine as it is now."""
        link = self._link or self._found()
        found, etag = self._get(link)
        self._link = link
        return answers.system(f"{self.name}: {link}", link, found, etag)

    def macs(self) -> tuple[str, ...]:
        """The MAC addresses of the machine's network cards; some BMCs know them only after its first boot."""
        system = self.system()
        found = list(system.macs)
        if system.cards:
            where = f"{self.name}: {system.cards}"
            for link in answers.members(where, self._get(system.cards)[0]):
                card = self._get(link)[0]
                found.append(str(card.get("PermanentMACAddress") or card.get("MACAddress") or ""))
        return answers.macs(found)

    def power_on(self, limit_s: float = POWER_S) -> None:
        """Switch the machine on and wait until it is; one that is on stays as it is.

        Raises:
            DeadlineError: it is not on within `limit_s` seconds.
        """
        if self.system().power != ON:
            self._reset("On")
            self._wait(ON, limit_s)

    def power_off(self, *, graceful: bool = True, grace_s: float = GRACE_S, limit_s: float = POWER_S) -> None:
        """Switch the machine off and wait until it is.

        Args:
            graceful: ask its operating system first.
            grace_s: how long that may take before the power is cut, in seconds.
            limit_s: how long a cut may take, in seconds.

        Raises:
            DeadlineError: it is not off in time.
        """
        system = self.system()
        if system.power == OFF:
            return
        if graceful and _takes(system, "GracefulShutdown") and self._went_down(grace_s):
            return
        self._reset(*_HARD_OFF)
        self._wait(OFF, limit_s)

    def restart(self, *, limit_s: float = POWER_S) -> None:
        """Restart the machine hard, and wait until it has power; one that is off is switched on.

        Raises:
            DeadlineError: it has no power within `limit_s` seconds.
        """
        if self.system().power == OFF:
            self.power_on(limit_s)
            return
        self._reset(*_HARD_RESTARTS)
        self._wait(ON, limit_s)

    def boot_once(self, target: str = PXE, http_uri: str = "") -> System:
        """Have the next start boot from the network, and only that one; read back before it is believed.

        Args:
            target: `Pxe`, or `UefiHttp` for a firmware that boots over HTTP.
            http_uri: what a firmware loads over HTTP; "" leaves that to DHCP.

        Raises:
            RefusedError: the machine can't, or the BMC took it and does something else.
        """
        system = self.system()
        if system.targets and target not in system.targets:
            raise RefusedError(
                f"{self.name}: {system.id} does not boot from {target}, only from {', '.join(system.targets)}; "
                f"turn on network boot in its firmware's setup"
            )
        wish = {"BootSourceOverrideTarget": target, "BootSourceOverrideEnabled": "Once"}
        wish |= {"HttpBootUri": http_uri} if http_uri else {}
        self._patch_boot(system, wish)
        now = self.system()
        if now.target != target or now.enabled == "Disabled":
            raise RefusedError(
                f"{self.name}: {now.id} was told to boot from {target} and says {now.target} ({now.enabled}); "
                f"look whether network boot is turned on in its firmware's setup"
            )
        return now

    def _found(self) -> str:
        links = self.systems()
        named = [link for link in links if link.rstrip("/").rpartition("/")[2] == self._wanted]
        if self._wanted and named:
            return named[0]
        known = ", ".join(link.rstrip("/").rpartition("/")[2] for link in links) or "none"
        if self._wanted:
            raise UserError(f"{self.name}: there is no machine {self._wanted}; it has {known}")
        if len(links) != 1:
            raise UserError(f"{self.name}: has {len(links)} machines ({known}); write which one under `system`")
        return links[0]

    def _service(self) -> dict[str, Any]:
        """The root, which a BMC shows without a login."""
        if self._root is None:
            where = f"{self.name}: Redfish"
            answer = self._repeated("GET", ROOT, {}, None)
            if answer.status in (401, 403):  # some ask for a login even here, and then there is only the password
                answer = self._repeated("GET", ROOT, self._headers(""), None)
                if answer.status in (401, 403):
                    raise self._login.refuse(self._wire, answer)
            root = answers.document(where, answer)
            if "RedfishVersion" not in root and "Systems" not in root:
                raise ProtocolError(f"{where}: the answer is not a Redfish service's; check the address")
            self._root = root
        return self._root

    def _headers(self, sessions: str) -> dict[str, str]:
        return self._login.headers(self._wire, sessions, Deadline(self._timeout_s))

    def _sessions(self) -> str:
        links = self._service().get("Links")
        link = _link(links, "Sessions") if isinstance(links, Mapping) else None
        return answers.path(f"{self.name}: sessions", link) if link else ""

    def _get(self, link: str) -> tuple[dict[str, Any], str]:
        answer = self._authorised("GET", link, {}, None)
        return answers.document(f"{self.name}: {link}", answer), answer.etag

    def _authorised(self, method: str, link: str, extra: Mapping[str, str], content: bytes | None) -> Answer:
        """Ask with the login; a session that the BMC has ended is renewed once."""
        answer = self._with_login(method, link, extra, content)
        if answer.status == 401 and self._login.is_session:
            self._login.forget()
            answer = self._with_login(method, link, extra, content)
        if answer.status == 401:
            raise self._login.refuse(self._wire, answer)
        return answer

    def _with_login(self, method: str, link: str, extra: Mapping[str, str], content: bytes | None) -> Answer:
        return self._repeated(method, link, {**self._headers(self._sessions()), **extra}, content)

    def _repeated(self, method: str, link: str, headers: Mapping[str, str], content: bytes | None) -> Answer:
        """Ask again when the connection fails, where the device can't have acted on it already."""
        deadline = Deadline(self._timeout_s)
        kind = {"Content-Type": "application/json"} if content is not None else {}
        sent = {"Accept": "application/json", **kind, **headers}
        for _ in range(TRIES - 1):
            try:
                return self._wire.request(method, link, deadline, sent, content)
            except ConnectionFaultError as error:
                if deadline.expired or (error.sent and method == "POST"):
                    raise
            deadline.sleep(RETRY_PAUSE_S)
        return self._wire.request(method, link, deadline, sent, content)

    def _reset(self, *kinds: str) -> None:
        """Ask for the first of these resets that the machine takes."""
        system = self.system()
        kind = next((kind for kind in kinds if _takes(system, kind)), None)
        if kind is None:
            raise RefusedError(f"{self.name}: {system.id} takes no {kinds[0]}, only {', '.join(system.resets)}")
        body = json.dumps({"ResetType": kind}).encode()
        answer = self._authorised("POST", system.reset_link, {}, body)
        answers.document(f"{self.name}: {kind}", answer)

    def _went_down(self, grace_s: float) -> bool:
        self._reset("GracefulShutdown")
        return self._is_within(OFF, pace.limit(grace_s))

    def _is_within(self, power: str, limit_s: float) -> bool:
        deadline = Deadline(limit_s)
        while True:
            if self.system().power == power:
                return True
            if deadline.expired:
                return False
            deadline.sleep(pace.interval(POLL_S))

    def _wait(self, power: str, limit_s: float) -> None:
        what = f"{self.name}: power {power.lower()}"
        Deadline(pace.limit(limit_s)).poll(
            lambda: True if self.system().power == power else None, what, pace.interval(POLL_S)
        )

    def _patch_boot(self, system: System, wish: Mapping[str, str]) -> None:
        """Change the boot override, with the ETag as this BMC wants it, and the mode only if it asks for one."""
        answer = self._patched(system, {"Boot": wish})
        if answer.status == 400:
            answer = self._patched(system, {"Boot": {**wish, "BootSourceOverrideMode": system.mode or "UEFI"}})
        answers.document(f"{self.name}: boot once from {wish['BootSourceOverrideTarget']}", answer)

    def _patched(self, system: System, change: Mapping[str, Any]) -> Answer:
        body = json.dumps(change).encode()
        answer = self._conditional(system, system.etag, body)
        for etag in self._etags(system):
            if answer.status not in (412, 428):
                break
            answer = self._conditional(system, etag, body)
        return answer

    def _conditional(self, system: System, etag: str, body: bytes) -> Answer:
        return self._authorised("PATCH", system.link, {"If-Match": etag} if etag else {}, body)

    def _etags(self, system: System) -> Iterator[str]:
        """What else to send as If-Match: 412 wants another one, 428 wants one at all."""
        fresh = self.system().etag
        if fresh.startswith("W/"):
            yield fresh.removeprefix("W/")  # some compare by letter what they marked as weak
        elif fresh and fresh != system.etag:
            yield fresh
        yield _ANY if not fresh else ""


def _takes(system: System, kind: str) -> bool:
    """Whether a machine takes a kind of reset; one that does not say is taken to know the plain ones."""
    return kind in system.resets if system.resets else kind != "PowerCycle"


def _link(found: Mapping[str, Any], key: str) -> object:
    value = found.get(key)
    return value.get("@odata.id") if isinstance(value, Mapping) else None
