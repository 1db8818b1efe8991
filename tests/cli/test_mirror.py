"""A mirror is made from a small chart repository; served by a plain web server, it gives the same charts."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli import mirror, stacks
from cli.main import app
from cli.stacks import Stack
from components import images_needed
from components.versions import CHARTS, ChartSource
from providers.charts import Library
from providers.errors import ProtocolError, RefusedError, UnreachableError, UserError
from tools import paths

HOST = "127.113.0.1"
ROOT = Path(__file__).parents[2]
LAB = ROOT / "tests" / "settings" / "valid" / "platform-of-one-node.yaml"
HELM = paths.helm()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def chart(name: str, version: str, **more: str) -> bytes:
    """The archive of a chart that has nothing but a name."""
    out, about = io.BytesIO(), yaml.safe_dump({"apiVersion": "v2", "name": name, "version": version, **more}).encode()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        entry = tarfile.TarInfo(f"{name}/Chart.yaml")
        entry.size = len(about)
        tar.addfile(entry, io.BytesIO(about))
    return out.getvalue()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder behind the web server of Python's own library."""
    server = http.server.ThreadingHTTPServer((HOST, 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository with every chart of the table of versions."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    entries = {}
    for name, source in CHARTS.items():
        data, file = chart(name, source.version, description=f"{name}, as it is"), f"{name}-{source.version}.tgz"
        (folder / file).write_bytes(data)
        entries[name] = [{"name": name, "version": source.version, "urls": [file], "digest": digest(data)}]
    (folder / "index.yaml").write_text(yaml.safe_dump({"apiVersion": "v1", "entries": entries}))
    with served(folder) as url:
        here = {name: ChartSource(url, source.version) for name, source in CHARTS.items()}
        monkeypatch.setattr(images_needed, "CHARTS", here)
        yield folder


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    root = tmp_path / "root"
    root.mkdir()
    (root / "Pulumi.homelab.yaml").write_text(LAB.read_text())
    return Stack("homelab", root)


def say(_: str) -> None:
    pass


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_served_mirror_gives_the_charts_that_their_own_repositories_gave(upstream, stack, tmp_path) -> None:
    made = mirror.make(stack, tmp_path / "mirror", say, everything=True)
    assert {it.about["name"] for it in made.archives} == set(CHARTS)
    with served(tmp_path / "mirror") as url:
        library = Library(tmp_path / "charts", tmp_path / "lock.yaml", url, pause_s=0.001)
        for name, source in CHARTS.items():
            archive = Path(library.archive("https://charts.invalid", name, source.version))
            assert archive.read_bytes() == (upstream / archive.name).read_bytes()


@pytest.mark.skipif(not HELM.exists(), reason="make tools builds helm")
def test_helm_itself_reads_the_mirror(upstream, stack, tmp_path) -> None:
    mirror.make(stack, tmp_path / "mirror", say, everything=True)
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    with served(tmp_path / "mirror") as url:
        words = [str(HELM), "show", "chart", "traefik", "--repo", url, "--version", CHARTS["traefik"].version]
        done = subprocess.run(words, env=home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "traefik, as it is" in done.stdout


def test_only_what_the_lab_needs_is_fetched(upstream, stack, tmp_path) -> None:
    made = mirror.make(stack, tmp_path / "mirror", say)
    assert {it.about["name"] for it in made.archives} == set(made.needed.charts) < set(CHARTS)
    assert set(files(tmp_path / "mirror")) == {"index.yaml", "images.txt", *(it.file for it in made.archives)}
    listed = (tmp_path / "mirror" / "images.txt").read_text().splitlines()
    assert listed == sorted(set(listed)) == list(made.needed.images)
    assert "registry.k8s.io/kube-apiserver:v1.36.1" in listed


def test_the_settings_own_mirror_is_not_asked(upstream, stack, tmp_path) -> None:
    """It may be the very folder that is to be filled."""
    config = yaml.safe_load(stack.settings_file.read_text())
    config["config"]["homelab:platform"]["charts"] = {"mirror": "http://charts.invalid"}
    stack.settings_file.write_text(yaml.safe_dump(config))
    assert mirror.make(stack, tmp_path / "mirror", say).archives


def test_the_same_again_writes_nothing_and_asks_nobody(upstream, stack, tmp_path) -> None:
    folder = tmp_path / "mirror"
    mirror.make(stack, folder, say)
    before = {path: (path.read_bytes(), path.stat().st_ino) for path in folder.iterdir()}
    for path in upstream.iterdir():
        path.unlink()
    made = mirror.make(stack, folder, say)
    assert not any(it.new for it in made.archives)
    assert {path: (path.read_bytes(), path.stat().st_ino) for path in folder.iterdir()} == before


def test_what_somebody_else_put_there_stays(upstream, stack, tmp_path) -> None:
    folder = tmp_path / "mirror"
    folder.mkdir()
    other = {"name": "podinfo", "version": "1.0.0", "urls": ["podinfo-1.0.0.tgz"]}
    older = {"name": "traefik", "version": "40.0.0", "urls": ["traefik-40.0.0.tgz"]}
    index = {"apiVersion": "v1", "entries": {"podinfo": [other], "traefik": [older]}, "generated": "yesterday"}
    (folder / "index.yaml").write_text(yaml.safe_dump(index))
    (folder / "podinfo-1.0.0.tgz").write_bytes(b"theirs")
    mirror.make(stack, folder, say, everything=True)
    found = yaml.safe_load((folder / "index.yaml").read_text())
    assert found["entries"]["podinfo"] == [other]
    assert [entry["version"] for entry in found["entries"]["traefik"]] == [CHARTS["traefik"].version, "40.0.0"]
    assert found["generated"] == "yesterday"
    assert (folder / "podinfo-1.0.0.tgz").read_bytes() == b"theirs"


def test_a_file_of_a_charts_name_that_is_another_is_not_overwritten(upstream, stack, tmp_path) -> None:
    folder = tmp_path / "mirror"
    folder.mkdir()
    theirs = folder / f"metallb-{CHARTS['metallb'].version}.tgz"
    theirs.write_bytes(b"theirs")
    with pytest.raises(RefusedError, match="is another file than the chart of that name"):
        mirror.make(stack, folder, say, everything=True)
    assert theirs.read_bytes() == b"theirs"
    assert not (folder / "index.yaml").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("index.yaml", "<html>", "is not the index of a chart repository"),
        ("index.yaml", "entries: [", "is not the index of a chart repository"),
        ("index.yaml", "\x00", "is not the index of a chart repository"),
        ("images.txt", "holiday pictures\n", "is no list of images"),
    ],
)
def test_a_folder_of_another_use_is_refused_before_anything_is_fetched(upstream, stack, tmp_path, name, content, said):
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=said):
        mirror.make(stack, folder, say)
    assert files(folder) == {name: content.encode()}
    assert not stack.local.exists()


