"""What is rendered: dnsmasq takes it, the same input gives the same text, and nobody boots who was not meant."""

import dataclasses
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from providers.netboot import dnsmasq, scripts
from providers.netboot.plan import Approval, Machine, Mode, Pool, Service
from tests.providers.netboot.boots import CONFIG, IMAGE, MAC, needs, pool, service

RANGE = {"first": IPv4Address("10.77.0.100"), "last": IPv4Address("10.77.0.150")}
TAGGED = Pool(
    "racks",
    IMAGE,
    (
        Machine("left1", "02:00:00:00:00:01", tags=("ssd",), address=IPv4Address("10.77.0.20"), uuid="ABCD"),
        Machine("left2", "02:00:00:00:00:02"),
    ),
    first=IPv4Address("10.77.0.200"),
    last=IPv4Address("10.77.0.202"),
    config=CONFIG,
    options={"option:ntp-server": "10.77.0.1"},
    tags={"ssd": {"option:root-path": "/srv/ssd", "42": "10.77.0.3"}},
)
CATCH_ALL = Pool("new", IMAGE, approval=Approval.MANUAL)


def _service(mode: Mode) -> Service:
    return service("10.77.0.2", 8080, mode=mode, **(RANGE if mode is Mode.FULL else {}))


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("pools", [(), (pool(),), (TAGGED, CATCH_ALL)], ids=["none", "one", "tagged"])
def test_dnsmasq_takes_its_file(tmp_path: Path, mode: Mode, pools: tuple[Pool, ...]):
    needs("dnsmasq")
    file = tmp_path / "dnsmasq.conf"
    file.write_text(dnsmasq.config(_service(mode), pools))
    done = subprocess.run(["dnsmasq", "--test", "-C", str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "dnsmasq: syntax check OK.")


def test_only_known_machines_boot_where_all_are_known():
    assert "dhcp-ignore=tag:!known" in dnsmasq.config(_service(Mode.PROXY), [pool()])
    full = dnsmasq.config(_service(Mode.FULL), [pool()])
    assert "dhcp-ignore" not in full, "in full mode the rest of the house needs addresses"
    assert all(line.startswith("dhcp-boot=tag:known,") for line in full.splitlines() if line.startswith("dhcp-boot"))


@pytest.mark.parametrize("mode", list(Mode))
def test_everyone_may_ask_where_somebody_unknown_may_boot(mode: Mode):
    text = dnsmasq.config(_service(mode), [pool(), CATCH_ALL])
    assert "known" not in text
    assert "known" not in dnsmasq.config(_service(mode), [TAGGED])


def test_tags_become_dhcp_options_of_their_machines_only():
    lines = dnsmasq.config(_service(Mode.FULL), [TAGGED]).splitlines()
    assert "dhcp-host=02:00:00:00:00:01,set:pool-racks,set:tag-racks-ssd,10.77.0.20,left1" in lines
    assert "dhcp-host=02:00:00:00:00:02,set:pool-racks,left2" in lines
    assert "dhcp-option=tag:tag-racks-ssd,option:root-path,/srv/ssd" in lines
    assert "dhcp-option=tag:pool-racks,option:ntp-server,10.77.0.1" in lines
    assert "dhcp-range=set:pool-racks,10.77.0.200,10.77.0.202,255.255.255.0,1h" in lines


def test_a_tree_has_a_script_for_each_way_to_know_a_machine():
    tree = scripts.tree(_service(Mode.FULL), [TAGGED, CATCH_ALL])
    assert sorted(tree) == [
        "alive",
        "boot.ipxe",
        "default.ipxe",
        "ip/10.77.0.200.ipxe",
        "ip/10.77.0.201.ipxe",
        "ip/10.77.0.202.ipxe",
        "mac/02-00-00-00-00-01.ipxe",
        "mac/02-00-00-00-00-02.ipxe",
        "uuid/abcd.ipxe",
    ]
    assert tree == scripts.tree(_service(Mode.FULL), [TAGGED, CATCH_ALL])
    assert all(text.startswith("#!ipxe\n") for path, text in tree.items() if path != "alive")


def test_every_step_of_a_script_says_what_comes_next_when_it_fails():
    for path, text in scripts.tree(_service(Mode.PROXY), [TAGGED, CATCH_ALL]).items():
        steps = [
            line for line in text.splitlines() if line.startswith(("imgfetch", "kernel", "initrd", "boot", "chain"))
        ]
        assert path == "alive" or steps
        assert all("||" in line for line in steps), path


def test_a_pool_without_a_config_has_no_word_of_one():
    image = dataclasses.replace(IMAGE, cmdline=("talos.config={config}", "quiet"))
    plain = Pool("plain", image, (Machine("one", MAC),))
    own = scripts.tree(_service(Mode.PROXY), [plain])["mac/52-54-00-12-34-56.ipxe"]
    assert "initrd=initramfs quiet ||" in own
    assert "config" not in own
