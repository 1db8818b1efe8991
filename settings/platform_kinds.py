"""The kinds of values that only the platform has: charts, images, schedules, places on NFS."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any

from cryptography.x509 import load_pem_x509_certificates
from pydantic import PlainSerializer, SecretStr

from .kinds import as_text, is_dns_name, is_host, kind
from .problems import PLACEHOLDER, quoted, wrong

_CHART_VERSION = re.compile(r"v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_REPOSITORY = re.compile(r"([a-zA-Z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+|/[a-z0-9]+)*\Z")
_MOVING_TAGS = ("latest", "stable", "main", "master", "edge", "nightly")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_CPU = re.compile(r"([1-9][0-9]*m|[0-9]+(\.[0-9]{1,3})?)\Z")
_MEMORY = re.compile(r"[1-9][0-9]*([kMGT]|[KMGT]i)?\Z")
_MAIL = re.compile(r"[^@\s<>]+@[^@\s<>]+\Z")
_PLUGIN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*( [0-9][0-9A-Za-z.-]*)?\Z")
_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_CRON_ITEM = re.compile(r"(\*|(\d+)(-(\d+))?)(/([1-9]\d*))?\Z")


def _chart_version(value: object) -> str:
    given = str(value) if isinstance(value, float | int) and not isinstance(value, bool) else value
    text = as_text(given, "41.3.0")
    if not _CHART_VERSION.match(text):
        raise wrong(f"{quoted(text)} is not a version", "write all of it as its index does, such as 41.3.0 or v1.21.1")
    return text


def _image(value: object) -> str:
    text = as_text(value, "nginxinc/nginx-unprivileged:1.29.1")
    name, at, digest = text.partition("@")
    host, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if not _REPOSITORY.match(host + slash + last) or (colon and not _TAG.match(tag)):
        raise wrong(
            f"{quoted(text)} is not an image", "write repository:tag, such as nginxinc/nginx-unprivileged:1.29.1"
        )
    if at and not _DIGEST.match(digest):
        raise wrong(f"{quoted(text)} has no good digest", "write @sha256: and 64 hex digits")
    if not at and (not tag or tag in _MOVING_TAGS):
        raise wrong(f"{quoted(text)} can change under its name", "write a tag that stays, such as :1.29.1, or a digest")
    return text


def _cron(value: object) -> str:
    text = as_text(value, "30 3 * * *")
    items = text.split()
    if len(items) != len(_CRON_FIELDS):
        fix = "write minute, hour, day, month and weekday, such as '30 3 * * *'"
        raise wrong(f"{quoted(text)} has {len(items)} fields of 5", fix)
    for item, (name, low, high) in zip(items, _CRON_FIELDS, strict=True):
        if not all(_is_cron(part, low, high) for part in item.split(",")):
            raise wrong(f"{quoted(item)} is no {name} of a schedule", f"write *, {low} to {high}, a range or a step")
    return " ".join(items)


def _is_cron(text: str, low: int, high: int) -> bool:
    found = _CRON_ITEM.match(text)
    if found is None:
        return False
    first = int(found[2] or low)
    last = int(found[4] or first)
    return low <= first <= last <= high and int(found[6] or 1) <= high


def _path(value: object) -> str:
    text = as_text(value, "/export")
    if not is_clean_path(text):
        raise wrong(f"{quoted(text)} is not a path", "write it from the root, such as /export, without . and ..")
    return str(PurePosixPath(text))


def is_clean_path(text: str) -> bool:
    """Whether text is an absolute path below the root that goes nowhere else than it seems to."""
    parts = text.split("/")
    clean = text.isprintable() and " " not in text and "." not in parts and ".." not in parts
    return clean and text.startswith("/") and not text.startswith("//") and text.strip("/") != ""


def _data_path(value: object) -> str:
    text = _path(value)
    if text != "/var/lib/longhorn" and not text.startswith("/var/mnt/"):
        fix = "take /var/lib/longhorn, or /var/mnt/NAME of a user volume: Talos keeps nothing else"
        raise wrong(f"{quoted(text)} is not a place for data on Talos", fix)
    return text


def _backup(value: object) -> str:
    text = as_text(value, "nfs://192.168.1.10:/export/longhorn")
    host, colon, path = text.removeprefix("nfs://").partition(":")
    if not text.startswith("nfs://") or not colon or not is_host(host) or not is_clean_path(path):
        raise wrong(f"{quoted(text)} is not a backup target", "write nfs://HOST:/PATH")
    return text


def _variable(value: object) -> str:
    text = as_text(value, "TZ")
    if not _VARIABLE.match(text):
        raise wrong(f"{quoted(text)} is not a variable's name", "use letters, digits and _, such as TZ")
    return text


def _variable_value(value: object) -> str | SecretStr:
    return value if isinstance(value, SecretStr) else as_text(value, str(value))


def _quantity(pattern: re.Pattern[str], example: str) -> Any:
    def read(value: object) -> str:
        given = str(value) if isinstance(value, float | int) and not isinstance(value, bool) else value
        text = as_text(given, example)
        if not pattern.match(text):
            raise wrong(f"{quoted(text)} is not an amount", f"write it as Kubernetes does, such as {example}")
        return text

    return read


def _mail(value: object) -> str:
    text = as_text(value, "me@home.example")
    if not _MAIL.match(text):
        raise wrong(f"{quoted(text)} is not a mail address", "write name@domain")
    return text


def _smarthost(value: object) -> str:
    text = as_text(value, "mail.home.example:587")
    host, _, port = text.rpartition(":")
    if not is_host(host) or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise wrong(f"{quoted(text)} is not a mail server", "write host:port, such as mail.home.example:587")
    return text


def _secret_url(value: object) -> SecretStr:
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str):
        raise wrong("is not a URL", "write http(s)://host/path, or store it with `homelab secret`")
    if value != PLACEHOLDER and not re.match(r"https?://[^\s/]+", value):
        raise wrong("is not an http(s) URL", "write http(s)://host/path, or store it with `homelab secret`")
    return SecretStr(value)


def _certificates(value: object) -> str:
    text = as_text(value, "PEM text")
    try:
        found = load_pem_x509_certificates(text.encode())
    except ValueError:
        found = []
    if not found:
        raise wrong("holds no certificate", "write its PEM text, from -----BEGIN CERTIFICATE----- on, as a `|` block")
    return text


def _topic(value: object) -> str:
    text = as_text(value, "homelab")
    if not re.match(r"[-_A-Za-z0-9]{1,64}\Z", text):
        raise wrong(f"{quoted(text)} is not a topic", "use letters, digits, - and _, 64 at most")
    return text


def _plugin(value: object) -> str:
    text = as_text(value, "grafana-clock-panel")
    if not _PLUGIN.match(text):
        raise wrong(f"{quoted(text)} is not a plugin", "write its id, such as grafana-clock-panel, or 'id version'")
    return text


def _record(value: object) -> str:
    text = as_text(value, "nas.local")
    if not is_dns_name(text.removeprefix("*.")):
        raise wrong(f"{quoted(text)} is not a DNS name", "write lower-case words and dots, such as nas.local")
    return text


_TEXT: dict[str, Any] = {"type": "string"}
_SECURE: dict[str, Any] = {"type": "object", "properties": {"secure": _TEXT}, "required": ["secure"]}
_TEXT_OR_SECURE: dict[str, Any] = {"anyOf": [_TEXT, _SECURE]}
_AMOUNT: dict[str, Any] = {"type": ["string", "number"]}
_AS_TEXT = PlainSerializer(str, return_type=str, when_used="json")

ChartVersion = Annotated[str, *kind(_chart_version, {"type": "string", "pattern": r"^v?[0-9]+\.[0-9]+\.[0-9]+"})]
Image = Annotated[str, *kind(_image, {"type": "string", "pattern": "[:@]"})]
Certificates = Annotated[str, *kind(_certificates, {"type": "string", "pattern": "BEGIN CERTIFICATE"})]
Cron = Annotated[str, *kind(_cron, {"type": "string", "pattern": r"^\S+( +\S+){4}$"})]
FilePath = Annotated[str, *kind(_path, {"type": "string", "pattern": "^/"})]
DataPath = Annotated[str, *kind(_data_path, {"type": "string", "pattern": "^/var/(lib/longhorn|mnt/.+)$"})]
BackupTarget = Annotated[str, *kind(_backup, {"type": "string", "pattern": "^nfs://[^:]+:/."})]
Variable = Annotated[str, *kind(_variable, _TEXT)]
VariableValue = Annotated[str | SecretStr, *kind(_variable_value, _TEXT_OR_SECURE), _AS_TEXT]
Cpu = Annotated[str, *kind(_quantity(_CPU, "50m"), _AMOUNT)]
Memory = Annotated[str, *kind(_quantity(_MEMORY, "64Mi"), _AMOUNT)]
MailAddress = Annotated[str, *kind(_mail, {"type": "string", "pattern": "@"})]
Smarthost = Annotated[str, *kind(_smarthost, {"type": "string", "pattern": ":[0-9]+$"})]
SecretUrl = Annotated[SecretStr, *kind(_secret_url, _TEXT_OR_SECURE), _AS_TEXT]
Topic = Annotated[str, *kind(_topic, {"type": "string", "pattern": "^[-_A-Za-z0-9]{1,64}$"})]
Plugin = Annotated[str, *kind(_plugin, _TEXT)]
RecordName = Annotated[str, *kind(_record, _TEXT)]
