"""Pools in the program, on an engine that makes everything: what the boot service holds, what machines are told."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import tarfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pulumi

from components.part import Site
from components.platform import _provider
from components.pool import BOOT_SERVICE, Netboot
from providers.dynamic import PACKED
from providers.netboot.join import ANYBODY
from providers.talos.resources import Cluster
from settings import Settings, load
from tests.components.house import BUNDLE, LOOP, Recorder, library

LAB = load(Path(__file__).parents[2] / "tests/settings/valid/pools.yaml")
PATHS = {"box1": "config/01/config.yaml", ANYBODY: "config/02/config.yaml", "box2": "config/03/join"}


class Joined(Recorder):
    """One that makes configs as well."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        made, outputs = super().new_resource(args)
        if args.name.endswith("-join"):
            names = _plain(args.inputs[PACKED])["entries"]
            configs = {name: {"path": PATHS[name], "text": f"of {name}"} for name in names}
            outputs |= {"configs": json.dumps(configs), "expires": 1000 if args.name == "ram-join" else 2000}
        return made, outputs


@cache
def _made(where: str) -> Mapping[str, pulumi.runtime.MockResourceArgs]:
    recorder = Joined()
    lab = LAB if where == "node" else _in_folder(LAB)

    def program() -> None:
        cluster = Cluster("cluster", {"secrets": BUNDLE})
        netboot = Netboot(lab, pulumi.Output.secret(BUNDLE), cluster, {})
        site = Site(lab, cluster, _provider(cluster), library())
        netboot.start([make(site, []) for make in netboot.in_cluster])

    run: Any = pulumi.runtime.test  # has no types
    asyncio.set_event_loop(LOOP)
    pulumi.runtime.set_mocks(recorder, preview=False)
    run(program)()
    return recorder.made


def _in_folder(lab: Settings) -> Settings:
    service = lab.boot_service.model_copy(update={"node": None, "folder": "/srv/netboot"})  # type: ignore[union-attr]
    return lab.model_copy(update={"boot_service": service})


def _plain(value: Any) -> Any:
    """A value without the mark of a secret."""
    return value.get("value", value) if isinstance(value, Mapping) and len(value) == 2 else value


def test_the_boot_service_on_a_node_holds_scripts_and_configs_in_one_secret():
    files = _made("node")[f"{BOOT_SERVICE}-files"].inputs
    packed = base64.b64decode(_plain(files["data"])["files.tgz"])
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        texts = {name: tar.extractfile(name).read().decode() for name in tar.getnames()}  # type: ignore[union-attr]
    assert texts["config/01/config.yaml"] == "of box1"
    assert "talos.config=http://192.168.1.232:8069/config/01/config.yaml" in texts["mac/02-00-00-00-01-01.ipxe"]
    assert "/config/03/join /homelab.config" in texts["mac/02-00-00-00-01-02.ipxe"]
    assert "ip/192.168.1.247.ipxe" in texts
    assert _plain(files["stringData"])["expires"] == "1000", "the first that ends"


def test_no_path_of_a_config_is_in_plain_in_another_object():
    others = {name: args.inputs for name, args in _made("node").items() if not name.endswith(("-files", "-join"))}
    assert not any(path in json.dumps(inputs, default=str) for inputs in others.values() for path in PATHS.values())


def test_in_a_folder_there_is_nothing_in_the_cluster():
    made = _made("folder")
    folder = _plain(made[BOOT_SERVICE].inputs[PACKED])
    assert folder["folder"] == "/srv/netboot"
    assert min(image["name"] for image in folder["images"]) == "ram-r1"
    assert not any(args.typ.startswith("kubernetes:") for args in made.values())


def test_each_machine_knows_its_place_its_power_and_its_cluster():
    made = _made("node")
    one, two = (_plain(made[f"{name}-booted"].inputs[PACKED]) for name in ("box1", "box2"))
    assert (one["rank"], two["rank"]) == (0, 1)
    assert (one["roll"], two["roll"]) == (True, False)
    assert two["image"] == "ram-r1"
    assert one["image"].startswith("talos-v1.13.9-")
    assert _plain(two["power"]) == {"kind": "wake", "broadcast": "192.168.1.255"}