def test_a_file_in_place_of_a_folder_is_refused(upstream, stack, tmp_path) -> None:
    (tmp_path / "mirror").write_text("")
    with pytest.raises(UserError, match="is a file; name a folder"):
        mirror.make(stack, tmp_path / "mirror", say)


def test_a_folder_that_cannot_be_made_is_one_sentence(upstream, stack, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written or read: Not a directory"):
        mirror.make(stack, tmp_path / "file" / "mirror", say)


def test_nothing_is_laid_down_when_a_repository_is_away(upstream, stack, tmp_path, monkeypatch) -> None:
    nowhere = {name: ChartSource("http://127.113.0.9:9", source.version) for name, source in CHARTS.items()}
    monkeypatch.setattr(images_needed, "CHARTS", nowhere)
    monkeypatch.setattr(mirror, "Library", functools.partial(Library, pause_s=0.001))
    with pytest.raises(UnreachableError, match="no answer"):
        mirror.make(stack, tmp_path / "mirror", say)
    assert files(tmp_path / "mirror") == {}


def test_a_chart_that_changed_under_its_version_is_refused(upstream, stack, tmp_path) -> None:
    made = mirror.make(stack, tmp_path / "mirror", say)
    (stack.root / "charts.lock.yaml").write_text(
        (stack.root / "charts.lock.yaml").read_text().replace(made.archives[0].sha256, "0" * 64)
    )
    with pytest.raises(RefusedError, match="changed it under its version"):
        mirror.make(stack, tmp_path / "mirror", say)


@pytest.mark.parametrize("data", [b"\x1f\x8bcut", b""])
def test_an_archive_that_is_no_chart_is_told_apart(tmp_path, data) -> None:
    file = tmp_path / "metallb-1.0.0.tgz"
    if data:
        file.write_bytes(data)
    else:
        with tarfile.open(file, "w:gz") as tar:
            tar.add(LAB, arcname="metallb/values.yaml")
    with pytest.raises(ProtocolError, match="remove it and try again"):
        mirror._about(file)


def test_the_command_prints_what_machines_read(upstream, stack, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(stacks, "find", lambda _: stack)
    result = CliRunner().invoke(app, ["mirror", str(tmp_path / "mirror"), "--stack", "homelab", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["folder"] == str(tmp_path / "mirror")
    assert {it["sha256"] for it in found["charts"]} == {digest(path.read_bytes()) for path in archives(tmp_path)}
    assert all(it["new"] for it in found["charts"])
    assert "disk_images" in found


def archives(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "mirror").glob("*.tgz"))


def test_the_command_says_what_it_fetches_and_what_it_made(upstream, stack, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(stacks, "find", lambda _: stack)
    result = CliRunner().invoke(app, ["mirror", str(tmp_path / "mirror"), "--all"])
    assert result.exit_code == 0, result.output
    said = result.stderr
    assert f"chart 1 of {len(CHARTS)}: cert-manager" in said
    assert f"{len(CHARTS)} charts," in said
    assert "disk image for cluster.talos.image: https://factory.talos.dev/image/" in said


def test_a_mistyped_stack_is_one_line_and_makes_no_folder(tmp_path) -> None:
    result = CliRunner().invoke(app, ["mirror", str(tmp_path / "mirror"), "--stack", "twim"])
    assert result.exit_code == 1
    assert result.output.startswith("error: no stack 'twim'")
    assert not (tmp_path / "mirror").exists()
