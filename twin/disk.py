"""A module's eMMC: what is written on it, kept in the twin's state folder so that it survives a power cut."""

import json
import os
import shutil
from dataclasses import asdict
from enum import Enum
from pathlib import Path

from twin.image import Image, Reader


class Content(Enum):
    """What a boot loader finds on a disk."""

    BLANK = "blank"
    IMAGE = "image"
    DAMAGED = "damaged"


class Disk:
    """The disk of one module.

    `folder` belongs to this disk alone: `state/` is the STATE partition, `ephemeral/` the EPHEMERAL one (etcd's data
    lives there), both kept through power cuts and reboots and emptied by `wipe`. The boot partition has two slots, A
    and B: `image` is in the one that boots, `fallback` in the other.
    """

    def __init__(self, folder: Path, size_bytes: int, device: str) -> None:
        self.folder = folder
        self.size_bytes = size_bytes
        self.content = Content.BLANK
        self.device = device
        self.label = "A"  # the slot that boots
        self.fallback: Image | None = None
        self.meta: dict[int, str] = {}  # Talos' META partition: tag -> value
        self._image: Image | None = None
        for part in (self.state, self.ephemeral):
            part.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._load()

    @property
    def state(self) -> Path:
        """The STATE partition as a folder."""
        return self.folder / "state"

    @property
    def ephemeral(self) -> Path:
        """The EPHEMERAL partition as a folder."""
        return self.folder / "ephemeral"

    @property
    def image(self) -> Image | None:
        """The system that is installed, None when the disk doesn't boot. Set it to play an installer."""
        return self._image if self.content is Content.IMAGE else None

    @image.setter
    def image(self, image: Image | None) -> None:
        self._image = image
        self.content = Content.BLANK if image is None else Content.IMAGE
        self.save()

    @property
    def state_config(self) -> bytes | None:
        """The machine config on STATE, None when the node is not configured."""
        path = self.state / "config.yaml"
        return path.read_bytes() if path.exists() else None

    @state_config.setter
    def state_config(self, config: bytes | None) -> None:
        path = self.state / "config.yaml"
        if config is None:
            path.unlink(missing_ok=True)
        else:
            write(path, config)

    def install(self, image: Image, tag: int) -> None:
        """Write an image to the other slot and make that the one that boots; META's `tag` keeps the old label."""
        self.fallback, self._image = self._image, image
        self.meta[tag], self.label = self.label, self._other
        self.save()

    def flip(self, tag: int) -> None:
        """Have the other slot boot again; META's `tag` goes."""
        self.fallback, self._image = self._image, self.fallback
        self.label = self._other
        self.forget(tag)

    def forget(self, tag: int) -> None:
        """Remove a tag of META."""
        self.meta.pop(tag, None)
        self.save()

    @property
    def _other(self) -> str:
        return "B" if self.label == "A" else "A"

    def wipe(self, label: str) -> None:
        """Empty a partition by its label: STATE or EPHEMERAL; any other label wipes the whole disk."""
        if label in ("STATE", "EPHEMERAL"):
            _empty(self.folder / label.lower())
        else:
            self.wipe_all()

    def wipe_all(self) -> None:
        """Wipe the whole disk: it boots nothing afterwards (facts B4, Reset)."""
        _empty(self.state)
        _empty(self.ephemeral)
        self.label, self.fallback, self.meta = "A", None, {}
        self.image = None

    def begin_write(self) -> Reader:
        """The first block is overwritten: whatever was there is gone. Give the reader back to `end_write`."""
        self.wipe_all()
        self.content = Content.DAMAGED
        self.save()
        return Reader()

    def end_write(self, written: Reader) -> None:
        """All blocks are written: from now on the disk boots, if they were an image."""
        image = written.result()
        if image is not None:
            self.image = image

    def save(self) -> None:
        """Write the disk's table of contents."""
        slots = {"image": self._image, "fallback": self.fallback}
        images = {name: asdict(image) if image else None for name, image in slots.items()}
        rest = {"content": self.content.value, "device": self.device, "label": self.label, "meta": self.meta}
        write(self.folder / "disk.json", json.dumps({**images, **rest}).encode())

    def _load(self) -> None:
        path = self.folder / "disk.json"
        if path.exists():
            stored = json.loads(path.read_bytes())
            self.content = Content(stored["content"])
            self._image = Image(**stored["image"]) if stored["image"] else None
            self.device = stored["device"]
            self.label = stored.get("label", "A")
            self.fallback = Image(**stored["fallback"]) if stored.get("fallback") else None
            self.meta = {int(tag): value for tag, value in stored.get("meta", {}).items()}


def write(path: Path, data: bytes) -> None:
    """Replace a file in one step, for its owner only: a twin that is killed leaves the old or the new one."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    part.replace(path)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
