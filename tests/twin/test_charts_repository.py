"""The twin's chart repository: the same archives each time, an index that tells the truth, and both over http."""

import asyncio
import gzip
import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import httpx2
import pytest
import yaml
from aiohttp import web

from components.versions import CHARTS
from twin import chartrepo

BOARDS: dict[str, dict[str, object]] = {"board1": {}}
# Table 0 of the facts on charts: name, chart version, version of what it brings.
UPSTREAM = {
    "cert-manager": ("v1.21.1", "v1.21.1"),
    "cilium": ("1.20.0", "1.20.0"),
    "csi-driver-nfs": ("4.13.4", "4.13.4"),
    "headlamp": ("0.45.0", "0.45.0"),
    "kamaji": ("0.0.0+latest", "26.8.2-edge"),  # its public charts are edge ones
    "kube-prometheus-stack": ("88.5.3", "v0.93.1"),
    "longhorn": ("1.12.1", "v1.12.1"),
    "metallb": ("0.16.1", "v0.16.1"),
    "metrics-server": ("3.13.1", "0.8.1"),
    "traefik": ("41.3.0", "v3.7.11"),
    "x509-certificate-exporter": ("4.2.0", "4.2.0"),
}


def test_charts_carry_the_upstream_names_and_versions() -> None:
    found = {chart.about["name"]: chart.about for chart in chartrepo.packed().values()}
    assert {name: (about["version"], about["appVersion"]) for name, about in found.items()} == UPSTREAM


def test_every_chart_that_the_program_installs_is_there() -> None:
    assert {name: source.version for name, source in CHARTS.items()} == {name: it[0] for name, it in UPSTREAM.items()}


@pytest.mark.parametrize("name", UPSTREAM)
def test_a_chart_says_that_it_is_a_stand_in(name: str) -> None:
    about = chartrepo.pack(chartrepo.CHARTS / name).about
    assert about["name"] == name
    assert "stand-in of this project's twin" in about["description"]


@pytest.mark.parametrize("name", UPSTREAM)
def test_an_archive_holds_the_folder_under_the_charts_name(name: str) -> None:
    folder = chartrepo.CHARTS / name
    archive = chartrepo.pack(folder).archive
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive))) as tar:
        held = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert held == {f"{name}/{path.relative_to(folder)}": path.read_bytes() for path in files}
    assert {f"{name}/Chart.yaml", f"{name}/values.yaml", f"{name}/values.schema.json"} <= set(held)


def test_an_archive_is_the_same_from_another_folder_at_another_time(tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere"
    shutil.copytree(chartrepo.CHARTS / "metallb", copied, copy_function=shutil.copyfile)
    (copied / ".DS_Store").write_bytes(b"an editor's or a file manager's own")
    assert chartrepo.pack(copied) == chartrepo.pack(chartrepo.CHARTS / "metallb")


@pytest.mark.parametrize("size", [0, 1, 0xFFFE, 0xFFFF, 0x10000, 3 * 0xFFFF, 200_001])
def test_what_is_packed_unpacks_whatever_its_size(size: int) -> None:
    data = bytes(number * 31 % 251 for number in range(size))
    assert gzip.decompress(chartrepo._gzip(data)) == data


def test_the_index_names_each_archive_with_its_digest() -> None:
    charts = chartrepo.packed()
    index = yaml.safe_load(chartrepo.index(charts))
    assert index["apiVersion"] == "v1"
    entries = [entry for versions in index["entries"].values() for entry in versions]
    assert {entry["urls"][0]: entry["digest"] for entry in entries} == {
        file: hashlib.sha256(chart.archive).hexdigest() for file, chart in charts.items()
    }
    assert chartrepo.index(charts) == chartrepo.index(chartrepo.packed())


async def _fetch(*paths: str) -> list[httpx2.Response]:
    app = web.Application()
    chartrepo.add_routes(app.router)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.120.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.120.0.1:{port}") as client:
            return [await client.get(path) for path in paths]
    finally:
        await runner.cleanup()


async def _served() -> None:
    charts = chartrepo.packed()
    first = next(iter(charts))
    index, archive, missing = await _fetch("/charts/index.yaml", f"/charts/{first}", "/charts/metallb-0.0.0.tgz")
    assert index.text == chartrepo.index(charts)
    assert archive.content == charts[first].archive
    assert missing.status_code == 404


def test_index_and_archives_are_served() -> None:
    asyncio.run(_served())


def test_a_twin_s_factory_serves_the_repository(bench):
    base = f"http://{bench.lab['factory']['address']}:{bench.lab['factory']['port']}"
    with httpx2.Client(base_url=base, timeout=20) as client:
        assert client.get("/charts/index.yaml").text == chartrepo.index(chartrepo.packed())
