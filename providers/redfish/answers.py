"""What a Redfish service's answers mean: documents, refusals, and the few properties of a system that are used."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from providers.errors import ProtocolError, RefusedError
from providers.turingpi.wire import Answer

ON, OFF = "On", "Off"
RESET = "#ComputerSystem.Reset"
ALLOWED = "@Redfish.AllowableValues"
GOOD = (200, 201, 202, 204)
_MOVED = (301, 302, 303, 307, 308)
_EXCERPT = 200
_MAX_MEMBERS = 64  # more systems or cards than any machine has


@dataclass(frozen=True)
class System:
    """A machine as its BMC describes it.

    Attributes:
        link: path of its resource.
        id: what the BMC calls it.
        power: `On`, `Off`, or on the way (`PoweringOn`, `PoweringOff`, `Paused`).
        resets: the kinds of reset that it takes; empty where the BMC does not say.
        reset_link: where a reset is asked for.
        target: what it boots from out of turn (`None`, `Pxe`, `UefiHttp`, ...).
        enabled: for how long that holds: `Disabled`, `Once`, `Continuous`.
        mode: `UEFI` or `Legacy`; "" where the BMC does not say.
        targets: what it can boot from out of turn; empty where the BMC does not say.
        cards: path of its network cards, or "".
        macs: addresses that stand in the system itself, as old firmware has it.
        etag: of this description; "" where the BMC gives none.
    """

    link: str
    id: str
    uuid: str
    power: str
    resets: tuple[str, ...]
    reset_link: str
    target: str
    enabled: str
    mode: str
    targets: tuple[str, ...]
    cards: str
    macs: tuple[str, ...]
    etag: str


def document(where: str, answer: Answer) -> dict[str, Any]:
    """The JSON object of a good answer; {} for one without a body. `where` is the error's subject.

    Raises:
        RefusedError: the BMC said no; its words are in the message.
        ProtocolError: it is no Redfish service, or the body is broken.
    """
    if answer.status in _MOVED:
        raise ProtocolError(
            f"{where}: sent on to {answer.location or 'elsewhere'}; write that address into the settings"
        )
    if answer.status not in GOOD:
        _refuse(where, answer)
    if not answer.body.strip():
        return {}
    if "html" in answer.content_type or answer.body.lstrip()[:1] == b"<":
        raise ProtocolError(f"{where}: got a web page; nothing at this address speaks Redfish, or it is turned off")
    try:
        found = json.loads(answer.text)
    except (ValueError, RecursionError):
        raise ProtocolError(f"{where}: not JSON ({_excerpt(answer.text)})") from None
    if not isinstance(found, dict):
        raise ProtocolError(f"{where}: not a Redfish resource ({_excerpt(answer.text)})")
    return found


def _refuse(where: str, answer: Answer) -> None:
    if answer.status == 404:
        raise RefusedError(f"{where}: is not there (HTTP 404); {complaint(answer)}")
    if 400 <= answer.status < 600:
        raise RefusedError(f"{where}: refused (HTTP {answer.status}); {complaint(answer)}")
    raise ProtocolError(f"{where}: unexpected HTTP status {answer.status}")


def complaint(answer: Answer) -> str:
    """The words of a refusal: the messages of Redfish's error object, or a bare text."""
    try:
        error = json.loads(answer.text).get("error", {})
        details = error.get("@Message.ExtendedInfo", [])
        details = details if isinstance(details, list) else [details]
        words = [str(one["Message"]) for one in details if isinstance(one, dict) and one.get("Message")]
        text = " ".join(words) or str(error.get("message", "")) or answer.text
    except (ValueError, RecursionError, AttributeError):
        text = answer.text
    return _excerpt(text) if "html" not in answer.content_type else "a web page"


def system(where: str, link: str, found: Mapping[str, Any], etag: str) -> System:
    """A system out of its resource.

    Raises:
        ProtocolError: what is needed of it is not there.
    """
    action = _map(_map(found, "Actions"), RESET)
    boot = _map(found, "Boot")
    power = found.get("PowerState")
    if not isinstance(power, str) or not action:
        lacking = "power state" if not isinstance(power, str) else f"action {RESET}"
        raise ProtocolError(f"{where}: no {lacking} in the answer; this is not a machine's Redfish resource")
    return System(
        link=link,
        id=str(found.get("Id", "")),
        uuid=str(found.get("UUID") or "").lower(),
        power=power,
        resets=_texts(action.get(f"ResetType{ALLOWED}")),
        reset_link=path(where, action.get("target")),
        target=str(boot.get("BootSourceOverrideTarget") or "None"),
        enabled=str(boot.get("BootSourceOverrideEnabled") or "Disabled"),
        mode=str(boot.get("BootSourceOverrideMode") or ""),
        targets=_texts(boot.get(f"BootSourceOverrideTarget{ALLOWED}")),
        cards=path(where, one) if (one := _map(found, "EthernetInterfaces").get("@odata.id")) else "",
        macs=macs(_texts(_map(found, "HostCorrelation").get("HostMACAddress"))),
        etag=etag or str(found.get("@odata.etag") or ""),
    )


def members(where: str, found: Mapping[str, Any]) -> list[str]:
    """The paths of a collection's members.

    Raises:
        ProtocolError: it is no collection, or one of endless length.
    """
    listed = found.get("Members")
    if not isinstance(listed, list) or len(listed) > _MAX_MEMBERS:
        raise ProtocolError(f"{where}: not a collection of Redfish resources")
    return [path(where, one.get("@odata.id") if isinstance(one, dict) else None) for one in listed]


def path(where: str, link: object) -> str:
    """A link as a path on the same BMC.

    Raises:
        ProtocolError: it is none, or leads elsewhere: the login must not go there.
    """
    if isinstance(link, str) and link.startswith("/redfish/") and link.isascii() and link.isprintable():
        return link.replace(" ", "%20")
    raise ProtocolError(f"{where}: {_excerpt(str(link))!r} is not a link of this BMC")


def macs(texts: Iterable[str]) -> tuple[str, ...]:
    """MAC addresses in one spelling; what is none (a card without an address) is left out."""
    spelled = [text.strip().lower().replace("-", ":") for text in texts]
    good = [text for text in spelled if len(text) == 17 and set(text) <= set("0123456789abcdef:")]
    return tuple(dict.fromkeys(text for text in good if text != "00:00:00:00:00:00"))


def _map(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key)
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT else line[: _EXCERPT - 3] + "..."
