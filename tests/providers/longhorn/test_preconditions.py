"""What a node lacks is told with how to mend it."""

from __future__ import annotations

import dataclasses

import pytest

from providers.longhorn.preconditions import GB, Found, Wish, faults, kubelet_mounts
from providers.talos.client import Mount

WISH = Wish("/var/lib/longhorn", 10)
WELL = Found(
    extensions=frozenset({"iscsi-tools", "util-linux-tools", "qemu-guest-agent"}),
    modules=frozenset({"iscsi_tcp"}),
    mounts=(Mount("/", 100 * GB, 0), Mount("/var", 100 * GB, 50 * GB), Mount("/var/mnt/other", GB, GB)),
    kubelet_mounts={"/var/lib/longhorn": frozenset({"bind", "rshared", "rw"})},
)


def test_a_node_that_has_everything() -> None:
    assert faults(WELL, WISH) == ()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"extensions": frozenset({"util-linux-tools"})}, "lacks iscsi-tools; check cluster.talos.extensions"),
        ({"extensions": frozenset()}, "lacks iscsi-tools and util-linux-tools"),
        ({"modules": frozenset()}, "has not loaded iscsi_tcp; add it to machine.kernel.modules"),
        ({"kubelet_mounts": {}}, "does not mount /var/lib/longhorn with bind, rshared, rw"),
        ({"kubelet_mounts": {"/var/lib/longhorn": frozenset({"bind", "rw"})}}, "does not mount /var/lib/longhorn"),
        ({"mounts": (Mount("/var", 20 * GB, 9 * GB),)}, "9.0 GB are free for /var/lib/longhorn and 10 GB are asked"),
        ({"mounts": ()}, "0.0 GB are free"),
    ],
)
def test_each_thing_that_is_missing(change: dict[str, object], word: str) -> None:
    (said,) = faults(dataclasses.replace(WELL, **change), WISH)  # type: ignore[arg-type]
    assert word in said


def test_the_file_system_is_that_of_the_path_and_not_of_one_that_begins_alike() -> None:
    mounts = (Mount("/var", 100 * GB, 50 * GB), Mount("/var/lib/long", GB, GB))
    assert dataclasses.replace(WELL, mounts=mounts).free_bytes("/var/lib/longhorn") == 50 * GB


def test_a_disk_of_its_own_counts() -> None:
    mounts = (Mount("/var", 100 * GB, 5 * GB), Mount("/var/mnt/longhorn", 1000 * GB, 900 * GB))
    found = dataclasses.replace(
        WELL, mounts=mounts, kubelet_mounts={"/var/mnt/longhorn": frozenset({"bind", "rshared", "rw"})}
    )
    assert faults(found, Wish("/var/mnt/longhorn", 10)) == ()


def test_the_kubelets_mounts_are_read_from_a_config_of_several_documents() -> None:
    config = """
apiVersion: v1alpha1
kind: HostnameConfig
---
version: v1alpha1
machine:
  kubelet:
    extraMounts:
      - {destination: /var/mnt/longhorn/, type: bind, source: /var/mnt/longhorn, options: [bind, rshared, rw]}
"""
    assert kubelet_mounts(config) == {"/var/mnt/longhorn": frozenset({"bind", "rshared", "rw"})}
    assert kubelet_mounts("machine: {}") == {}
