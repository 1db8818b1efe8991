"""What is wiped when a node is given back, and how its owner does the same by hand."""

from __future__ import annotations

from providers.talos.client import WIPE_LABELS


def command(address: str = "") -> str:
    """The command that puts a configured node back into maintenance mode; without an address, whichever is meant."""
    where = f"-n {address} " if address else ""
    labels = " ".join(f"--system-labels-to-wipe {label}" for label in WIPE_LABELS)
    return f"talosctl {where}reset --graceful=false --reboot {labels}"
