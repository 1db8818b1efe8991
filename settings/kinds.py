"""The kinds of values that settings are made of. Each turns what the file says into one real type, or says the fix."""

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import PlainSerializer, PlainValidator, SecretStr, WithJsonSchema

from . import support
from .problems import quoted, wrong
from .yamlfile import parse

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_EXTENSION = re.compile(r"[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*\Z")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")
_SIZE = re.compile(r"(==|>=|<=|>|<)?\s*[0-9]+(\.[0-9]+)?\s*([kKMGTP]i?)?B?\Z")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_IMAGE_ENDS = (".raw", ".raw.xz", ".raw.zst")


def as_text(value: object, example: str) -> str:
    """The value if it is text; the example is shown where it is not."""
    if isinstance(value, str):
        return value
    fault = "has no value" if value is None else f"{quoted(value)} is not text"
    raise wrong(fault, f'write it in quotes, such as "{example}"')


def _address(value: object) -> IPv4Address:
    if isinstance(value, IPv4Address):
        return value
    text = as_text(value, "192.168.1.231")
    try:
        return IPv4Address(text)
    except AddressValueError:
        fix = "leave out the /length" if "/" in text else "write four numbers, such as 192.168.1.231"
        raise wrong(f"{quoted(text)} is not an IPv4 address", fix) from None


def _network(value: object) -> IPv4Network:
    if isinstance(value, IPv4Network):
        return value
    text = as_text(value, "192.168.1.0/24")
    if "/" not in text:
        raise wrong(f"{quoted(text)} has no length", "write it with the length, such as 192.168.1.0/24")
    try:
        network = IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise wrong(f"{quoted(text)} is not an IPv4 network", "write it as in 192.168.1.0/24") from None
    if IPv4Address(text.split("/")[0]) != network.network_address:
        raise wrong(f"{quoted(text)} has host bits set", f"did you mean {network}?")
    return network


def _mac(value: object) -> str:
    text = as_text(value, "02:00:00:00:00:01").lower().replace("-", ":")
    if not _MAC.match(text):
        raise wrong(f"{quoted(value)} is not a MAC address", 'write six pairs of hex, such as "02:00:00:00:00:01"')
    if int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise wrong(f"{quoted(value)} is no network card's address", "read it from the module's label or the router")
    return text


def is_dns_name(text: str) -> bool:
    """Whether text is a host name by RFC 1123: lower-case labels of letters, digits and dashes, 253 at most."""
    return len(text) <= 253 and all(_LABEL.match(part) for part in text.split("."))


def _dns(value: object) -> str:
    text = as_text(value, "k8s.home.arpa")
    if not is_dns_name(text) or _is_address(text):
        raise wrong(f"{quoted(text)} is not a DNS name", "write lower-case words and dots, such as k8s.home.arpa")
    return text


def _name(value: object) -> str:
    text = as_text(value, "node1")
    if not _LABEL.match(text):
        raise wrong(f"{quoted(text)} is not a name", "use lower-case letters, digits and dashes, 63 at most (RFC 1123)")
    return text


def _host(value: object) -> str:
    text = as_text(value, "pool.ntp.org")
    if not is_host(text):
        raise wrong(f"{quoted(text)} is not a host", "write an address or a DNS name")
    return text


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def is_host(text: str) -> bool:
    """Whether text is an IPv4 address or a DNS name."""
    # A name whose last part is a number can only be an address (RFC 1123, 2.1), so 192.168.1.300 is neither.
    return _is_address(text) if text.rsplit(".", 1)[-1].isdigit() else is_dns_name(text)


def _url(value: object) -> str:
    text = as_text(value, "https://factory.talos.dev")
    if not is_url(text):
        raise wrong(_url_fault(text), "write http(s)://host, without credentials")
    return text.rstrip("/")


