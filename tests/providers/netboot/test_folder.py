"""The folder holds exactly what the settings say, an image is fetched once, and what is not the service's stays."""

from pathlib import Path
from typing import Any

import pytest

from providers.engine import Reporter
from providers.errors import ProtocolError, UserError
from providers.netboot import folder
from tests.ports import free_port
from tests.providers.netboot.boots import http_server, running, until

TOKEN = "config/00000000000000000000000000000001/join"
FILES = {"boot.ipxe": "#!ipxe\n", "mac/02-00-00-00-00-01.ipxe": "#!ipxe\n", TOKEN: "HOMELAB_TOKEN=x\n"}


def _image(at: Path, **more: str) -> dict[str, Any]:
    return {"name": "ram-r1", "kernel": str(at / "vmlinuz"), "initramfs": str(at / "root"), **more}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    at = tmp_path / "source"
    at.mkdir()
    (at / "vmlinuz").write_text("kernel")
    (at / "root").write_text("root")
    return at


def _publish(at: Path, files: dict[str, str], *images: dict[str, Any]) -> None:
    folder.publish(at, "port=0\n", files, images, Reporter(""))


def test_files_that_are_no_more_are_taken_away_and_others_stay(tmp_path: Path, source: Path):
    at = tmp_path / "netboot"
    _publish(at, FILES, _image(source))
    (at / "www" / "mine.txt").write_text("of the owner")
    new = {"boot.ipxe": "#!ipxe\n# new\n", "config/00000000000000000000000000000002/join": "HOMELAB_TOKEN=y\n"}
    _publish(at, new, _image(source))
    assert {str(path.relative_to(at)) for path in at.rglob("*") if path.is_file()} == {
        "dnsmasq.conf",
        "www/boot.ipxe",
        "www/mine.txt",
        "www/config/index.html",
        "www/config/00000000000000000000000000000002/index.html",
        "www/config/00000000000000000000000000000002/join",
        "www/images/ram-r1/kernel",
        "www/images/ram-r1/initramfs",
        "www/images/ram-r1/source.json",
    }
    assert (at / "www" / "boot.ipxe").read_text() == new["boot.ipxe"]


def test_no_server_lists_the_configs(tmp_path: Path, source: Path):
    at, port, log = tmp_path / "netboot", free_port(), tmp_path / "http.log"
    _publish(at, FILES, _image(source))
    import httpx2

    with running(http_server(at / "www", "127.0.0.1", port), log):
        until(lambda: "Serving" in log.read_text(), 10, "the server's start")
        url = f"http://127.0.0.1:{port}"
        assert httpx2.get(f"{url}/config/", trust_env=False).text == ""
        assert httpx2.get(f"{url}/{TOKEN}", trust_env=False).text == FILES[TOKEN]


def test_an_image_is_fetched_once_and_again_when_its_file_is_another(tmp_path: Path, source: Path):
    at = tmp_path / "netboot"
    _publish(at, FILES, _image(source))
    kernel = at / "www/images/ram-r1/kernel"
    before = kernel.stat().st_mtime_ns
    _publish(at, FILES, _image(source))
    assert kernel.stat().st_mtime_ns == before
    (source / "vmlinuz").write_text("another kernel")
    _publish(at, FILES, _image(source))
    assert kernel.read_text() == "another kernel"


def test_a_wrong_image_is_refused(tmp_path: Path, source: Path):
    with pytest.raises(ProtocolError, match=r"vmlinuz: has the SHA-256 .* and not 00"):
        _publish(tmp_path / "netboot", FILES, _image(source, kernel_sha256="0" * 64))
    (source / "root").unlink()
    with pytest.raises(UserError, match="root: no such file; build the image first"):
        _publish(tmp_path / "netboot", FILES, _image(source))
    assert not (tmp_path / "netboot/www/boot.ipxe").exists(), "nothing is served before the images are there"


def test_a_folder_that_can_not_be_written_is_told(tmp_path: Path, source: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Not a directory .*; correct boot_service\.folder"):
        _publish(tmp_path / "file" / "netboot", FILES, _image(source))


def test_what_was_written_is_taken_away_without_the_images(tmp_path: Path, source: Path):
    at = tmp_path / "netboot"
    _publish(at, FILES, _image(source))
    assert folder.is_whole(at, FILES)
    folder.withdraw(at, FILES)
    assert not folder.is_whole(at, FILES)
    assert [path.name for path in (at / "www").iterdir()] == ["images"]
