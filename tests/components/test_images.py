"""The recorded list of images: all that anybody runs is in it, for arm64, and nothing that nobody runs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, cast

import pulumi
import pytest
import yaml

from components.images import CHART_IMAGES, OWN, SYSTEM_ARM64, TALOS, Arm64
from components.images_needed import CILIUM, PART_CHARTS, charts, needed, whole
from components.part import Site
from components.platform import _network, _provider, _services
from components.spec import spec
from components.versions import CHARTS, IMAGES
from providers.charts import Library
from providers.talos.config import NodeConfig, render
from providers.talos.resources import Cluster
from providers.talos.wire import unpack
from settings import Settings
from tests.components.house import BUNDLE, ROOT, Made, Recorder, lab, objects, packed
from tests.twin.test_charts_render import HELM, set_by
from tests.twin.test_charts_render import objects as rendered
from tests.twin.test_charts_values import PROGRAM
from tools import paths

REFERENCE = re.compile(r"[a-z0-9.-]+\.[a-z]+/[\w./-]+:[\w][\w.-]*(?:@sha256:[0-9a-f]{64})?")

ON_A_NODE = {"nfs": {"node": "node4", "path": "/var/mnt/nfs"}, "etcd_backup": {"nfs": {"server": "nas", "path": "/e"}}}
LABS: dict[str, Settings] = {
    "everything": lab(),
    "another AdGuard": lab({"dns": {"version": "v0.107.70"}}),
    "its own NFS server": lab(ON_A_NODE),
    "parts that are off": lab({"dns": {"enabled": False}, "monitoring": {"enabled": False}, "addresses": {}}),
    "host-gw": lab(cni="flannel-host-gw"),
    "Cilium": lab(cni="cilium"),
    "Cilium alone": lab({"cilium": {"version": "1.19.6"}}, cni="cilium-kube-proxy-free"),
    "older charts": lab({"metallb": {"version": "0.15.0"}, "monitoring": {"version": "87.0.0"}}),
}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


def named(found: Mapping[str, Any]) -> set[str]:
    """Every image that an object names, in its containers or in what it tells them."""
    if found["kind"] == "CustomResourceDefinition":
        return set()
    return {whole(name) for text in texts(found) for name in REFERENCE.findall(text)}


def images_of(value: Any) -> Iterator[str]:
    """What stands under the key `image`, wherever."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "image" and isinstance(item, str):
                yield whole(item)
            else:
                yield from images_of(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from images_of(item)


@cache
def built(name: str) -> tuple[Made, dict[str, tuple[str, str]]]:
    """Every resource of a lab's platform, the pods' network among them; and chart -> repository, version asked for."""
    recorder, asked = Recorder(), {}

    class Asked:
        def archive(self, repo: str, chart: str, version: str) -> str:
            asked[chart] = (repo, version)
            return packed(chart, CHARTS[chart].version)

    def program() -> None:
        cluster = Cluster("cluster", {"secrets": BUNDLE})
        site = Site(LABS[name], cluster, _provider(cluster), cast(Library, Asked()))
        _network(site)
        list(_services(site))

    pulumi.runtime.set_mocks(recorder, preview=False)
    run: Any = pulumi.runtime.test  # has no types
    run(program)()
    return recorder.made, asked


@pytest.mark.parametrize("name", LABS)
def test_the_mirror_holds_the_charts_that_the_program_asks_for(name: str) -> None:
    _, asked = built(name)
    assert asked == {chart: (source.repo, source.version) for chart, source in charts(LABS[name]).items()}


@pytest.mark.parametrize("name", LABS)
def test_every_image_of_our_own_objects_is_listed_and_nothing_that_nobody_runs(name: str) -> None:
    wanted, (made, _) = LABS[name], built(name)
    used = {image for found in objects(made) for image in images_of(found)}
    listed = set(needed(wanted).images)
    of_charts = {image.name for chart in charts(wanted) for image in CHART_IMAGES[chart].images}
    assert used <= listed
    assert listed == used | of_charts | set(configured(wanted)) | bundled(wanted)


def configured(wanted: Settings) -> Iterator[str]:
    """The images in the nodes' machine configs."""
    secrets = unpack(BUNDLE)
    for node in wanted.nodes.values():
        text = render(NodeConfig.from_dict(spec(node, wanted)), secrets)
        for document in yaml.safe_load_all(text):
            yield from images_of(document)


def bundled(wanted: Settings) -> set[str]:
    """What Talos adds to them."""
    ours = TALOS[wanted.cluster.talos.version]
    flannel = {ours.flannel} if wanted.cluster.cni.value == "flannel" else set()
    return {ours.etcd, ours.coredns, ours.pause} | flannel


@pytest.mark.skipif(not HELM.exists(), reason="make tools builds helm")
@pytest.mark.parametrize("chart", CHARTS)
def test_every_image_that_a_chart_renders_is_recorded_and_no_other(chart: str) -> None:
    found = {name for values in PROGRAM for it in rendered(chart, set_by(values, chart)) for name in named(it)}
    recorded = {image.name for image in CHART_IMAGES[chart].images if not image.started_by}
    assert found == recorded


def test_every_chart_and_image_of_the_table_of_versions_is_recorded_at_its_version() -> None:
    assert {name: found.version for name, found in CHART_IMAGES.items()} == {
        name: source.version for name, source in CHARTS.items()
    }
    assert set(OWN) == set(IMAGES)
    assert {name for names in PART_CHARTS.values() for name in names} | {CILIUM} == set(CHARTS)


def test_every_recorded_image_is_known_for_arm64_and_pinned() -> None:
    every = [image for found in CHART_IMAGES.values() for image in found.images]
    assert {image.arm64 for image in every} | {*OWN.values(), SYSTEM_ARM64} <= set(Arm64)
    names = [image.name for image in every]
    assert len(names) == len(set(names))
    assert all(REFERENCE.fullmatch(name) and not name.endswith(":latest") for name in names)


def test_with_everything_the_list_is_all_that_is_recorded() -> None:
    found = needed(lab(), everything=True)
    assert set(found.charts) == set(CHARTS)
    recorded = {image.name for of_chart in CHART_IMAGES.values() for image in of_chart.images}
    assert recorded | {whole(name) for name in IMAGES.values()} <= set(found.images)


@pytest.mark.skipif(not paths.talosctl().exists(), reason="make tools builds talosctl")
def test_talos_own_client_knows_the_same_images() -> None:
    version, kubernetes = "v1.12.0", "v1.35.0"
    done = subprocess.run(
        [str(paths.talosctl()), "image", "k8s-bundle"], capture_output=True, text=True, timeout=60, check=True
    )
    wanted = lab(talos={"version": version}, kubernetes={"version": kubernetes})
    ours = set(configured(wanted)) | bundled(wanted)
    installers = {name for name in ours if "installer/" in name}
    assert set(done.stdout.split()) == ours - installers


def test_images_without_a_registry_are_docker_s() -> None:
    assert whole("nginx:1.29.1") == "docker.io/library/nginx:1.29.1"
    assert whole("docker.io/traefik:v3") == "docker.io/library/traefik:v3"
    assert whole("nginxinc/nginx:1.29.1") == "docker.io/nginxinc/nginx:1.29.1"
    assert whole("nas:5000/wiki:2") == "nas:5000/wiki:2"
    assert whole("ghcr.io/a/b@sha256:" + "ab" * 32).startswith("ghcr.io/")


@pytest.mark.parametrize(
    ("change", "cluster", "said"),
    [
        ({"metallb": {"version": "0.15.0"}}, {}, "metallb 0.15.0: its images are listed as of 0.16.1"),
        ({"traefik": {"values": {"image": {"tag": "v3.0"}}}}, {}, "platform.traefik.values may name images"),
        ({}, {"talos": {"version": "v1.13.4"}}, "Talos v1.13.4: etcd, CoreDNS, pause and flannel are not listed"),
        ({"monitoring": {"grafana_plugins": ["grafana-clock-panel"]}}, {}, "Grafana fetches its plugins"),
    ],
)
def test_what_the_list_cannot_know_is_said(change, cluster, said) -> None:
    assert any(said in note for note in needed(lab(change, **cluster)).notes)


def test_there_is_nothing_to_say_about_the_tested_versions() -> None:
    assert needed(lab({"monitoring": {}})).notes == ()


def test_disk_images_are_named_unless_the_settings_have_one() -> None:
    (url,) = needed(lab()).disk_images
    assert re.fullmatch(r"https://factory.talos.dev/image/[0-9a-f]{64}/v1.13.9/metal-arm64.raw.xz", url)
    own = lab(talos={"version": "v1.13.9", "image": "images/metal-arm64.raw.xz"})
    assert needed(own).disk_images == ()


def test_the_docs_name_every_recorded_image() -> None:
    text = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (\w+) \|", text, re.MULTILINE))
    charts_rows = {
        (f"{chart} {found.version}", image.name, image.arm64.value)
        for chart, found in CHART_IMAGES.items()
        for image in found.images
    }
    assert rows == charts_rows | {(name, whole(IMAGES[name]), known.value) for name, known in OWN.items()}


def test_the_docs_name_what_talos_runs() -> None:
    text = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    for version, bundle in TALOS.items():
        cells = (f"`{name}`" for name in (bundle.etcd, bundle.coredns, bundle.flannel, bundle.pause))
        assert f"| {version} | {' | '.join(cells)} |" in text
