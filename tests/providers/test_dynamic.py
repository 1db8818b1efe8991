"""The edge to the engine: unknowns, floats, keys; and the state's format, which is a contract."""

import base64
import pickletools

import pytest
from pulumi.dynamic import Resource, ResourceProvider
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.output import Unknown

from providers.disk.resources import Card, CardProvider
from providers.dynamic import changed_keys, is_known
from providers.kubernetes.resources import Member, MemberProvider
from providers.talos.access import Access, AccessProvider
from providers.talos.resources import Cluster, ClusterProvider, Machine, MachineProvider, Secrets, SecretsProvider
from providers.turingpi.resources import Flash, FlashProvider, Power, PowerProvider


def test_unknown_is_seen_on_every_level() -> None:
    assert is_known({"a": [1, {"b": "c"}]})
    assert not is_known({"a": [1, {"b": Unknown()}]})


def test_changed_keys() -> None:
    olds = {"slot": 3.0, "name": "a", "password": "x"}
    assert changed_keys(olds, {"slot": 3, "name": "a", "password": "y"}, ("slot", "name")) == []
    assert changed_keys(olds, {"slot": 3, "name": Unknown()}, ("slot", "name")) == ["name"]
    assert changed_keys(olds, {"slot": 4, "name": "a"}, ("slot", "name", "absent")) == ["slot"]


GOLDEN = [
    (FlashProvider, Flash, "providers.turingpi.resources", "dynamic/turingpi:Flash"),
    (PowerProvider, Power, "providers.turingpi.resources", "dynamic/turingpi:Power"),
    (SecretsProvider, Secrets, "providers.talos.resources", "dynamic/talos:Secrets"),
    (MachineProvider, Machine, "providers.talos.resources", "dynamic/talos:Machine"),
    (ClusterProvider, Cluster, "providers.talos.resources", "dynamic/talos:Cluster"),
    (AccessProvider, Access, "providers.talos.access", "dynamic/talos:Access"),
    (MemberProvider, Member, "providers.kubernetes.resources", "dynamic/kubernetes:Member"),
    (CardProvider, Card, "providers.disk.resources", "dynamic/disk:Card"),
]


@pytest.mark.parametrize(("provider", "resource", "module", "token"), GOLDEN)
def test_state_holds_a_reference_and_no_code(
    provider: type[ResourceProvider], resource: type[Resource], module: str, token: str
) -> None:
    """4d.33: an old state must find its provider in a new program: these names never change."""
    pickled = base64.b64decode(serialize_provider(provider()))
    strings = {arg for _, arg, _ in pickletools.genops(pickled) if isinstance(arg, str)}
    assert strings == {module, provider.__name__}
    assert provider.serialize_as_secret_always is False
    assert resource._resource_type_name == token
