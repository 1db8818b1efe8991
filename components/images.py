"""The images that charts and Talos run, at the versions that this program installs, and how it is known that each of
them is there for arm64. docs/images.md tells how the list is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Arm64(StrEnum):
    """How it is known that a registry has an image for arm64; nobody knowing is no member."""

    MANIFEST = "manifest"  # somebody published what the registry lists, for this tag or the one before it
    RUNS = "runs"  # somebody published that it runs on such a machine
    BUILT = "built"  # the build files of the project make it
    SAID = "said"  # the project says so of all its images


@dataclass(frozen=True)
class Image:
    """One image of a chart.

    Attributes:
        name: the whole reference: registry, repository, tag, perhaps a digest.
        arm64: how it is known that there is one for arm64.
        started_by: what starts its pods, where they are not in the chart's own objects.
    """

    name: str
    arm64: Arm64
    started_by: str = ""


@dataclass(frozen=True)
class ChartImages:
    """What a chart runs with this program's values, at one version of it."""

    version: str
    images: tuple[Image, ...]


@dataclass(frozen=True)
class TalosImages:
    """What a version of Talos runs of its own accord, beside the Kubernetes that the settings name."""

    etcd: str
    coredns: str
    flannel: str
    pause: str


def _each(arm64: Arm64, *names: str, started_by: str = "") -> tuple[Image, ...]:
    return tuple(Image(name, arm64, started_by) for name in names)


CHART_IMAGES: dict[str, ChartImages] = {
    "cert-manager": ChartImages(
        "v1.21.1",
        _each(
            Arm64.SAID,
            "quay.io/jetstack/cert-manager-cainjector:v1.21.1",
            "quay.io/jetstack/cert-manager-controller:v1.21.1",
            "quay.io/jetstack/cert-manager-webhook:v1.21.1",
        ),
    ),
    "cilium": ChartImages(
        "1.20.0",
        _each(
            Arm64.RUNS,
            "quay.io/cilium/cilium:v1.20.0@sha256:383968cd5e8873f7976fa76aa6196045643558f4cc9518a207b9335cb24a0e93",
            "quay.io/cilium/cilium-envoy:v1.37.5-1782911245-7cffc778c923f68a77954a53b1a98d6b5353f004"
            "@sha256:583057dd4f7d54cd41efff3c413aa0b148ac201f522e2c3336851fa89c78b039",
            "quay.io/cilium/operator-generic:v1.20.0",
        ),
    ),
    "csi-driver-nfs": ChartImages(
        "4.13.4",
        (
            *_each(
                Arm64.MANIFEST,
                "registry.k8s.io/sig-storage/csi-node-driver-registrar:v2.17.0",
                "registry.k8s.io/sig-storage/csi-provisioner:v6.3.0",
                "registry.k8s.io/sig-storage/csi-resizer:v2.2.1",
                "registry.k8s.io/sig-storage/livenessprobe:v2.19.0",
            ),
            *_each(Arm64.BUILT, "registry.k8s.io/sig-storage/nfsplugin:v4.13.4"),
        ),
    ),
    "headlamp": ChartImages("0.45.0", _each(Arm64.BUILT, "ghcr.io/headlamp-k8s/headlamp:v0.45.0")),
    "kube-prometheus-stack": ChartImages(
        "88.5.3",
        _each(
            Arm64.SAID,
            "docker.io/grafana/grafana:13.2.0",
            "quay.io/kiwigrid/k8s-sidecar:2.10.1",
            "quay.io/prometheus-operator/prometheus-config-reloader:v0.93.1",
            "quay.io/prometheus-operator/prometheus-operator:v0.93.1",
            "quay.io/prometheus/alertmanager:v0.34.0",
            "quay.io/prometheus/node-exporter:v1.12.1-distroless",
            "quay.io/prometheus/prometheus:v3.14.0-distroless",
            "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.20.0",
        ),
    ),
    "longhorn": ChartImages(
        "1.12.1",
        (
            *_each(
                Arm64.MANIFEST,
                "docker.io/longhornio/backing-image-manager:v1.12.1",
                "docker.io/longhornio/longhorn-engine:v1.12.1",
                "docker.io/longhornio/longhorn-instance-manager:v1.12.1",
                "docker.io/longhornio/longhorn-manager:v1.12.1",
                "docker.io/longhornio/longhorn-share-manager:v1.12.1",
                "docker.io/longhornio/longhorn-ui:v1.12.1",
            ),
            *_each(
                Arm64.MANIFEST,
                "docker.io/longhornio/csi-attacher:v4.12.0",
                "docker.io/longhornio/csi-node-driver-registrar:v2.17.0",
                "docker.io/longhornio/csi-provisioner:v5.3.0",
                "docker.io/longhornio/csi-resizer:v2.2.1",
                "docker.io/longhornio/csi-snapshotter:v8.6.0",
                "docker.io/longhornio/livenessprobe:v2.19.0",
                started_by="longhorn-driver-deployer",
            ),
            *_each(
                Arm64.MANIFEST,
                "docker.io/longhornio/support-bundle-kit:v0.0.92",
                started_by="longhorn-manager, for a support bundle",
            ),
        ),
    ),
    "kamaji": ChartImages("0.0.0+latest", _each(Arm64.BUILT, "docker.io/clastix/kamaji:26.8.2-edge")),
    "metallb": ChartImages(
        "0.16.1", _each(Arm64.SAID, "quay.io/metallb/controller:v0.16.1", "quay.io/metallb/speaker:v0.16.1")
    ),
    "metrics-server": ChartImages("3.13.1", _each(Arm64.SAID, "registry.k8s.io/metrics-server/metrics-server:v0.8.1")),
    "traefik": ChartImages("41.3.0", _each(Arm64.SAID, "docker.io/library/traefik:v3.7.11")),
    "x509-certificate-exporter": ChartImages(
        "4.2.0", _each(Arm64.BUILT, "docker.io/enix/x509-certificate-exporter:4.2.0")
    ),
}
"""Chart -> what it runs."""

