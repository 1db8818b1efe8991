"""A Turing Pi 2's BMC, any firmware: power, console, USB, and the calls that a flash is made of.

What a firmware can is found by asking it, never by its version: a login is made when a request is refused for want
of one, firmware 1.x is known by its power answer, and 2.1 and later by knowing `node_info` (facts A1).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from providers.deadline import Deadline
from providers.errors import ProtocolError, RefusedError, UserError
from providers.turingpi import answers, session
from providers.turingpi.answers import SLOTS, NodeInfo, Status
from providers.turingpi.wire import Answer, ConnectionFaultError, Stall, Wire, certificate_fingerprint

__all__ = ["Abilities", "Bmc", "Endpoint", "certificate_fingerprint"]

API = "/api/bmc"
ANSWER_TIMEOUT_S = 20.0
TRIES = 3  # of a question that changes nothing, when the connection fails
RETRY_PAUSE_S = 0.2
USB_DEVICE = 1  # the module is a USB device, on the board's USB-A port: what a BMC starts with (facts A5)


@dataclass(frozen=True)
class Endpoint:
    """How a board's BMC is reached. `fingerprint` pins its certificate (SHA-256, hex)."""

    url: str
    username: str = "root"
    password: str = field(default="", repr=False)
    fingerprint: str | None = None


@dataclass(frozen=True)
class Abilities:
    """What a firmware can.

    Attributes:
        handles: a flash is started first and then sent (2.0 and later); else it is one POST (1.x).
        sha256: the BMC compares what it received with a SHA-256 (2.1 and later).
    """

    handles: bool
    sha256: bool


