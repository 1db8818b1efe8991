"""A real client boots: iPXE in qemu, over qemu's own network, which needs no root. The server's log is the proof."""

import dataclasses
import subprocess
from pathlib import Path

import pytest

from providers.netboot import scripts
from providers.netboot.plan import Approval, Pool
from tests.ports import free_port
from tests.providers.netboot.boots import (
    CONFIG,
    IMAGE,
    MAC,
    TALOS,
    UNKNOWN,
    UUID,
    http_server,
    machine,
    needs,
    pool,
    requests,
    running,
    service,
    until,
    write,
)

LIMIT_S = 60


def _network(root: Path) -> list[str]:
    return ["-netdev", f"user,id=n0,tftp={root},bootfile=boot.ipxe"]


def _boots(tmp_path: Path, pools: list[Pool], mac: str) -> list[tuple[str, int]]:
    needs("qemu-system-x86_64")
    root, log, port = tmp_path / "root", tmp_path / "http.log", free_port()
    write(root, scripts.tree(service("10.0.2.2", port), pools))
    with running(http_server(root, "127.0.0.1", port), log):
        subprocess.run(
            machine(mac, _network(root), tmp_path / "screen"), stdin=subprocess.DEVNULL, timeout=LIMIT_S, check=True
        )
    return requests(log)


def test_a_machine_fetches_its_own_script_image_and_config(tmp_path: Path):
    asked = _boots(tmp_path, [pool()], MAC)
    own = ["mac/52-54-00-12-34-56.ipxe", "images/debian-7/kernel", "images/debian-7/initramfs", CONFIG]
    assert asked == [(f"GET /{path}", 200) for path in own]


@pytest.mark.slow
def test_a_machine_with_another_card_is_known_by_its_uuid(tmp_path: Path):
    known = pool()
    known = dataclasses.replace(known, machines=(dataclasses.replace(known.machines[0], uuid=UUID.upper()),))
    asked = _boots(tmp_path, [known], UNKNOWN)
    assert asked[:2] == [("GET /mac/52-54-00-99-99-99.ipxe", 404), (f"GET /uuid/{UUID}.ipxe", 200)]
    assert asked[-1] == (f"GET /{CONFIG}", 200)


@pytest.mark.slow
def test_talos_is_told_where_its_config_is_and_fetches_it_itself(tmp_path: Path):
    own = scripts.tree(service("10.0.2.2", 8080), [pool(TALOS)])["mac/52-54-00-12-34-56.ipxe"]
    assert f"initrd=initramfs talos.platform=metal talos.config=http://10.0.2.2:8080/{CONFIG} ||" in own
    asked = _boots(tmp_path, [pool(TALOS)], MAC)
    assert [path for path, _ in asked][-1] == "GET /images/talos-1/initramfs"


@pytest.mark.slow
def test_an_unknown_machine_waits_until_it_is_approved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Approval is a new script in the tree: no server is restarted, and the machine goes on by itself."""
    needs("qemu-system-x86_64")
    monkeypatch.setattr(scripts, "APPROVAL_S", 1)
    root, log, port = tmp_path / "root", tmp_path / "http.log", free_port()
    boot, catch_all = service("10.0.2.2", port), Pool("new", IMAGE, approval=Approval.MANUAL)
    write(root, scripts.tree(boot, [catch_all]))
    with (
        running(http_server(root, "127.0.0.1", port), log),
        running(machine(MAC, _network(root), tmp_path / "screen"), tmp_path / "qemu.log") as client,
    ):
        waiting = f"GET /waiting/52-54-00-12-34-56/{UUID}/"
        until(lambda: sum(path.startswith(waiting) for path, _ in requests(log)) >= 2, LIMIT_S, "it looks again")
        assert not any("images" in path for path, _ in requests(log))
        write(root, scripts.tree(boot, [pool(), catch_all]))
        client.wait(LIMIT_S)
    assert requests(log)[-1] == (f"GET /{CONFIG}", 200)


@pytest.mark.slow
def test_a_boot_service_that_is_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    needs("qemu-system-x86_64")
    monkeypatch.setattr(scripts, "AGAIN_S", 1)
    root, log, port = tmp_path / "root", tmp_path / "http.log", free_port()
    write(root, scripts.tree(service("10.0.2.2", port), [pool()]))
    screen = tmp_path / "screen"
    with running(machine(MAC, _network(root), screen), tmp_path / "qemu.log") as client:
        until(
            lambda: screen.exists() and "trying again" in screen.read_text(errors="replace"), LIMIT_S, "it tries again"
        )
        with running(http_server(root, "127.0.0.1", port), log):
            client.wait(LIMIT_S)
    assert requests(log)[-1] == (f"GET /{CONFIG}", 200)
