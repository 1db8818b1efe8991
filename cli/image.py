"""Which images a lab's nodes are made of: what is flashed, what installs and upgrades, and the schematic of both."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from cli import stacks, words
from cli.options import Json, StackName
from cli.stacks import Stack
from components.spec import installer_of, schematic
from providers.talos import factory
from providers.talos.schematic import image_url
from settings import Node, Settings, load

Post = Annotated[bool, typer.Option("--post", help="Tell the factory of the schematics, so that it makes the images.")]


@dataclass(frozen=True)
class Images:
    """What one node is made of.

    Attributes:
        node: its name.
        disk_image: what is flashed: a URL, or the owner's own file.
        installer: what installs and upgrades.
        schematic: the id; "" where both images are the owner's own.
        recipe: the schematic's YAML; "" as well.
    """

    node: str
    disk_image: str
    installer: str
    schematic: str
    recipe: str


def images(lab: Settings) -> tuple[Images, ...]:
    """Of all enabled nodes. Nobody is asked: a schematic's id follows from what it says."""
    return tuple(_of(node, lab) for node in lab.enabled_nodes)


def _of(node: Node, lab: Settings) -> Images:
    talos, recipe = lab.cluster.talos, schematic(node, lab)
    disk = talos.image or image_url(talos.factory, recipe.id, talos.version)
    own = bool(talos.image and talos.installer)
    return Images(node.name, disk, installer_of(node, lab), "" if own else recipe.id, "" if own else recipe.yaml)


def command(stack: StackName = "twin", post: Post = False, as_json: Json = False) -> None:
    """Print each node's disk image, installer image and schematic. It changes nothing, and asks no device.

    The factory makes images only of schematics that it was told of once: `up` tells it, and so does `--post`.
    Exit code: 0; 1 when the settings are wrong or the factory refuses.
    """
    chosen = stacks.find(stack)
    lab = load(chosen.settings_file)
    found = images(lab)
    if post:
        tell(lab, found)
    if as_json:
        print(json.dumps([asdict(item) for item in found], indent=2))
        return
    show(chosen, lab, found)


def tell(lab: Settings, found: Iterable[Images]) -> None:
    """Post every schematic to the factory, once.

    Raises:
        UnreachableError: no answer.
        RefusedError: the factory does not take one.
    """
    for recipe in sorted({item.recipe for item in found if item.recipe}):
        factory.register(lab.cluster.talos.factory, recipe)


def show(stack: Stack, lab: Settings, found: tuple[Images, ...]) -> None:
    """The images by node, nodes with the same ones together, and each schematic below."""
    out = words.console()
    out.print(f"stack {stack.name}: Talos {lab.cluster.talos.version}")
    for made_of, nodes in _together(found).items():
        out.print(f"\n{', '.join(nodes)}:")
        for title, value in zip(("disk image", "installer", "schematic"), made_of, strict=True):
            out.print(f"  {title:<11}{value or '-'}", soft_wrap=True)
    for identity, recipe in sorted({(item.schematic, item.recipe) for item in found if item.schematic}):
        out.print(f"\nschematic {identity}:\n{recipe.rstrip()}", soft_wrap=True)


def _together(found: Iterable[Images]) -> dict[tuple[str, str, str], list[str]]:
    groups: dict[tuple[str, str, str], list[str]] = {}
    for item in found:
        groups.setdefault((item.disk_image, item.installer, item.schematic), []).append(item.node)
    return groups
