"""A card as a Pulumi resource over the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, UpdateResult

from providers.dynamic import Props, Provider, changed_keys, is_known, lazily, packed
from providers.engine import Reporter

if TYPE_CHECKING:
    from providers.disk import card, wish
else:
    card = lazily("providers.disk.card")
    wish = lazily("providers.disk.wish")


class CardProvider(Provider):
    """Writes a card once for each generation; the card is wherever it is afterwards, and is never asked for again."""

    inputs = ("generation",)
    memos = ("card", "disk", "serial", "min_gb", "max_gb", "image", "sha256", "kind", "prepare")

    def problems(self, olds: Props, news: Props) -> list[tuple[str, str]]:
        """The number of writes only grows."""
        if not olds or not is_known(news.get("generation")):
            return []
        name, old, new = news["card"], int(olds.get("generation", 0)), int(news["generation"])
        if new < old:
            return [
                ("generation", f"cards.{name}.generation: {new} is less than the {old} writes it had; it only grows")
            ]
        return []

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Say in the preview that a card will be erased, or that a change waits for it."""
        if changed_keys(olds, news, self.inputs):
            Reporter().warn(f"{news['card']}: the card {news['disk'] or news['serial']} is ERASED and written")
            return DiffResult(changes=True)
        if waiting := changed_keys(olds, news, self.memos):
            Reporter().info(f"{', '.join(waiting)}: applies when cards.{news['card']}.generation is raised")
        return DiffResult(changes=False)

    def create(self, props: Props) -> CreateResult:
        """Write the card if its generation allows; a run that was killed is repeated by this."""
        return CreateResult(f"card-{props['card']}", self.stored(props, **_write(props)))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Write it again."""
        return UpdateResult(self.stored(news, **_write(news)))


def _write(props: Props) -> Props:
    if not int(props["generation"]):
        return {"raw_sha256": "", "written_at": ""}
    report = Reporter()
    done = card.write(wish.read(props), report.info, lambda step: report.progress(str(step)))
    if done.adopted:
        report.info("adopted: the card holds this write already")
    return {"raw_sha256": done.raw_sha256, "written_at": done.disk}


class Card(Resource, module="disk", name="Card"):
    """A written card. Deleting it undoes nothing."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(CardProvider(), name, packed(props), opts)
