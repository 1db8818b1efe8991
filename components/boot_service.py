"""The boot service as a pod in a node's own network: dnsmasq for DHCP and TFTP, busybox' server for HTTP.

A machine that has booted needs it no more, so it may restart at any time. Images are kept on the node, and fetched
again only when they are others. Configs go when their tokens end, whether `up` runs or not.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

import pulumi

from components.part import Part, Site
from components.pool import ARM64_LOADER, BOOT_SERVICE, Files, images
from components.versions import NETBOOT
from components.workload import CHECKSUM, ROOT_REASON, Container, deployment
from providers.errors import UserError

NAMESPACE = NAME = "netboot"
USER = 65534
KEPT = "/var/lib/homelab-netboot"  # on the node: images, and the addresses that were lent
LIMIT_BYTES = 900_000  # a Secret holds a MiB, with its names
_GIVEN, _WWW, _STATE, _TFTP, _PROGRAM = "/given", "/www", "/state", "/var/lib/tftpboot", "/program"

FETCH = """\
set -eu
get() { # URL FILE [SHA256]
  [ -s "$2" ] && return
  echo "fetching $1"
  curl --fail --silent --show-error --location --retry 5 --output "$2.part" "$1"
  [ -z "${3:-}" ] || echo "$3  $2.part" | sha256sum -c -
  mv "$2.part" "$2"
}
mkdir -p /state/images /state/tftp /state/leases
cp /var/lib/tftpboot/* /state/tftp/
"""
# Folders that nobody lists, and configs that end with their tokens: `expires` holds the second of it.
SERVE = """\
set -u
tar -xzof /given/files.tgz -C /www || exit 1
for folder in /www/config /www/config/*; do [ -d "$folder" ] && : > "$folder/index.html"; done
( while sleep 30; do
    [ "$(date +%s)" -lt "$(cat /given/expires)" ] || rm -rf /www/config
  done ) &
exec httpd -f -vv -p "$1" -h /www
"""

Object = dict[str, Any]


class BootService(Part):
    """The namespace, the files as one Secret, and the pod."""

    def __init__(self, site: Site, served: Files) -> None:
        super().__init__(BOOT_SERVICE, site)
        settings = site.lab.boot_service
        if settings is None or settings.node is None:
            raise AssertionError("the boot service does not run in the cluster")  # the caller sees to it
        namespace = self.namespace(NAMESPACE, privileged=True)
        packed = served.texts.apply(archive)
        files = self.object("files", _files(packed, served.expires), [namespace])
        program = fetch_program(images(site.lab), str(settings.arm64_loader or ""))
        texts = {"dnsmasq.conf": served.conf, "fetch.sh": program, "serve.sh": SERVE}
        named = {"name": "program", "namespace": NAMESPACE}
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": texts}
        made = self.object("program", config, [namespace])
        mark = pulumi.Output.unsecret(packed.apply(lambda text: _mark({**texts, "files": text})))
        self.object("deployment", pod(settings.node, f"{settings.address}:{settings.port}", mark), [files, made])
        self.register_outputs({})


def archive(files: Mapping[str, str]) -> str:
    """All files as one tar.gz in base64: a Secret's own keys have no folders, and would show the paths of configs.

    Raises:
        UserError: it is too large for a Secret.
    """
    packed = io.BytesIO()
    # Without times, so that the same files make the same archive.
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w") as tar,
    ):
        for path, text in sorted(files.items()):
            content = text.encode()
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    if len(packed.getvalue()) > LIMIT_BYTES:
        raise UserError("pools: their scripts and configs do not fit into a Secret of a MiB; make the ranges shorter")
    return base64.b64encode(packed.getvalue()).decode()


def _files(packed: pulumi.Output[str], expires: pulumi.Output[str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": "files", "namespace": NAMESPACE},
        "data": {"files.tgz": packed},
        "stringData": {"expires": expires},
    }


def fetch_program(listed: list[dict[str, str]], arm64_loader: str = "") -> str:
    """What the pod begins with: the given files in their places, and every image that is not there yet."""
    lines = [FETCH]
    for image in listed:
        folder = f"/state/images/{image['name']}"
        lines.append(f"mkdir -p {folder}\n")
        sources = ((key, image[key], image.get(f"{key}_sha256", "")) for key in ("kernel", "initramfs"))
        lines += [f"get '{url}' {folder}/{key} {sha256}".rstrip() + "\n" for key, url, sha256 in sources]
    if arm64_loader:
        lines.append(f"get '{arm64_loader}' /state/tftp/{ARM64_LOADER}\n")
    return "".join(lines)


def pod(node: str, address: str, mark: Any) -> Object:
    """The Deployment: one pod on one node, in the node's network, as DHCP's broadcasts reach no other.

    Args:
        node: that it runs on.
        address: `ADDRESS:PORT` of the HTTP server.
        mark: changes with what the pod reads when it starts.
    """
    fetch = Container(
        "fetch",
        NETBOOT["dnsmasq"],
        {"cpu": "50m", "memory": "64Mi"},
        command=["sh", f"{_PROGRAM}/fetch.sh"],
        mounts={_STATE: "state", _PROGRAM: "program"},
        root=True,
    )
    http = Container(
        "http",
        NETBOOT["http"],
        {"cpu": "25m", "memory": "32Mi"},
        command=["sh", f"{_PROGRAM}/serve.sh", address],
        mounts={
            _GIVEN: "files",
            _WWW: "www",
            f"{_WWW}/images": "state/images",
            f"{_WWW}/tftp": "state/tftp",
            _PROGRAM: "program",
        },
    )
    dhcp = Container(
        "dnsmasq",
        NETBOOT["dnsmasq"],
        {"cpu": "25m", "memory": "32Mi"},
        args=["-k", "--user=root", "-C", f"{_PROGRAM}/dnsmasq.conf", "--dhcp-leasefile=/state/leases/dnsmasq.leases"],
        mounts={_PROGRAM: "program", _STATE: "state", _TFTP: "state/tftp"},
        capabilities=("NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"),
        root=True,
    )
    made = deployment(
        NAME,
        NAMESPACE,
        [dhcp, http],
        user=USER,
        never_two=True,
        init=[fetch],
        volumes=[
            {"name": "files", "secret": {"secretName": "files"}},
            {"name": "program", "configMap": {"name": "program"}},
            {"name": "www", "emptyDir": {"medium": "Memory"}},
            {"name": "state", "hostPath": {"path": KEPT, "type": "DirectoryOrCreate"}},
        ],
        annotations={
            CHECKSUM: mark,
            ROOT_REASON: "dnsmasq opens raw sockets and ports below 1024 in the node's network",
        },
    )
    spec = made["spec"]["template"]["spec"]
    spec |= {
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "nodeSelector": {"kubernetes.io/hostname": node},
        "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
    }
    return made


def _mark(texts: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode()).hexdigest()[:16]
