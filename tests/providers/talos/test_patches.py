"""Config patches. The files in `patches/` say what Talos' own code (pkg/machinery 1.13.0) made of the same patches."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import UserError
from providers.talos import documents, patches

FOLDER = Path(__file__).parent / "patches"
BASE = (FOLDER / "base.yaml").read_text()
CASES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "base.yaml")


def leaves(config):
    """Path to value, lists as values; without what is empty, which Talos' encoder leaves out."""
    found: dict[str, Any] = {}
    for document in config:
        name = [part for part in (document.get("kind"), document.get("name")) if part] or ["v1alpha1"]
        collect(found, name, document)
    return found


def collect(found, path, value):
    if isinstance(value, dict):
        for key, item in value.items():
            collect(found, [*path, key], item)
    elif value not in (None, [], ""):
        found[" ".join(path)] = value


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_as_talos_does_it(path):
    case = yaml.safe_load(path.read_text())
    before = leaves(documents.load(BASE))
    after = leaves(patches.apply(documents.load(BASE), case["patches"]))
    assert {key: after.get(key) for key in {*before, *after} if before.get(key) != after.get(key)} == case["changed"]


def test_the_arguments_stay_as_they_are():
    config = documents.load(BASE)
    patch = {"machine": {"certSANs": ["x"], "nodeLabels": {"x": {"$patch": "delete"}}}}
    patches.apply(config, [patch])
    assert config == documents.load(BASE)
    assert patch == {"machine": {"certSANs": ["x"], "nodeLabels": {"x": {"$patch": "delete"}}}}


def test_a_document_may_be_no_more_than_its_name():
    patch = {"apiVersion": "v1alpha1", "kind": "DHCPv4Config", "name": "end0"}
    assert patches.apply(documents.load(BASE), [patch])[-1] == patch


def test_deleting_from_a_document_that_is_not_there_adds_none():
    patch = {"apiVersion": "v1alpha1", "kind": "VolumeConfig", "name": "STATE", "encryption": {"$patch": "delete"}}
    assert patches.apply(documents.load(BASE), [patch]) == documents.load(BASE)


def test_deleting_what_is_not_there_is_no_error():
    gone = {"machine": {"sysctls": {"zzz": {"$patch": "delete"}}, "pods": {"$patch": "delete"}}}
    assert patches.apply(documents.load(BASE), [gone]) == documents.load(BASE)


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ([{"op": "add"}], "JSON 6902"),
        ({"$patch": "delete"}, "can't be deleted"),
        ({"machine": {"certSANs": "x"}}, "another type"),
        ({"machine": {"sysctls": ["x"]}}, r"machine\.sysctls is of another type"),
        (
            {"machine": {"network": {"interfaces": [{"interface": "eth1", "dhcp": {"$patch": "delete"}}]}}},
            "whole items",
        ),
        ({"machine": {"kernel": {"modules": [{"$patch": "delete"}]}}}, "names the item"),
        ("a: [", "not YAML"),
    ],
)
def test_patches_that_are_refused(patch, message):
    with pytest.raises(UserError, match=message):
        patches.apply(documents.load(BASE), [patch])


keys = st.sampled_from(["a", "b", "c"])
texts = st.sampled_from(["", "x", "y"])


def partial(values):
    """Partial v1alpha1 documents over a few typed keys: what is a map in one is a map in all."""
    items = st.lists(values, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "machine": st.fixed_dictionaries(
                {},
                optional={
                    "certSANs": items,
                    "sysctls": st.dictionaries(keys, values, max_size=3),
                    "kubelet": st.fixed_dictionaries(
                        {}, optional={"image": values, "extraArgs": st.dictionaries(keys, values, max_size=3)}
                    ),
                    "network": st.fixed_dictionaries({}, optional={"interfaces": interfaces}),
                },
            ),
            "cluster": st.fixed_dictionaries(
                {}, optional={"network": st.fixed_dictionaries({}, optional={"podSubnets": items})}
            ),
        },
    )


interfaces = st.lists(
    st.fixed_dictionaries(
        {"interface": st.sampled_from(["eth0", "eth1"])},
        optional={"dhcp": st.booleans(), "mtu": st.integers(0, 2), "addresses": st.lists(texts, max_size=2)},
    ),
    max_size=2,
    unique_by=lambda item: item["interface"],
)
partials = partial(texts)


@given(partials)
def test_no_patch_and_an_empty_patch_change_nothing(config):
    assert patches.apply([config], []) == [config]
    assert patches.apply([config], [{}]) == [config]


@given(partials, partials, partials)
def test_merging_patches_first_gives_the_same(config, first, second):
    """(config + first) + second == config + (first + second), as long as nothing is deleted."""
    (joined,) = patches.apply([first], [second])
    assert patches.apply([config], [first, second]) == patches.apply([config], [joined])


def without_growing_lists(value):
    if isinstance(value, dict):
        growing = ("certSANs", "addresses")
        return {key: without_growing_lists(item) for key, item in value.items() if key not in growing}
    return [without_growing_lists(item) for item in value] if isinstance(value, list) else value


@given(partials, partials)
def test_twice_is_once_where_no_list_grows(config, patch):
    patch = without_growing_lists(patch)
    once = patches.apply([config], [patch])
    assert patches.apply(once, [patch]) == once


@given(partials, keys)
def test_a_deleted_key_is_gone_and_the_rest_stays(config, key):
    patch = {"machine": {"sysctls": {key: {"$patch": "delete"}}}}
    (after,) = patches.apply([config], [patch])
    assert key not in (after.get("machine") or {}).get("sysctls", {})
    assert patches.apply([after], [patch]) == [after]


@given(partials)
def test_a_written_config_reads_back(config):
    assert documents.load(documents.dump([config])) == [config]
