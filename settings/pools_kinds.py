"""Kinds of values that only pools and their boot service have."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any

from .kinds import as_text, is_url, kind
from .problems import quoted, wrong

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")
_OPTION = re.compile(r"(option:[a-z0-9-]+|[0-9]{1,3})\Z")
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_BOOTS_IPXE = ("||", "&&", "${", "#", "{config}")


def _uuid(value: object) -> str:
    text = as_text(value, "4c1ab61c-9a6c-4a0e-8f5e-0a5d8a3c2b11").lower()
    if not _UUID.match(text):
        raise wrong(f"{quoted(text)} is not a UUID", "write 32 hex digits as 8-4-4-4-12, as the firmware shows them")
    return text


def _interface(value: object) -> str:
    text = as_text(value, "eth0")
    if not _INTERFACE.match(text):
        raise wrong(f"{quoted(text)} is not a network interface", "write its name, such as eth0 or enp1s0")
    return text


def _option(value: object) -> str:
    text = str(value) if type(value) is int else as_text(value, "option:ntp-server")
    if not _OPTION.match(text) or (text.isdigit() and not 1 <= int(text) <= 254):
        raise wrong(f"{quoted(text)} is not a DHCP option", "write option:NAME as dnsmasq knows it, or its number")
    return text


def _option_value(value: object) -> str:
    text = as_text(value, "192.168.1.10")
    if not text or not text.isprintable():
        raise wrong(f"{quoted(text)} is not one line of text", "write the option's value as dnsmasq takes it")
    return text


def _argument(value: object) -> str:
    text = as_text(value, "console=ttyS0")
    if not text.isprintable() or " " in text or not text:
        raise wrong(f"{quoted(text)} is not one kernel argument", "give each argument an item of its own in the list")
    if mark := next((mark for mark in _BOOTS_IPXE if mark in text), None):
        raise wrong(f"{quoted(text)} holds '{mark}', which iPXE takes for its own", "leave it out")
    return text


def _file(value: object) -> str:
    text = as_text(value, "http://192.168.1.10/images/vmlinuz")
    if "://" in text:
        if not is_url(text):
            raise wrong(f"{quoted(text)} is not an http(s) URL", "write http(s)://host/path, without credentials")
        return text
    if ".." in PurePosixPath(text).parts or not text.isprintable() or not text or text.endswith("/"):
        raise wrong(f"{quoted(text)} is not a file", "write a URL, or a path such as images/build/debian/vmlinuz")
    return text


def _release(value: object) -> str:
    text = str(value) if type(value) is int else as_text(value, "2026-11-21")
    if not _RELEASE.match(text):
        raise wrong(f"{quoted(text)} is not a release", "use letters, digits, dots and dashes, such as 2026-11-21")
    return text


_TEXT: dict[str, Any] = {"type": "string"}

Uuid = Annotated[
    str, *kind(_uuid, {"type": "string", "pattern": "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"})
]
Interface = Annotated[str, *kind(_interface, _TEXT)]
DhcpOption = Annotated[str, *kind(_option, _TEXT)]
DhcpValue = Annotated[str, *kind(_option_value, _TEXT)]
Argument = Annotated[str, *kind(_argument, _TEXT)]
BootFile = Annotated[str, *kind(_file, _TEXT)]
Release = Annotated[str, *kind(_release, {"type": ["string", "integer"]})]