class Bmc:
    """One board's BMC. Slots count from 1, as printed on the board.

    Every call ends within `timeout_s`, retries and logins included, and raises:
        UnreachableError: no answer, or a cut one.
        AuthError: the credentials are refused; never tried again by itself.
        ProtocolError: the answer is not a BMC's.
        RefusedError: the BMC said no, or shows another certificate than the pinned one.
    """

    def __init__(self, wire: Wire, login: session.Session, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._wire = wire
        self._session = login
        self._timeout_s = timeout_s
        self._abilities: Abilities | None = None

    @classmethod
    def connect(cls, endpoint: Endpoint, timeout_s: float = ANSWER_TIMEOUT_S) -> Bmc:
        """A client; nothing is asked until the first call.

        Raises:
            UserError: the URL or the fingerprint makes no sense.
        """
        wire = Wire(endpoint.url, endpoint.fingerprint)
        return cls(wire, session.shared(wire.name, endpoint.username, endpoint.password), timeout_s)

    def __enter__(self) -> Self:
        """Use it in a `with`."""
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        """Close its connections; the login stays for the process's next client."""
        self.close()

    @property
    def name(self) -> str:
        """The board's address, for messages."""
        return self._wire.name

    def close(self) -> None:
        """Close the kept connections."""
        self._wire.close()

    def power(self) -> dict[int, bool]:
        """Power by slot as the BMC has it stored; a slot that it does not know is left out.

        It is a wish, not a measurement: after a failed flash it may be wrong (4a.4).
        """
        return answers.power(f"{self.name}: power", self._get("power"))

    def set_power(self, wished: Mapping[int, bool]) -> None:
        """Switch slots on or off, hard; slots that are not named stay as they are. Does nothing for an empty wish."""
        if not wished:
            return
        bits = {f"node{_checked(slot)}": str(int(on)) for slot, on in sorted(wished.items())}
        self._call("set", "power", bits, repeat=True)

    def reset(self, slot: int) -> None:
        """Cut a slot's power for a second."""
        self._set("reset", repeat=False, node=_index(slot))

    def info(self) -> dict[str, str]:
        """What the BMC tells about itself, flat; every key is optional."""
        for kind in ("about", "other"):
            try:
                return answers.info(self._get(kind))
            except (RefusedError, ProtocolError):
                continue
        return {}

    def node_info(self) -> dict[int, NodeInfo]:
        """What the board was told about its modules. Firmware before 2.1 refuses this."""
        return answers.node_info(f"{self.name}: node_info", self._get("node_info"))

    def uart(self, slot: int) -> str:
        """The last 16 KiB of a module's serial console; reading does not clear them."""
        return answers.uart(f"{self.name}: uart", self._get("uart", node=_index(slot)))

    def uart_write(self, slot: int, text: str) -> None:
        """Type a line on a module's serial console; the BMC adds the line's end."""
        self._set("uart", repeat=False, node=_index(slot), cmd=quote(text, safe=""))

    def usb_reset(self, slot: int) -> None:
        """USB as it normally is: no boot pin raised, the slot a device on the board's USB-A port."""
        self.clear_usb_boot()
        self._set("usb", node=_index(slot), mode=USB_DEVICE)

    def clear_usb_boot(self) -> None:
        """Lower the USB boot pin of all four slots."""
        self._set("clear_usb_boot")

    def reboot(self) -> None:
        """Reboot the BMC. On v2.4 boards this cuts the power of every module."""
        self._set("reboot", repeat=False)

    def abilities(self) -> Abilities:
        """What this firmware can; asked once."""
        if self._abilities is None:
            handles = self._wire.secure or not answers.is_version_1(self._get("power"))
            self._abilities = Abilities(handles, sha256=handles and self._knows_node_info())
        return self._abilities

    def flash_start(self, slot: int, file: str, size: int, sha256: str | None) -> int:
        """Claim the board's transfer slot for `size` bytes; the upload must begin within 10 s (4a.2).

        Whatever the board is transferring is cancelled without a word (4a.1): look at `flash_status` before.

        Returns:
            The transfer's id.
        """
        extra = {"sha256": sha256} if sha256 else {}
        value = self._set("flash", repeat=False, node=_index(slot), file=_safe(file), length=size, **extra)
        return answers.handle(f"{self.name}: start of a flash", value)

    def flash_status(self) -> Status:
        """The state of the board's one transfer slot. Blocks while an upload runs."""
        return answers.status(f"{self.name}: flash status", self._get("flash"))

    def flash_cancel(self) -> None:
        """Cancel whatever the board is transferring."""
        answer = self._ask("GET", f"{API}/upload/0/cancel", Deadline(self._timeout_s), repeat=True)
        if answer.status != 200:
            raise RefusedError(f"{self.name}: cancel: {answers.complaint(answer)}")

    def upload(self, handle: int, size: int, chunks: Iterable[bytes], deadline: Deadline, stall: Stall) -> None:
        """Send a started flash's bytes; returns when all are handed over, which is not when they are written.

        Args:
            handle: from `flash_start`.
            size: how many bytes `chunks` gives.
            chunks: the bytes.
            deadline: for all of it.
            stall: how long the board may take no byte, and how long it may take to answer after the last one.
        """
        answer = self._send(f"{API}/upload/{handle}", "image.raw", size, chunks, deadline, stall)
        if answer.status != 200:
            raise RefusedError(f"{self.name}: upload: {answers.complaint(answer)}")
        if "html" in answer.content_type:
            raise ProtocolError(f"{self.name}: upload: got a web page")

    def upload_at_once(
        self, slot: int, file: str, size: int, chunks: Iterable[bytes], deadline: Deadline, stall: Stall
    ) -> None:
        """Flash with firmware 1.x: one POST that ends when all is written. Arguments as `upload`'s."""
        target = f"{API}?opt=set&type=flash&node={_index(slot)}&file={_safe(file)}"
        where = f"{self.name}: upload"
        value = answers.document(where, self._send(target, file, size, chunks, deadline, stall))
        result = next((str(v) for k, v in _flat(value) if k == "result"), "ok")
        if result.lower() not in ("ok", "0"):
            raise RefusedError(f"{where}: {result}")

    def _knows_node_info(self) -> bool:
        try:
            self.node_info()
        except (RefusedError, ProtocolError):
            return False
        return True

    def _get(self, kind: str, **query: object) -> Any:
        return self._call("get", kind, query, repeat=True)

    def _set(self, kind: str, *, repeat: bool = True, **query: object) -> Any:
        return self._call("set", kind, query, repeat=repeat)

    def _call(self, opt: str, kind: str, query: Mapping[str, object], *, repeat: bool) -> Any:
        # Written out and not percent-encoded: bmcd looks for `opt=set` and `type=flash` in the undecoded query.
        target = f"{API}?opt={opt}&type={kind}" + "".join(f"&{key}={value}" for key, value in query.items())
        answer = self._ask("GET", target, Deadline(self._timeout_s), repeat)
        return answers.document(f"{self.name}: {opt} {kind}", answer)

    def _ask(self, method: str, target: str, deadline: Deadline, repeat: bool) -> Answer:
        for left in reversed(range(TRIES)):
            try:
                return self._authorised(method, target, deadline, fresh=not repeat)
            except ConnectionFaultError as error:
                if left == 0 or deadline.expired or (error.sent and not repeat):
                    raise
                deadline.sleep(RETRY_PAUSE_S)
        raise ProtocolError(f"{self.name}: no try was made")  # unreachable: TRIES is above zero

    def _authorised(self, method: str, target: str, deadline: Deadline, fresh: bool) -> Answer:
        """Ask; on a 401 log in once and ask once more. A second 401 is final."""
        if fresh:
            self._wire.close()  # a kept connection that the BMC has closed would fail after it was "sent"
        used = self._session.token
        answer = self._wire.request(method, target, deadline, _bearer(used))
        if answer.status == 401:
            token = self._session.renew(self._wire, used, deadline)
            answer = self._wire.request(method, target, deadline, _bearer(token))
        if answer.status in (401, 403):
            raise self._session.refuse(self._wire, answers.complaint(answer))
        return answer

    def _send(
        self, target: str, file: str, size: int, chunks: Iterable[bytes], deadline: Deadline, stall: Stall
    ) -> Answer:
        """POST one file as multipart. The bytes exist once, so there is no second try here."""
        boundary = secrets.token_hex(16)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{_safe(file)}"\r\n'
            f"Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            **_bearer(self._session.token),
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + size + len(tail)),
        }
        self._wire.close()
        answer = self._wire.request("POST", target, deadline, headers, _framed(head, chunks, tail), stall)
        if answer.status == 401:
            raise RefusedError(
                f"{self.name}: the login was lost in the middle of a flash ({answers.complaint(answer)})"
            )
        return answer


def _framed(head: bytes, chunks: Iterable[bytes], tail: bytes) -> Iterator[bytes]:
    yield head
    yield from chunks
    yield tail


def _bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _checked(slot: int) -> int:
    if slot not in SLOTS:  # a BMC takes 256 for slot 1 (facts A4)
        raise UserError(f"slot {slot}: a Turing Pi 2 has slots 1 to 4")
    return slot


def _index(slot: int) -> int:
    return _checked(slot) - 1


def _safe(file: str) -> str:
    """A file name that needs no quoting, and never ends in .xz: that would have a BMC decompress raw bytes."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in file)
    return plain.removesuffix(".xz") or "image"


def _flat(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _flat(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(inner)
