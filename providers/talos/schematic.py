"""What the Image Factory calls an image: its id can be known without asking (https://github.com/siderolabs/image-factory).

The id is the SHA-256 of the schematic's YAML as the factory writes it. The factory makes images only of schematics that
were posted to it once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

# Overlay name -> the image that holds it.
OVERLAYS = {
    "turingrk1": "siderolabs/sbc-rockchip",
    "rpi_generic": "siderolabs/sbc-raspberrypi",
}


@dataclass(frozen=True)
class Schematic:
    """An image's ingredients.

    Attributes:
        overlay: the board's boot parts (`turingrk1`, `rpi_generic`), empty for a PC.
        extensions: official system extensions; their order is part of the id.
    """

    overlay: str
    extensions: Sequence[str] = ()

    @property
    def yaml(self) -> str:
        """The body to post, byte for byte as the factory would write it."""
        lines: list[str] = []
        if self.overlay:
            lines += ["overlay:", f"    image: {OVERLAYS[self.overlay]}", f"    name: {self.overlay}"]
        if not self.extensions:
            return "\n".join([*lines, "customization: {}", ""])
        lines += ["customization:", "    systemExtensions:", "        officialExtensions:"]
        lines += [f"            - {extension}" for extension in self.extensions]
        return "\n".join([*lines, ""])

    @property
    def id(self) -> str:
        """The factory's name for it."""
        return hashlib.sha256(self.yaml.encode()).hexdigest()


def image_url(factory: str, schematic_id: str, version: str, arch: str = "arm64") -> str:
    """Where the factory serves the disk image (Talos 1.7 and later: one for all boards, overlays included)."""
    return f"{factory.rstrip('/')}/image/{schematic_id}/{version}/metal-{arch}.raw.xz"


def installer(factory: str, schematic_id: str, version: str) -> str:
    """The image that installs and upgrades; the factory is also its registry."""
    host = urlsplit(factory).netloc or factory
    number = [int(part) for part in version.lstrip("v").split(".")[:2]]
    name = "metal-installer" if number >= [1, 10] else "installer"
    return f"{host}/{name}/{schematic_id}:{version}"
