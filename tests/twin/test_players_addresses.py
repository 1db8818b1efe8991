"""Which addresses MetalLB gives, without a cluster."""

from typing import Any

import pytest

from twin.kubernetes.players import addresses as ip
from twin.kubernetes.players.quantity import in_bytes
from twin.kubernetes.players.world import labelled


def pool(name: str, *addresses: str, **spec: Any) -> ip.Pool:
    found = ip.pool({"metadata": {"name": name}, "spec": {"addresses": list(addresses), **spec}})
    assert found is not None
    return found


def service(name: str, *given: str, port: int = 80, annotations: dict[str, str] | None = None, **spec: Any) -> Any:
    return {
        "metadata": {"name": name, "namespace": "x", "uid": name, "annotations": annotations or {}},
        "spec": {"ports": [{"port": port}], **spec},
        "status": {"loadBalancer": {"ingress": [{"ip": address} for address in given]}},
    }


def texts(service: Any, pools: list[ip.Pool], *others: Any) -> list[str]:
    uses: dict[ip.Address, list[Any]] = {}
    for other in others:
        for address in ip.current(other):
            uses.setdefault(address, []).append(other)
    return [str(address) for address in ip.assign(service, pools, uses)[0]]


def test_a_pool_of_ranges_networks_and_both_versions() -> None:
    pools = [pool("house", "192.0.2.8/31", "192.0.2.20-192.0.2.21", "2001:db8::/127")]
    assert texts(service("one"), pools) == ["192.0.2.8"]
    assert texts(service("two"), pools, service("one", "192.0.2.8"), service("o", "192.0.2.9")) == ["192.0.2.20"]
    assert texts(service("six", ipFamilies=["IPv6"]), pools) == ["2001:db8::"]
    assert texts(service("dual", ipFamilies=["IPv4", "IPv6"]), pools) == ["192.0.2.8", "2001:db8::"]


def test_a_pool_that_is_not_automatic_serves_who_names_it() -> None:
    pools = [pool("kept", "192.0.2.1/32", autoAssign=False)]
    with pytest.raises(ip.Refused, match="no available IPs"):
        texts(service("any"), pools)
    assert texts(service("named", annotations={"metallb.io/address-pool": "kept"}), pools) == ["192.0.2.1"]
    asked = {"metallb.universe.tf/loadBalancerIPs": "192.0.2.1"}
    assert texts(service("old-prefix", annotations=asked), pools) == ["192.0.2.1"]


def test_an_address_stays_until_its_pool_has_it_no_more() -> None:
    assert texts(service("one", "192.0.2.3"), [pool("house", "192.0.2.1-192.0.2.3")]) == ["192.0.2.3"]
    assert texts(service("one", "192.0.2.3"), [pool("house", "192.0.2.1-192.0.2.2")]) == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("mine", "theirs", "shared"),
    [
        ({}, {}, True),
        ({"port": 53}, {"port": 53}, False),
        ({"key": "other"}, {}, False),
        ({"externalTrafficPolicy": "Local", "selector": {"app": "a"}}, {"selector": {"app": "b"}}, False),
        ({"externalTrafficPolicy": "Local", "selector": {"app": "a"}}, {"selector": {"app": "a"}}, True),
    ],
)
def test_who_may_share(mine: Any, theirs: Any, shared: bool) -> None:
    pools = [pool("house", "192.0.2.1/32")]

    def of(name: str, *given: str, key: str = "dns", **spec: Any) -> Any:
        spec.setdefault("port", 80 if name == "mine" else 81)
        return service(name, *given, annotations={"metallb.io/allow-shared-ip": key}, **spec)

    try:
        got = texts(of("mine", **mine), pools, of("theirs", "192.0.2.1", **theirs))
    except ip.Refused:
        got = []
    assert bool(got) == shared


def test_a_pool_that_makes_no_sense_is_none() -> None:
    assert ip.pool({"metadata": {"name": "bad"}, "spec": {"addresses": ["192.0.2.300/32"]}}) is None


def test_selectors() -> None:
    node = {"metadata": {"labels": {"a": "1"}}}
    assert labelled(node, {"matchLabels": {"a": "1"}})
    assert labelled(node, {"a": "1"})
    assert not labelled(node, {"matchLabels": {"a": "2"}})
    for operator, true in (("In", True), ("NotIn", False), ("Exists", True), ("DoesNotExist", False)):
        assert labelled(node, {"matchExpressions": [{"key": "a", "operator": operator, "values": ["1"]}]}) == true


def test_quantities() -> None:
    assert [in_bytes(text) for text in ("1Gi", "500M", "1.5Ti", "7")] == [1 << 30, 500_000_000, 3 << 39, 7]
