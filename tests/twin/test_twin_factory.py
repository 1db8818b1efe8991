"""The Image Factory: schematic ids, images that follow from their name, broken downloads (facts B8)."""

import contextlib
import hashlib
import lzma
import time

import httpx2
import pytest
import yaml

from twin.image import MAGIC, Reader
from twin.schematic import canonical, identity

BOARDS: dict[str, dict[str, object]] = {"board1": {}}
BOTH = {"systemExtensions": {"officialExtensions": ["siderolabs/iscsi-tools", "siderolabs/util-linux-tools"]}}
RK1 = {"image": "siderolabs/sbc-rockchip", "name": "turingrk1"}
CM4 = {"image": "siderolabs/sbc-raspberrypi", "name": "rpi_generic"}
RK1_BOTH = "85f683902139269fbc5a7f64ea94a694d31e0b3d94347a225223fcbd042083ae"


@pytest.mark.parametrize(
    ("schematic", "expected"),
    [
        ({}, "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"),
        ({"customization": BOTH}, "613e1592b2da41ae5e265e8789429f22e121aab91cb4deb6bc3c0b6262961245"),
        ({"overlay": CM4}, "ee21ef4a5ef808a9b7484cc0dda0f25075021691c8c09a276591eedb638ea1f9"),
        ({"overlay": CM4, "customization": BOTH}, "f8a903f101ce10f686476024898734bb6b36353cc4d41f348514db9004ec0a9d"),
        ({"overlay": RK1}, "df156b82096feda49406ac03aa44e0ace524b7efe4e1f0e144a1e1ae3930f1c0"),
        ({"customization": BOTH, "overlay": RK1}, RK1_BOTH),
    ],
)
def test_ids_are_those_of_the_real_factory(schematic, expected):
    assert identity(yaml.safe_dump(schematic).encode()) == expected
    assert identity(canonical(yaml.safe_dump(schematic).encode()).encode()) == expected


@pytest.fixture(name="factory")
def _factory(bench):
    bench.control(command="clear")
    base = f"http://{bench.lab['factory']['address']}:{bench.lab['factory']['port']}"
    with httpx2.Client(base_url=base, timeout=20) as client:
        yield client


@pytest.fixture(name="url")
def _url(factory):
    answer = factory.post("/schematics", content=yaml.safe_dump({"overlay": RK1, "customization": BOTH}))
    assert answer.status_code == 201
    assert answer.json()["id"] == RK1_BOTH
    return f"/image/{RK1_BOTH}/v1.13.9/metal-arm64.raw.xz"


def test_schematics_must_be_posted_before_images_exist(factory):
    missing = "a" * 64
    assert factory.get(f"/image/{missing}/v1.13.9/metal-arm64.raw.xz").status_code == 404
    assert factory.get(f"/schematics/{missing}").status_code == 404


def test_posted_schematic_can_be_read(factory, url):
    assert yaml.safe_load(factory.get(f"/schematics/{RK1_BOTH}").text)["overlay"] == RK1


@pytest.mark.parametrize("body", [b"- a\n", b"colour: green\n", b"{", b"customization: {what: 1}\n"])
def test_bad_schematics_are_400_in_plain_text(factory, body):
    answer = factory.post("/schematics", content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")


def test_image_holds_what_was_asked_for_and_is_the_same_every_time(factory, url):
    first = factory.get(url)
    assert int(first.headers["content-length"]) == len(first.content)
    assert factory.get(url).content == first.content
    raw = lzma.decompress(first.content)
    assert raw.startswith(MAGIC)
    reader = Reader()
    reader.feed(raw)
    image = reader.result()
    assert image is not None
    assert (image.schematic, image.version, image.arch, image.overlay) == (RK1_BOTH, "v1.13.9", "arm64", "turingrk1")


def test_images_of_other_names_differ(factory, url):
    factory.post("/schematics", content=b"")
    other = factory.get(f"/image/{identity(b'')}/v1.13.9/metal-arm64.raw.xz")
    assert hashlib.sha256(other.content).digest() != hashlib.sha256(factory.get(url).content).digest()


def test_a_download_can_be_resumed(factory, url):
    whole = factory.get(url).content
    rest = factory.get(url, headers={"Range": "bytes=1000-"})
    assert (rest.status_code, rest.content) == (206, whole[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{len(whole) - 1}/{len(whole)}"
    assert factory.head(url).headers["content-length"] == str(len(whole))


def test_what_is_not_there(factory, url):
    assert factory.get(url + ".sha256").status_code == 402
    assert factory.get(url.replace("v1.13.9", "v9.9.9")).status_code == 404
    assert factory.get(url.replace("metal-arm64", "metal-toaster")).status_code == 400
    posted = factory.post(
        "/schematics", content=b"customization: {systemExtensions: {officialExtensions: [siderolabs/nope]}}"
    )
    assert "not available" in factory.get(url.replace(RK1_BOTH, posted.json()["id"])).text


def test_lists(factory):
    assert factory.get("/versions").json()[-2:] == ["v1.13.8", "v1.13.9"]
    names = [entry["name"] for entry in factory.get("/version/v1.13.9/extensions/official").json()]
    assert "siderolabs/iscsi-tools" in names
    assert {"turingrk1", "rpi_generic"} == {e["name"] for e in factory.get("/version/v1.13.9/overlays/official").json()}


def test_broken_downloads(bench, factory, url):
    whole = factory.get(url).content
    bench.fault("factory-cut", after_bytes=20_000)
    with pytest.raises(httpx2.HTTPError):
        factory.get(url)
    bench.fault("factory-corrupt")
    assert factory.get(url).content != whole
    bench.fault("factory-missing")
    assert factory.get(url).status_code == 404
    bench.fault("factory-error")
    assert factory.get(url).status_code == 500
    bench.fault("factory-no-range")
    ignored = factory.get(url, headers={"Range": "bytes=1000-"})
    assert (ignored.status_code, ignored.content) == (200, whole)


def test_cut_download_resumes_where_it_was(bench, factory, url):
    whole = factory.get(url).content
    bench.fault("factory-cut", after_bytes=20_000, times=1)
    got = b""
    with contextlib.suppress(httpx2.HTTPError), factory.stream("GET", url) as answer:
        for chunk in answer.iter_raw():
            got += chunk
    assert 0 < len(got) < len(whole)
    rest = factory.get(url, headers={"Range": f"bytes={len(got)}-"})
    assert got + rest.content == whole


def test_slow_download(bench, factory, url):
    factory.get(url)
    bench.fault("factory-slow", rate=200_000)
    began = time.monotonic()
    factory.get(url)
    assert time.monotonic() - began > 0.2
