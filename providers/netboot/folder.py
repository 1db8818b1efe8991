"""The boot service's files in a folder, for a host of the owner's own that runs dnsmasq and an HTTP server out of it.

`www` is what HTTP serves, `dnsmasq.conf` what dnsmasq is started with. What is not the service's own is left alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import ProtocolError, UserError
from providers.netboot.scripts import INITRAMFS, KERNEL
from providers.turingpi.download import download
from providers.turingpi.unpack import sha256_of

WWW, CONF, NOTE = "www", "dnsmasq.conf", "source.json"
IMAGES = "images"
OWN = ("mac", "uuid", "ip", "config")  # folders under `www` of which every file is the service's
DOWNLOAD_S = 3600.0
NO_LIST = "index.html"  # an empty one: a server that shows folders must not show these


def publish(
    folder: Path, conf: str, files: Mapping[str, str], images: Iterable[Mapping[str, Any]], say: Reporter
) -> None:
    """Have a folder hold exactly this; images that are there already are not fetched again.

    Args:
        folder: made if it is not there.
        conf: dnsmasq's file.
        files: path under `www` -> text.
        images: `name`, `kernel`, `initramfs` (URLs or paths), and the SHA-256 of each where it is known.
        say: told what is fetched.

    Raises:
        UserError: a file is not there, or the folder can't be written.
        ProtocolError: what came has another SHA-256.
        UnreachableError, RefusedError, DeadlineError: as downloads.
    """
    try:
        for image in images:
            _image(folder / WWW / IMAGES, image, say)
        _write(folder / WWW, files)
        _put(folder / CONF, conf)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror} ({error.filename}); correct boot_service.folder") from None


def withdraw(folder: Path, files: Iterable[str]) -> None:
    """Take the service's files away again; images stay, as a download is dear."""
    for name in OWN:
        shutil.rmtree(folder / WWW / name, ignore_errors=True)
    for name in files:
        (folder / WWW / name).unlink(missing_ok=True)
    (folder / CONF).unlink(missing_ok=True)


def is_whole(folder: Path, files: Iterable[str]) -> bool:
    """Whether every file is still there."""
    return all((folder / WWW / name).exists() for name in files) and (folder / CONF).exists()


def _write(www: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        _put(www / path, text)
    wanted = {www / path for path in files}
    for name in OWN:
        for found in sorted((www / name).rglob("*"), reverse=True):
            if found.is_dir() and not any(item.name != NO_LIST for item in found.iterdir()):
                shutil.rmtree(found)
            elif found.is_file() and found not in wanted and found.name != NO_LIST:
                found.unlink()
    for found in (www / "config", *(www / "config").glob("*")):
        if found.is_dir():
            _put(found / NO_LIST, "")


def _put(file: Path, text: str) -> None:
    """Write a file whole or not at all: a machine may be reading it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.new")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


def _image(images: Path, image: Mapping[str, Any], say: Reporter) -> None:
    target = images / image["name"]
    if (target / NOTE).exists() and json.loads((target / NOTE).read_text()) == _note(image):
        return
    target.mkdir(parents=True, exist_ok=True)
    for key in (KERNEL, INITRAMFS):
        say.progress(f"fetching {key} of {image['name']}")
        _fetched(image[key], target / key, image.get(f"{key}_sha256") or "")
    _put(target / NOTE, json.dumps(_note(image)))


def _note(image: Mapping[str, Any]) -> dict[str, str]:
    """What an image was fetched from; a file of this machine may change under its name."""
    told = {key: str(image.get(key) or "") for key in (KERNEL, INITRAMFS, f"{KERNEL}_sha256", f"{INITRAMFS}_sha256")}
    local = {f"{key}_now": sha256_of(Path(told[key])) for key in (KERNEL, INITRAMFS) if _is_here(told[key])}
    return told | local


def _is_here(source: str) -> bool:
    return "://" not in source and Path(source).is_file()


def _fetched(source: str, file: Path, sha256: str) -> None:
    if "://" in source:
        found = download(source, file, Deadline(DOWNLOAD_S), lambda *_: None)
    elif not Path(source).is_file():
        raise UserError(f"{source}: no such file; build the image first (docs/runbooks/pools.md)")
    else:
        part = file.with_name(f".{file.name}.new")
        shutil.copyfile(source, part)
        found = sha256_of(part)
        part.replace(file)
    if sha256 and found != sha256:
        file.unlink()
        raise ProtocolError(
            f"{source}: has the SHA-256 {found} and not {sha256}; correct the settings, or find out why"
        )
