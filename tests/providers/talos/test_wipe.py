"""The command that wipes a node is the same wherever it is shown, and wipes what a node that leaves is reset of."""

from pathlib import Path

from providers.talos import identity, wipe
from providers.turingpi.install import foreign

OF_ONE = (
    "talosctl -n 10.0.0.13 reset --graceful=false --reboot --system-labels-to-wipe STATE "
    "--system-labels-to-wipe EPHEMERAL"
)


def test_of_one_node_and_of_whichever_is_meant() -> None:
    assert wipe.command("10.0.0.13") == OF_ONE
    assert wipe.command() == OF_ONE.replace("-n 10.0.0.13 ", "")


def test_both_refusals_show_it() -> None:
    assert f"`{OF_ONE}`" in str(foreign("node3", "10.0.0.13"))
    lab = identity.Lab("home", {"node3": "10.0.0.13"}, {}, Path("talosconfig"))
    assert f"`{wipe.command()}`" in str(identity._no_credential(lab, ["node3"], None))
