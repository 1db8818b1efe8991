"""A module's disk and its power, as Pulumi resources over the board's client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import ConfigureRequest, CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from providers.dynamic import Props, Provider, changed_keys, is_known, lazily, packed
from providers.engine import Reporter
from providers.errors import HomelabError
from providers.turingpi import BOARDS

if TYPE_CHECKING:
    from providers.turingpi import slots
else:
    slots = lazily("providers.turingpi.slots")

BOARD_KEYS = ("board", "username", "password", "fingerprint")


class FlashProvider(Provider):
    """Sees to it that a module's disk carries the wished image; `generation` says how often it may be written."""

    inputs = ("node", "address", "slot", *BOARD_KEYS, "generation", "os_ca")
    memos = ("version", "schematic", "recipe", "factory", "image", "sha256", "rank", "control_planes")

    def problems(self, olds: Props, news: Props) -> list[tuple[str, str]]:
        """A module is never written because it was moved or because its number went down."""
        if not olds or not is_known(news.get("generation")):
            return []
        node, old, new = news["node"], int(olds.get("generation", 0)), int(news["generation"])
        if new < old:
            return [
                ("generation", f"nodes.{node}.generation: {new} is less than the {old} installs it had; it only grows")
            ]
        return []

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Say in the preview that a disk will be erased."""
        changed = changed_keys(olds, news, self.inputs)
        if "generation" in changed and is_known(news["generation"]):
            Reporter().warn(
                f"{news['node']}: REINSTALLED: it leaves the cluster, and its whole disk is erased and written"
            )
        return DiffResult(changes=bool(changed))

    def create(self, props: Props) -> CreateResult:
        """Adopt the module when it already carries the image, else write it."""
        written = slots.ensure_image(props, reinstall=False)
        return CreateResult(f"{props['node']}-{props['slot']}", self.stored(props, **written))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """Reinstall once when `generation` grew; find the module again when it was moved; else only store."""
        if int(news["generation"]) > int(olds["generation"]):
            return UpdateResult(self.stored(news, **slots.ensure_image(news, reinstall=True)))
        if (olds["board"], olds["slot"]) != (news["board"], news["slot"]):
            slots.ensure_image({**news, "generation": 0}, reinstall=False)
        return UpdateResult(self.stored(news, raw_sha256=olds.get("raw_sha256", "")))

    def read(self, id_: str, props: Props) -> ReadResult:
        """A disk can't be read back over a BMC; what the node itself says is the Machine's to read."""
        return ReadResult(id_, props)


class PowerProvider(Provider):
    """Keeps a slot powered while it is declared."""

    inputs = ("node", "address", "slot", *BOARD_KEYS, "on")
    boards: object = None  # the settings' boards, in the engine's process only: state must not get hold of them

    def configure(self, req: ConfigureRequest) -> None:
        """Keep what the engine's config says of the boards: it is never older than what state holds of one slot."""
        self.boards = req.config.get(BOARDS)

    def create(self, props: Props) -> CreateResult:
        """Power the slot on; a node that answers on the network is on, whatever the board says."""
        slots.power_on(props)
        return CreateResult(f"{props['node']}-power", self.stored(props))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Power on again after drift."""
        slots.power_on(news)
        return UpdateResult(self.stored(news))

    def read(self, id_: str, props: Props) -> ReadResult:
        """The live power; an unreachable board leaves what was known and says so."""
        try:
            live = {**props, "on": slots.live_power(props, self.boards)}
        except HomelabError as error:
            Reporter().warn(f"{props['node']}: power not read: {error}")
            return ReadResult(id_, props)
        return ReadResult(id_, live)

    def delete(self, _id: str, props: Props) -> None:
        """Power the slot off."""
        slots.power_off(props, self.boards)


class Flash(Resource, module="turingpi", name="Flash"):
    """The image on a module's disk. Deleting it undoes nothing."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(FlashProvider(), name, packed(props), opts)


class Power(Resource, module="turingpi", name="Power"):
    """The power of a slot: on while declared, off when deleted."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(PowerProvider(), name, packed(props), opts)