OWN: dict[str, Arm64] = {
    "adguard": Arm64.BUILT,
    "coredns": Arm64.SAID,
    "etcd": Arm64.SAID,
    "flannel": Arm64.BUILT,
    "flannel-plugin": Arm64.SAID,
    "flood": Arm64.BUILT,
    "nfs-server": Arm64.RUNS,
    "python": Arm64.SAID,
    "rtorrent": Arm64.BUILT,
}
"""Name in `components.versions.IMAGES` -> how it is known for arm64; of the project, whatever the tag."""

SYSTEM_ARM64 = Arm64.SAID
"""Talos and Kubernetes publish every release for arm64."""


def _talos(etcd: str, coredns: str, flannel: str, pause: str, registry: str = "registry.k8s.io/etcd") -> TalosImages:
    return TalosImages(
        f"{registry}:{etcd}",
        f"registry.k8s.io/coredns/coredns:{coredns}",
        f"ghcr.io/siderolabs/flannel:{flannel}",
        f"registry.k8s.io/pause:{pause}",
    )


_BEFORE_1_12 = "gcr.io/etcd-development/etcd"

TALOS: dict[str, TalosImages] = {
    "v1.9.0": _talos("v3.5.17", "v1.12.0", "v0.26.1", "3.10", _BEFORE_1_12),
    "v1.9.6": _talos("v3.5.21", "v1.12.0", "v0.26.5", "3.10", _BEFORE_1_12),
    "v1.10.9": _talos("v3.5.26", "v1.12.1", "v0.26.7", "3.10", _BEFORE_1_12),
    "v1.11.6": _talos("v3.6.5", "v1.12.4", "v0.27.4", "3.10", _BEFORE_1_12),
    "v1.12.0": _talos("v3.6.7", "v1.13.2", "v0.27.4", "3.10"),
    "v1.12.11": _talos("v3.6.11", "v1.14.2", "v0.27.4", "3.10.1"),
    "v1.13.0": _talos("v3.6.9", "v1.14.2", "v0.28.4", "3.10.1"),
    "v1.13.8": _talos("v3.6.12", "v1.14.6", "0.28.8", "3.10.1"),
    "v1.13.9": _talos("v3.6.12", "v1.14.6", "0.28.8", "3.10.1"),
}
"""Version of Talos -> what it runs. `talosctl image k8s-bundle` of a version prints it."""
