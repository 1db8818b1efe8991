"""Pools as Pulumi resources: what their machines join with, the boot service's folder, and each machine's power."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from providers.dynamic import Props, Provider, changed_keys, is_known, lazily, packed
from providers.engine import Reporter

if TYPE_CHECKING:
    from providers.netboot import clusters, folder, join, machine
else:
    clusters, folder, join, machine = (
        lazily(f"providers.netboot.{name}") for name in ("clusters", "folder", "join", "machine")
    )


class JoinProvider(Provider):
    """Keeps a pool's configs and join tokens fresh: made anew when they change, and when half of their time is over."""

    inputs = ("pool", "kind", "entries", "hours", "secrets", "beside")
    memos = ("kubeconfig", "factory", "recipe")

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Besides changed inputs: another API to join, and tokens that are about to end."""
        changed = bool(changed_keys(olds, news, self.inputs))
        changed = changed or (news["kind"] == "linux" and clusters.is_elsewhere(olds, news))
        if not changed and join.is_due(olds):
            Reporter().info(f"{news['pool']}: join tokens are renewed")
            return DiffResult(changes=True)
        return DiffResult(changes=changed)

    def create(self, props: Props) -> CreateResult:
        """Make tokens and configs."""
        return CreateResult(f"{props['pool']}-join", self.stored(props, **join.issue(props, Reporter())))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """Make new ones, then take the old tokens back, where they are."""
        made = join.issue(news, Reporter())
        join.withdraw(olds if clusters.is_another(olds, news) else news, olds.get("tokens") or [], Reporter())
        return UpdateResult(self.stored(news, **made))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Tokens end by themselves; there is nothing to compare."""
        return ReadResult(id_, props)

    def delete(self, _id: str, props: Props) -> None:
        """Take the tokens back."""
        join.withdraw(props, props.get("tokens") or [], Reporter())


class FolderProvider(Provider):
    """Keeps the boot service's files in a folder of this machine."""

    inputs = ("folder", "conf", "files", "images")

    def create(self, props: Props) -> CreateResult:
        """Write them."""
        self._publish(props)
        return CreateResult(props["folder"], self.stored(props))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """Write them anew; in another folder, take the old ones away."""
        self._publish(news)
        if olds["folder"] != news["folder"]:
            folder.withdraw(Path(olds["folder"]), olds["files"])
        return UpdateResult(self.stored(news))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Gone when a file is missing: then all are written again."""
        return ReadResult(id_, props) if folder.is_whole(Path(props["folder"]), props["files"]) else ReadResult("", {})

    def delete(self, _id: str, props: Props) -> None:
        """Take them away; images stay."""
        folder.withdraw(Path(props["folder"]), props["files"])

    @staticmethod
    def _publish(props: Props) -> None:
        folder.publish(Path(props["folder"]), props["conf"], props["files"], props["images"], Reporter())


class BootedProvider(Provider):
    """Has a pool's machine boot the pool's image from the network. Deleting it takes the machine out."""

    inputs = ("node", "mac", "image", "beside")
    memos = ("power", "kubeconfig", "cluster", "pool", "rank", "roll", "joins", "network")

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Say in the preview which machine will restart."""
        changed, moves = changed_keys(olds, news, self.inputs), clusters.is_another(olds, news)
        if moves:
            Reporter().warn(_moving(olds, news))
        elif "image" in changed and is_known(news.get("image")) and news.get("roll"):
            Reporter().warn(f"{news['node']}: RESTARTS in its turn, from {olds.get('image')} to {news['image']}")
        return DiffResult(changes=bool(changed) or moves or _is_new_power(olds, news))

    def create(self, props: Props) -> CreateResult:
        """Start the machine from the network, unless its cluster has it already."""
        boot = machine.start(props, Reporter())
        return CreateResult(f"{props['node']}-booted", self.stored(props, boot=boot))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """Take the machine to another cluster, or roll it to another image; all else is only stored."""
        boot = str(olds.get("boot") or "")
        if clusters.is_another(olds, news):
            boot = machine.move(olds, news, Reporter())
        elif olds.get("image") != news["image"] and news.get("roll"):
            boot = machine.roll(news, boot, Reporter())
        return UpdateResult(self.stored(news, boot=boot))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Whether it is in its cluster is the cluster's to say; power is no state that is kept."""
        return ReadResult(id_, props)

    def delete(self, _id: str, props: Props) -> None:
        """Drain it, delete its Node, switch it off."""
        machine.leave(props, Reporter())


def _moving(olds: Props, news: Props) -> str:
    then = "RESTARTS into" if news["power"].get("kind") == "redfish" else "at its next start joins"
    return f"{news['node']}: LEAVES {olds['cluster']} in its turn, and {then} {news['cluster']}"


def _is_new_power(olds: Props, news: Props) -> bool:
    """A BMC's new address or password must get into state: a delete runs with what is there."""
    return bool(changed_keys(olds, news, ("power", "joins")))


class Join(Resource, module="netboot", name="Join"):
    """What a pool's machines join with: `configs` (a secret), `expires`."""

    configs: pulumi.Output[str]
    expires: pulumi.Output[float]

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["configs"])
        outputs = {"configs": None, "tokens": None, "expires": None}
        super().__init__(JoinProvider(), name, {**packed(props), **outputs}, pulumi.ResourceOptions.merge(secret, opts))


class Folder(Resource, module="netboot", name="Folder"):
    """The boot service's files on this machine."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(FolderProvider(), name, packed(props), opts)


class Booted(Resource, module="netboot", name="Booted"):
    """A pool's machine, as it was booted last."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(BootedProvider(), name, packed(props), opts)
