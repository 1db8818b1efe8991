"""Pools in three clusters: what each is told of the one that it joins, and what goes with what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.after import unrecorded
from components.part import Site
from components.platform import _provider, _services
from components.pool import Netboot
from providers.dynamic import PACKED
from providers.talos.resources import Cluster
from settings import Settings, load
from tests.components.house import BUNDLE, LOOP, Recorder, kubeconfig, library

LAB = load(Path(__file__).parents[1] / "settings/valid/pools-of-three-clusters.yaml")
POOLS = {"boxes": "home", "pupils": "school", "lifts": "garage"}
SCHOOL, GARAGE = "the school's kubeconfig", "the garage's kubeconfig"


class Engine(Recorder):
    """One that opens a tenant, and makes configs."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        made, outputs = super().new_resource(args)
        if args.name == "school-api":
            outputs |= {"admin": SCHOOL}
        if args.typ.endswith("netboot:Join"):
            names = _plain(args.inputs[PACKED])["entries"]
            configs = {name: {"path": f"config/{name}/join", "text": f"of {name}"} for name in names}
            outputs |= {"configs": json.dumps(configs), "expires": 1000}
        return made, outputs


def _program(lab: Settings) -> None:
    cluster = Cluster("cluster", {"secrets": BUNDLE})
    site = Site(lab, cluster, _provider(cluster), library())
    parts = [part for part in _services(site) if part is not None]
    netboot = Netboot(lab, pulumi.Output.secret(BUNDLE), cluster, {"garage": pulumi.Output.secret(GARAGE)})
    netboot.start([*parts, *(make(site, parts) for make in netboot.in_cluster)])


@cache
def _made(where: str = "node") -> Mapping[str, pulumi.runtime.MockResourceArgs]:
    lab, engine = LAB, Engine()
    if where == "folder":
        service = lab.boot_service.model_copy(update={"node": None, "folder": "/srv/netboot"})  # type: ignore[union-attr]
        lab = lab.model_copy(update={"boot_service": service})
    run: Any = pulumi.runtime.test  # has no types
    asyncio.set_event_loop(LOOP)
    pulumi.runtime.set_mocks(engine, preview=False)
    run(lambda: _program(lab))()
    return engine.made


def _plain(value: Any) -> Any:
    """A value without the mark of a secret."""
    return value.get("value", value) if isinstance(value, Mapping) and len(value) == 2 else value


def _told(name: str, where: str = "node") -> dict[str, Any]:
    found = _plain(_made(where)[name].inputs[PACKED])
    return {**found, "kubeconfig": _plain(found["kubeconfig"])}


@pytest.mark.parametrize("where", ["node", "folder"])
def test_each_pool_is_told_the_cluster_that_it_joins(where: str):
    told = {name: _told(f"{name}-join", where) for name in POOLS}
    assert {name: one["kubeconfig"] for name, one in told.items()} == {
        "boxes": kubeconfig(),
        "pupils": SCHOOL,
        "lifts": GARAGE,
    }
    assert {name: one.get("beside") for name, one in told.items()} == {**POOLS, "boxes": None}
    assert not any("secrets" in one for one in told.values()), "they are for Talos alone"


def test_each_machine_is_told_the_cluster_that_it_is_in():
    one, two, three = (_told(f"{name}-booted") for name in ("box1", "pupil1", "lift1"))
    assert [(told["cluster"], told.get("beside")) for told in (one, two, three)] == [
        ("home", None),
        ("school", "school"),
        ("garage", "garage"),
    ]
    assert [told["kubeconfig"] for told in (one, two, three)] == [kubeconfig(), SCHOOL, GARAGE]
    assert [told["network"] for told in (one, two, three)] == [True, False, True], "a tenant's is its owner's to bring"


def test_where_names_are_resolved_is_told_where_it_is_not_the_usual_address():
    found = {name: next(iter(_told(f"{name}-join")["entries"].values())).get("dns") for name in POOLS}
    assert found == {"boxes": None, "pupils": "10.112.0.10", "lifts": "10.43.0.10"}


def test_a_value_without_a_record_stays_as_secret_as_it_was():
    async def looked() -> tuple[Any, bool, set[Any]]:
        found = unrecorded(pulumi.Output.secret("text"))
        return await found.future(), await found.is_secret(), await found.resources()

    asyncio.set_event_loop(LOOP)
    assert LOOP.run_until_complete(looked()) == ("text", True, set())