def is_url(text: str) -> bool:
    """Whether text is an http(s) URL with a good host and port and without credentials, query or fragment."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    clean = not (url.query or url.fragment or "@" in url.netloc or " " in text) and text.isprintable()
    return url.scheme in ("http", "https") and clean and is_host(url.hostname or "") and port != 0


def _url_fault(text: str) -> str:
    # What stands before an @ may be a password, so such a text is never repeated.
    return "holds credentials" if "@" in text else f"{quoted(text)} is not an http(s) URL"


def _board_address(value: object) -> str:
    text = as_text(value, "192.168.1.60").rstrip("/")
    url = text if "://" in text else f"https://{text}"
    if not is_url(url) or urlsplit(url).path:
        fault = "holds credentials" if "@" in text else f"{quoted(text)} is no board's address"
        raise wrong(fault, "write 192.168.1.60, turingpi.local, host:port or http(s)://host:port")
    return text


def _version(value: object) -> str:
    text = str(value) if isinstance(value, float | int) and not isinstance(value, bool) else as_text(value, "v1.13.9")
    if support.VERSION.match(text):
        return text
    meant = f"did you mean v{text}?" if support.VERSION.match("v" + text) else "write all of it, such as v1.13.9"
    raise wrong(f"{quoted(text)} is not a version", meant)


def _sha256(value: object) -> str:
    text = as_text(value, "64 hex digits").lower()
    if not _HEX.match(text):
        raise wrong(f"{quoted(text)} is not a SHA-256", "write its 64 hex digits")
    return text


def _fingerprint(value: object) -> str:
    text = as_text(value, "sha256:64 hex digits").lower()
    digits = text.removeprefix("sha256:").replace(":", "")
    if not text.startswith("sha256:") or not _HEX.match(digits):
        raise wrong(f"{quoted(text)} is not a fingerprint", "write sha256: and 64 hex digits")
    return f"sha256:{digits}"


def _secret(value: object) -> SecretStr:
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str) or not value:
        raise wrong("is not a secret text", "set it with `homelab secret`")
    return SecretStr(value)


def _image(value: object) -> str:
    text = as_text(value, "images/metal-arm64.raw.xz")
    if not text.endswith(_IMAGE_ENDS):
        raise wrong(f"{quoted(text)} is not a raw disk image", f"its name must end in {', '.join(_IMAGE_ENDS)}")
    if "://" in text and not text.startswith("file://"):
        return _url(text)
    return text


def _extension(value: object) -> str:
    text = as_text(value, "siderolabs/iscsi-tools")
    if not _EXTENSION.match(text):
        raise wrong(
            f"{quoted(text)} is not an extension", "write owner/name without a version, such as siderolabs/iscsi-tools"
        )
    return text


def _disk(value: object) -> str:
    text = as_text(value, "/dev/mmcblk0")
    if not text.startswith("/dev/") or ".." in text or PurePosixPath(text) == PurePosixPath("/dev"):
        raise wrong(f"{quoted(text)} is not a disk", "write its device, such as /dev/mmcblk0, or use a selector")
    return text


def _size(value: object) -> str:
    text = as_text(value, ">= 16GB")
    if not _SIZE.match(text):
        raise wrong(f"{quoted(text)} is not a size", "write a comparison and a size, such as '>= 16GB'")
    return text


def _label_key(value: object) -> str:
    text = as_text(value, "example.com/rack")
    prefix, _, name = text.rpartition("/")
    if not _LABEL_NAME.match(name) or ("/" in text and not is_dns_name(prefix)):
        raise wrong(f"{quoted(text)} is not a label's key", "write name or domain/name, such as example.com/rack")
    return text


def _label_value(value: object) -> str:
    text = as_text(value, "left")
    if text and not _LABEL_NAME.match(text):
        raise wrong(f"{quoted(text)} is not a label's value", "use letters, digits, dots and dashes, 63 at most")
    return text


def _taint(value: object) -> str:
    text = as_text(value, "value:NoSchedule")
    content, _, effect = text.rpartition(":")
    if effect not in _EFFECTS or (content and not _LABEL_NAME.match(content)):
        raise wrong(f"{quoted(text)} is not a taint", f"write value:EFFECT with one of {', '.join(_EFFECTS)}")
    return text


def _patch(value: object) -> dict[str, object]:
    if isinstance(value, str):
        document = parse(value)
        if document.problems:
            raise wrong("is not one YAML document", "give every document an item of its own in the list")
        value = document.data
    if isinstance(value, list):
        raise wrong("is a list", "write a partial machine config; Talos refuses JSON patches (RFC 6902) here")
    if not isinstance(value, dict) or not value or not all(isinstance(key, str) for key in value):
        raise wrong("is not a map", "write a partial machine config, such as {machine: {sysctls: {...}}}")
    return value


def kind(read: Callable[[object], Any], schema: dict[str, Any]) -> tuple[Any, Any]:
    """The two annotations of a kind: how a value is read, and what the JSON schema says of it."""
    return PlainValidator(read), WithJsonSchema(schema)


_TEXT: dict[str, Any] = {"type": "string"}
_AS_TEXT = PlainSerializer(str, return_type=str, when_used="json")

Address = Annotated[IPv4Address, *kind(_address, {"type": "string", "format": "ipv4"}), _AS_TEXT]
Subnet = Annotated[IPv4Network, *kind(_network, {"type": "string", "pattern": "^[0-9.]+/[0-9]+$"}), _AS_TEXT]
Mac = Annotated[str, *kind(_mac, {"type": "string", "pattern": "^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$"})]
DnsName = Annotated[str, *kind(_dns, {"type": "string", "format": "hostname"})]
Name = Annotated[str, *kind(_name, {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"})]
Host = Annotated[str, *kind(_host, {"type": "string", "format": "hostname"})]
Url = Annotated[str, *kind(_url, {"type": "string", "pattern": "^https?://"})]
BoardAddress = Annotated[str, *kind(_board_address, _TEXT)]
Version = Annotated[str, *kind(_version, {"type": "string", "pattern": r"^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$"})]
Sha256 = Annotated[str, *kind(_sha256, {"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"})]
Fingerprint = Annotated[str, *kind(_fingerprint, {"type": "string", "pattern": "^[Ss][Hh][Aa]256:[0-9A-Fa-f:]+$"})]
_SECURE: dict[str, Any] = {
    "type": "object",
    "properties": {"secure": {"type": "string"}},
    "required": ["secure"],
    "additionalProperties": False,
}
Secret = Annotated[SecretStr, *kind(_secret, _SECURE), _AS_TEXT]
ImageSource = Annotated[str, *kind(_image, {"type": "string", "pattern": r"\.raw(\.xz|\.zst)?$"})]
Extension = Annotated[str, *kind(_extension, {"type": "string", "pattern": "^[a-z0-9._-]+/[a-z0-9._-]+$"})]
DiskPath = Annotated[str, *kind(_disk, {"type": "string", "pattern": "^/dev/."})]
DiskSize = Annotated[str, *kind(_size, _TEXT)]
LabelKey = Annotated[str, *kind(_label_key, _TEXT)]
LabelValue = Annotated[str, *kind(_label_value, _TEXT)]
Taint = Annotated[
    str, *kind(_taint, {"type": "string", "pattern": "^([^:]*:)?(NoSchedule|PreferNoSchedule|NoExecute)$"})
]
Patch = Annotated[dict[str, Any], *kind(_patch, {"type": ["object", "string"]})]
