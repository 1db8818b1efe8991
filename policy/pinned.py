"""What in the settings can change under its name: images, disk images and plugins that say no version that stays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from settings import Settings
from settings.problems import Where, quoted

# Words that registries move from one image to the next.
MOVING = frozenset({"latest", "stable", "main", "master", "edge", "nightly", "dev", "devel", "unstable", "testing"})
_ONE_NUMBER = re.compile(r"v?[0-9]{1,3}\Z")  # four are a year
_TAG_KEY = re.compile(r"(.*[a-z])?[tT]ag\Z")

Floating = tuple[Where, str]


def floating(lab: Settings) -> Iterator[Floating]:
    """Each place in the settings that floats, and why."""
    yield from _disk_image(lab)
    for name, application in lab.platform.applications.items():
        if application.image is not None:
            yield from _named(("platform", "applications", name, "image"), application.image)
    for name in type(lab.platform).model_fields:
        values = getattr(getattr(lab.platform, name), "values", None)
        if isinstance(values, Mapping):
            yield from _anywhere(("platform", name, "values"), values)
    yield from _plugins(lab)
    yield from _anywhere(("cluster", "patches"), lab.cluster.patches)
    for node in lab.nodes.values():
        yield from _anywhere(("nodes", node.name, "patches"), node.patches)


def why_floating(image: str) -> str:
    """Why an image's name may be another image tomorrow; "" for one that stays."""
    name, _, digest = image.partition("@")
    if digest:
        return ""
    return why_tag_floats(name.rpartition("/")[2].partition(":")[2])


def why_tag_floats(tag: str) -> str:
    """Why a tag may be moved to another image; "" for one that stays. Two numbers may be a whole version."""
    words = re.split(r"[-_.+]", tag.lower())
    if not tag:
        return "has no tag"
    moving = next((word for word in words if word in MOVING), None)
    if moving:
        return f"follows {moving!r}"
    if not any(character.isdigit() for character in tag):
        return "names no version"
    return "names only a major version" if _ONE_NUMBER.match(re.split(r"[-_+]", tag)[0]) else ""


def _disk_image(lab: Settings) -> Iterator[Floating]:
    talos = lab.cluster.talos
    if talos.image and "://" in talos.image and not talos.sha256:
        yield ("cluster", "talos", "image"), f"{quoted(talos.image)} is not checked: cluster.talos.sha256 is missing"


def _plugins(lab: Settings) -> Iterator[Floating]:
    plugins = lab.platform.monitoring.grafana_plugins if lab.platform.monitoring else ()
    for index, plugin in enumerate(plugins):
        if " " not in plugin:
            yield ("platform", "monitoring", "grafana_plugins", index), f"{quoted(plugin)} names no version"


def _named(where: Where, image: str) -> Iterator[Floating]:
    reason = why_floating(image)
    if reason:
        yield where, f"{quoted(image)} {reason}"


def _anywhere(where: Where, value: Any) -> Iterator[Floating]:
    """Images in free values: `image: name:tag`, or `tag:` by itself. One that is encrypted says nothing."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            place = (*where, str(key))
            if key == "image" and isinstance(item, str) and item:
                yield from _image(place, item, value)
            elif _TAG_KEY.match(str(key)) and isinstance(item, str | int | float) and not isinstance(item, bool):
                yield from _tag(place, str(item), value)
            else:
                yield from _anywhere(place, item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _anywhere((*where, index), item)


def _image(where: Where, image: str, beside: Mapping[str, Any]) -> Iterator[Floating]:
    """A chart that takes name and tag apart says the tag beside it, and an absent one is the chart's own."""
    if ":" in image.rpartition("/")[2] or "@" in image or where[0] != "platform":
        yield from _named(where, image)


def _tag(where: Where, tag: str, beside: Mapping[str, Any]) -> Iterator[Floating]:
    """An empty tag is the chart's own, and a digest beside it is what counts."""
    reason = why_tag_floats(tag) if tag and not beside.get("digest") else ""
    if reason:
        yield where, f"{quoted(tag)} {reason}"
