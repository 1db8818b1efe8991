"""A module: what it boots, what its console shows, and the faults that hit it."""

import time

import pytest

BOARDS: dict[str, dict[str, object]] = {name: {} for name in ("boot", "silent", "cut", "dead", "hang", "name", "at")}
LAB = {"scale": 0.001}


def get(client, query):
    return client.get(f"/api/bmc?{query}").json()["response"][0]


@pytest.fixture(name="flashed")
def _flashed(bench, wait):
    """Flash and power slot 1 of a board."""

    def flash(board, image=None):
        client, data = bench.client(board), image or bench.image()
        handle = client.get(f"/api/bmc?opt=set&type=flash&node=0&file=x&length={len(data)}&skip_crc").json()["handle"]
        assert client.post(f"/api/bmc/upload/{handle}", files={"file": data}).status_code == 200
        wait(lambda: "Done" in client.get("/api/bmc?opt=get&type=flash").json())
        get(client, "opt=set&type=power&node1=1")
        return client

    return flash


def test_boot_shows_on_the_console_at_once_and_takes_its_time(bench, flashed, wait):
    began = time.monotonic()
    client = flashed("boot")
    assert "U-Boot" in get(client, "opt=get&type=uart&node=0")["uart"]
    assert bench.module("boot", "boot1")["phase"] == "loader"
    wait(lambda: bench.module("boot", "boot1")["phase"] == "running")
    assert time.monotonic() - began > 60 * 0.001
    assert bench.module("boot", "boot1")["boot_id"] == bench.events("boot_started", "boot1")[-1]["boot_id"]


def test_image_for_another_module_stays_silent(bench, flashed, wait):
    from twin.image import Image, make

    image = b"".join(make(Image("0" * 64, "v1.13.9", overlay="rpi_generic"), 4096))
    client = flashed("silent", image)
    wait(lambda: bench.events("boot_failed", "silent1"))
    assert get(client, "opt=get&type=uart&node=0") == {"uart": ""}


def test_power_cut_boots_again_with_another_id(bench, flashed, wait):
    flashed("cut")
    first = wait(lambda: bench.module("cut", "cut1")["boot_id"])
    bench.fault("power-cut", node="cut1", for_s=10)
    assert bench.events("power_off", "cut1")
    wait(lambda: bench.module("cut", "cut1")["boot_id"] != first)


def test_power_that_was_taken_meanwhile_does_not_return(bench, flashed):
    client = flashed("cut")
    bench.fault("power-cut", node="cut1", for_s=500)
    get(client, "opt=set&type=power&node1=0")
    time.sleep(0.6)
    assert bench.module("cut", "cut1")["phase"] == "off"


def test_dead_node_stays_off_until_it_is_mended(bench, flashed, wait):
    client = flashed("dead")
    bench.fault("node-dead", node="dead1")
    get(client, "opt=set&type=power&node1=0")
    get(client, "opt=set&type=power&node1=1")
    assert get(client, "opt=get&type=power")["result"][0]["node1"] == "1"
    assert bench.module("dead", "dead1")["phase"] == "off"
    bench.fault("node-mended", node="dead1")
    wait(lambda: bench.module("dead", "dead1")["phase"] == "running")


def test_boot_may_hang(bench, flashed):
    bench.fault("boot-hangs", node="hang1")
    flashed("hang")
    time.sleep(0.2)
    assert bench.module("hang", "hang1")["phase"] == "loader"


def test_disk_name_may_change_with_a_boot(bench, flashed, wait):
    bench.fault("disk-renamed", node="name1")
    flashed("name")
    wait(lambda: "/dev/mmcblk1" in (bench.state / "disks/name1/disk.json").read_text())


def test_fault_may_wait_for_an_event(bench, flashed, wait):
    bench.fault("power-cut", node="at1", at="boot_started", for_s=1)
    assert bench.control(command="status")["faults"][0]["at"] == "boot_started"
    flashed("at")
    wait(lambda: bench.module("at", "at1")["boots"] == 2)
