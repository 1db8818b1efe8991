"""The engine from elsewhere: PATH and the release archive, the latter against a server of our own."""

import dataclasses
import hashlib
import http.server
import io
import socket
import tarfile
import threading
from functools import partial

import pytest

from tools import install, paths, pins, release
from tools.work import InstallError, Progress, Work

PROGRAMS = pins.ENGINE.programs


def official(tool: pins.Tool) -> pins.Release:
    assert tool.release
    return tool.release


ENGINE = official(pins.ENGINE)
RANDOM = official(pins.RANDOM_PROVIDER)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):  # noqa: A002
        pass


@pytest.fixture
def site(tmp_path):
    """A folder, and the URL that serves it."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.101.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield folder, f"http://127.101.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "scratch" / "bin"
    folder.mkdir(parents=True)
    return folder


def packed(names):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            tar.addfile(entry, io.BytesIO(name.encode()))
    return archive.getvalue()


def publish(folder, programs=PROGRAMS, checksum=None):
    archive = packed([f"pulumi/{name}" for name in [*programs, "pulumi-language-cobol"]])
    name = release.archive_name(ENGINE)
    (folder / name).write_bytes(archive)
    found = checksum or hashlib.sha256(archive).hexdigest()
    (folder / f"pulumi-{pins.PULUMI}-checksums.txt").write_text(f"{'0' * 64}  other.tar.gz\n{found}  {name}\n")


def fetch(target, url):
    release.fetch(pins.ENGINE, dataclasses.replace(ENGINE, folder=url), target, target.parent)


def engine(folder, version, programs=PROGRAMS):
    folder.mkdir(parents=True)
    for name in programs:
        (folder / name).write_text(f"#!/bin/sh\necho {version}\n")
        (folder / name).chmod(0o755)
    return folder


def test_a_release_gives_the_engines_programs_and_nothing_else(site, target):
    folder, url = site
    publish(folder)
    fetch(target, url)
    assert sorted(entry.name for entry in target.iterdir()) == sorted(PROGRAMS)
    assert all((target / name).stat().st_mode & 0o111 for name in PROGRAMS)
    assert (target / "pulumi").read_text() == "pulumi/pulumi"


def test_a_plugins_release_has_its_program_at_the_top_and_a_list_of_sha1_sums(site, tmp_path, monkeypatch, capsys):
    folder, url = site
    monkeypatch.setenv("HOMELAB_CACHE", str(tmp_path / "cache"))
    archive, name = packed(["LICENSE", "pulumi-resource-random"]), release.archive_name(RANDOM)
    assert name.startswith(f"pulumi-resource-random-v{pins.RANDOM_PLUGIN}-")
    (folder / name).write_bytes(archive)
    (folder / RANDOM.checksums).write_text(f"{hashlib.sha1(archive).hexdigest()}  ./{name}\n")
    tool = dataclasses.replace(pins.RANDOM_PROVIDER, release=dataclasses.replace(RANDOM, folder=url))
    install.install(tool, Work(tmp_path / "log", Progress(1.0)))
    bin_folder = paths.home(pins.RANDOM_PROVIDER) / "bin"
    assert [entry.name for entry in bin_folder.iterdir()] == ["pulumi-resource-random"]
    assert (bin_folder / "pulumi-resource-random").read_text() == "pulumi-resource-random"
    assert "official release v4" in capsys.readouterr().err


def test_a_plugin_whose_release_is_not_to_be_had_is_our_own_stand_in_and_says_so(site, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOMELAB_CACHE", str(tmp_path / "cache"))
    tool = dataclasses.replace(pins.RANDOM_PROVIDER, release=dataclasses.replace(RANDOM, folder=site[1]))
    install.install(tool, Work(tmp_path / "log", Progress(1.0)))
    program = paths.home(pins.RANDOM_PROVIDER) / "bin" / "pulumi-resource-random"
    assert program.read_text() == (pins.ROOT / "tools" / "plugins" / "resource_random.py").read_text()
    assert program.stat().st_mode & 0o111
    assert "own stand-in" in capsys.readouterr().err


@pytest.mark.parametrize(("machine", "word"), [("x86_64", "amd64"), ("AMD64", "amd64"), ("aarch64", "arm64")])
def test_an_archive_is_named_after_the_machine(machine, word):
    assert release.archive_name(RANDOM, machine).endswith(f"-{word}.tar.gz")
    with pytest.raises(release.NotToBeHad, match="no release for riscv64"):
        release.archive_name(RANDOM, "riscv64")


def test_an_archive_that_is_not_the_listed_one_is_an_error_and_no_reason_to_try_elsewhere(site, target):
    folder, url = site
    publish(folder, checksum="ab" * 32)
    with pytest.raises(InstallError, match="the release's list says abab"):
        fetch(target, url)
    assert list(target.iterdir()) == []


def test_an_incomplete_archive_is_an_error(site, target):
    folder, url = site
    publish(folder, programs=PROGRAMS[:-1])
    with pytest.raises(InstallError, match=PROGRAMS[-1]):
        fetch(target, url)


def test_a_release_that_is_not_there_is_left_for_the_next_source(site, target):
    folder, url = site
    with pytest.raises(release.NotToBeHad, match="404"):
        fetch(target, url)
    (folder / f"pulumi-{pins.PULUMI}-checksums.txt").write_text("")
    with pytest.raises(release.NotToBeHad, match="lists no checksum"):
        fetch(target, url)


def test_a_host_that_refuses_is_left_for_the_next_source(target):
    with socket.socket() as unused:
        unused.bind(("127.101.0.2", 0))
        with pytest.raises(release.NotToBeHad, match="refused"):
            fetch(target, f"http://127.101.0.2:{unused.getsockname()[1]}")


@pytest.mark.parametrize(
    ("version", "fits"),
    [("v3.232.0", True), ("3.240.1", True), ("v3.231.9", False), ("v4.0.0", False), ("v2.999.0", False), ("", False)],
)
def test_which_engines_on_path_fit(version, fits, tmp_path):
    folder = engine(tmp_path / "theirs", version)
    assert release.on_path(tmp_path / "ours", str(folder)) == (folder if fits else None)


def test_an_engine_on_path_without_its_python_host_does_not_do(tmp_path):
    folder = engine(tmp_path / "theirs", "v3.232.0", ["pulumi"])
    assert release.on_path(tmp_path / "ours", str(folder)) is None


def test_our_own_engine_on_path_is_not_taken_for_the_users(tmp_path):
    folder = engine(tmp_path / "ours" / "tools" / "old" / "bin", "v3.232.0")
    assert release.on_path(tmp_path / "ours", str(folder)) is None


def test_a_fitting_engine_is_linked_to_and_the_rest_is_not_tried(tmp_path, monkeypatch, capsys):
    folder = engine(tmp_path / "theirs", "v3.232.0")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("HOMELAB_CACHE", str(tmp_path / "cache"))
    install.install(pins.ENGINE, Work(tmp_path / "log", Progress(1.0)))
    assert paths.installed(pins.ENGINE)
    assert (paths.pulumi_bin() / "pulumi").resolve() == folder / "pulumi"
    assert str(folder) in capsys.readouterr().err
