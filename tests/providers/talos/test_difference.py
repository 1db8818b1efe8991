"""Patches that make one machine config of another, checked with the merge that Talos does."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.errors import UserError
from providers.talos import documents, patches
from providers.talos.compare import same
from providers.talos.config import NodeConfig, render
from providers.talos.difference import changes, shared
from providers.talos.difference import patches as as_patches
from providers.talos.secrets import SecretsBundle

SCALARS = st.one_of(st.booleans(), st.integers(0, 3), st.sampled_from(["", "a", "12:34", "off"]))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)),
    max_leaves=12,
)
MAPS = st.dictionaries(st.sampled_from(["a", "b", "c", "extraArgs", "interfaces", "auditPolicy"]), VALUES, max_size=4)
OTHERS = st.dictionaries(st.sampled_from(["VolumeConfig/EPHEMERAL", "WatchdogTimerConfig", "RunConfig/x"]), MAPS)


def config(main: Any, others: Any) -> str:
    found: list[dict[str, Any]] = [{"version": "v1alpha1", **main}]
    for key, value in others.items():
        kind, _, name = key.partition("/")
        found.append({"apiVersion": "v1alpha1", "kind": kind, **({"name": name} if name else {}), **value})
    return documents.dump(found)


def patched(base: str, wished: str) -> str:
    made = as_patches(changes(base, wished))
    return documents.dump(patches.apply(documents.load(base), made))


@settings(max_examples=150, deadline=None)
@given(*[st.fixed_dictionaries({"machine": MAPS, "cluster": MAPS})] * 2, OTHERS, OTHERS)
def test_any_config_becomes_any_other(before: Any, after: Any, before_others: Any, after_others: Any) -> None:
    base, wished = config(before, before_others), config(after, after_others)
    assert same(patched(base, wished), wished)


def test_what_is_the_same_needs_nothing() -> None:
    text = config({"machine": {"a": [1, {"b": ""}], "empty": {}}}, {"VolumeConfig/x": {"c": 1}})
    assert changes(text, text.replace("empty: {}", "empty: []")) == []
    assert as_patches([]) == []


def test_a_config_of_talosctl_is_reached_from_ours(bundle: SecretsBundle, node_config: NodeConfig) -> None:
    """The differences that `talosctl gen config` has from what this program renders."""
    ours = render(node_config, bundle)
    main, *others = documents.load(ours)
    del main["debug"]
    main["machine"]["certSANs"] = []
    main["machine"]["network"]["interfaces"] = [{"interface": "end0", "dhcp": True, "vip": {"ip": "192.168.1.230"}}]
    del main["machine"]["kubelet"]["nodeIP"]
    main["machine"]["sysctls"] = {"net.core.somaxconn": "1024"}
    main["cluster"]["proxy"] = {"disabled": True}
    main["cluster"]["apiServer"]["certSANs"].append("k8s.example")
    main["cluster"]["etcd"].pop("extraArgs")
    others.append({"apiVersion": "v1alpha1", "kind": "VolumeConfig", "name": "EPHEMERAL", "provisioning": {}})
    theirs = documents.dump([main, *others])
    assert same(patched(ours, theirs), theirs)
    made = changes(ours, theirs)
    assert "machine.network.interfaces" in {change.where for change in made}
    assert len(as_patches(made)) <= 3


def test_a_place_is_named_and_its_value_is_not_shown() -> None:
    [change] = changes(config({"machine": {"token": "geheim"}}, {}), config({"machine": {"token": "geheimer"}}, {}))
    assert change.where == "machine.token"
    assert "geheim" not in repr(change)
    [other] = changes(config({}, {"VolumeConfig/x": {"a": {"b": 1}}}), config({}, {"VolumeConfig/x": {"a": {}}}))
    assert other.where == "VolumeConfig/x.a"


def test_what_all_have_in_common_is_found_once() -> None:
    base = config({"machine": {"a": 1}}, {})
    one = changes(base, config({"machine": {"a": 2, "b": "x"}}, {}))
    two = changes(base, config({"machine": {"a": 2, "c": "y"}}, {}))
    assert [change.where for change in shared([one, two])] == ["machine.a"]


def test_what_is_no_machine_config_is_said() -> None:
    with pytest.raises(UserError, match="no v1alpha1 document"):
        changes(yaml.safe_dump({"kind": "x"}), config({}, {}))
