"""Which addresses MetalLB gives to whom."""

from __future__ import annotations

from components.metallb import pools
from settings.platform import Platform


def platform(*addresses: str) -> Platform:
    given = {f"service{number}": address for number, address in enumerate(addresses)}
    return Platform.model_validate({"pools": ["192.168.1.200-192.168.1.210"], "addresses": given})


def test_a_reserved_address_is_given_to_nobody_else() -> None:
    found = pools(platform("192.168.1.204", "192.168.1.210"))
    assert found["lan"]["addresses"] == ["192.168.1.200-192.168.1.203", "192.168.1.205-192.168.1.209"]
    assert found["reserved"] == {"addresses": ["192.168.1.204/32", "192.168.1.210/32"], "autoAssign": False}


def test_without_reserved_ones_there_is_one_pool() -> None:
    assert pools(platform()) == {"lan": {"addresses": ["192.168.1.200-192.168.1.210"]}}
