"""What a change will do to a running node, in the words of the preview. Pure: nothing is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace

from providers.dynamic import Props
from providers.talos import kubernetes_upgrade, plan, skew
from providers.talos.wish import bundle_of, rendered


@dataclass(frozen=True)
class Effect:
    """What a change does to a running node, in words, and whether it wants a reboot.

    Attributes:
        words: to stand after the node's name.
        reboots: whether it reboots, or wants to.
        rank: its place in the order in which nodes drain and reboot; 0 where there is none.
    """

    words: str
    reboots: bool = False
    rank: int = 0

    def line(self, node: str, role: str) -> str:
        """The preview's line."""
        if not self.rank:
            return f"{node}: {self.words}"
        kind = "control plane" if role == "controlplane" else "worker"
        return f"{self.rank}. {node} ({kind}) {self.words}"


def effect(olds: Props, news: Props) -> Effect:
    """What applying the change will do to the running node."""
    before, after = _both(olds, news)
    kept = kubernetes_upgrade.with_images(after, kubernetes_upgrade.images(before))
    upgrade = _upgrade_words(olds, news)
    changes = plan.compare(before, kept)
    ours = ("machine.install.image",) if upgrade else ()
    live = tuple(path for path in changes.live if path not in ours)
    config = _config_effect(replace(changes, live=live), news)
    words = [upgrade, _kubernetes_words(before, after, news), config.words if live or changes.reboot else ""]
    said = "; ".join(word for word in words if word)
    rank = int(news.get("rank") or 0) if upgrade else 0
    return Effect(said or "its config stays as it is", reboots=config.reboots or bool(upgrade), rank=rank)


def comes_to(props: Props) -> Effect:
    """What becomes of a node that runs something else than it should, as the last look at it noted."""
    return Effect(f"drains and reboots: it {props['drift']}", reboots=True, rank=int(props.get("rank") or 0))


def _both(olds: Props, news: Props) -> tuple[str, str]:
    """Both configs in the shape of the older version: an upgrade leaves the shape of a live config as it is."""
    shape = min(olds["spec"]["talos"], news["spec"]["talos"], key=skew.minor)
    return tuple(rendered({**p, "spec": {**p["spec"], "talos": shape}}, bundle_of(p)) for p in (olds, news))  # type: ignore[return-value]


def _upgrade_words(olds: Props, news: Props) -> str:
    before, after = olds["spec"], news["spec"]
    if before["talos"] != after["talos"]:
        return f"drains and reboots: Talos {before['talos']} -> {after['talos']}"
    if before["installer"] == after["installer"]:
        return ""
    old, new = set(before.get("extensions") or ()), set(after.get("extensions") or ())
    what = [f"with {name}" for name in sorted(new - old)] + [f"without {name}" for name in sorted(old - new)]
    return f"drains and reboots: Talos {after['talos']} {', '.join(what) or 'from another image'}"


def _kubernetes_words(before: str, after: str, news: Props) -> str:
    parts = kubernetes_upgrade.changed(before, after)
    if not parts:
        return ""
    old, new = (kubernetes_upgrade.images(config)[parts[-1]] for config in (before, after))
    step = f"Kubernetes {kubernetes_upgrade.version(old)} -> {kubernetes_upgrade.version(new)}"
    return f"{step}, without a reboot: {', '.join(parts)}, one after the other over all nodes"


def _config_effect(changes: plan.Changes, news: Props) -> Effect:
    if not changes.reboot:
        return Effect(
            f"changes {', '.join(changes.live)} while it runs" if changes.live else "its config stays as it is"
        )
    what = ", ".join(changes.reboot)
    if news["allow_reboot"]:
        return Effect(f"reboots for {what}", reboots=True)
    staged = "staged, and active after its next reboot (cluster.talos.allow_reboot is off)"
    return Effect(f"needs a reboot for {what}: {staged}", reboots=True)
