"""Every version that the toolchain pins, and how long each takes to build.

The Go modules behind a tool, with the checksum of each, are in `tools/go/NAME/go.mod` and `go.sum`. A tool's key is
the hash of its whole recipe, so that a changed pin builds anew and an unchanged one never does.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GO_MODULES = ROOT / "tools" / "go"

PYTHON = (3, 11)
GO = (1, 26)  # asked for by k8s.io/kubernetes
PULUMI = "3.232.0"
LANGUAGE_HOST = "3.79.0"  # the last release that holds it in the sdk's module; it runs under the engine above
KUBERNETES = "1.36.1"
ETCD = "3.6.16"
KWOK = "0.8.0"
TALOSCTL = "1.12.0"

# No cgo: nothing but Go is needed to build, and the programs run on any libc. No symbol tables: half the size.
GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false", "GOWORK": "off"}
GO_LINKER = "-s -w"


@dataclass(frozen=True)
class GoBuild:
    """One `go build` in a folder of `tools/go`.

    `programs` are the commands that it leaves, `unoptimised` are packages of much generated code that no hot path
    goes through: they compile faster without the optimiser.
    """

    folder: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    set_variables: tuple[str, ...] = ()
    unoptimised: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModuleFile:
    """A script that is taken as it is out of a Go module. `source` is its path inside the module."""

    folder: str
    module: str
    source: str

    @property
    def program(self) -> str:
        """The name it is run by."""
        return self.source.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Tool:
    """Programs that are built, kept and replaced together.

    `minutes` is what the build took on two cores with nothing in Go's caches, downloads included: measured, and shown
    to whoever waits.
    """

    name: str
    title: str
    version: str
    minutes: float
    builds: tuple[GoBuild, ...]
    scripts: tuple[ModuleFile, ...] = ()

    @property
    def programs(self) -> tuple[str, ...]:
        """What its `bin` folder holds when it is complete."""
        built = tuple(name for build in self.builds for name in build.programs)
        return built + tuple(script.program for script in self.scripts)


_SDK = "github.com/pulumi/pulumi/sdk/v3"
_PULUMI_VERSION = f"{_SDK}/go/common/version.Version=v{PULUMI}"
_KUBE_VERSION = "k8s.io/component-base/version"

ENGINE = Tool(
    name="pulumi",
    title="Pulumi engine",
    version=PULUMI,
    minutes=4.0,
    builds=(
        GoBuild(
            folder="pulumi",
            packages=("github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",),
            programs=("pulumi",),
            set_variables=(_PULUMI_VERSION,),
            unoptimised=(
                "github.com/aws/...",
                "github.com/Azure/...",
                "google.golang.org/api/...",
                "cloud.google.com/...",
                "github.com/alecthomas/chroma/...",
            ),
        ),
        GoBuild(
            folder="language",
            packages=(f"{_SDK}/python/cmd/pulumi-language-python",),
            programs=("pulumi-language-python",),
            set_variables=(_PULUMI_VERSION,),
        ),
    ),
    scripts=(
        ModuleFile("pulumi", _SDK, "python/cmd/pulumi-language-python-exec"),
        ModuleFile("pulumi", _SDK, "python/dist/pulumi-resource-pulumi-python"),
    ),
)

SERVERS = Tool(
    name="servers",
    title="Kubernetes, etcd and kwok for the twin",
    version=KUBERNETES,
    minutes=7.0,
    builds=(
        GoBuild(
            folder="servers",
            packages=(
                "k8s.io/kubernetes/cmd/kube-apiserver",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-scheduler",
                "sigs.k8s.io/kwok/cmd/kwok",
                "go.etcd.io/etcd/etcdctl/v3",
                "go.etcd.io/etcd/etcdutl/v3",
                "./etcd",
            ),
            programs=(
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kwok",
                "etcdctl",
                "etcdutl",
                "etcd",
            ),
            set_variables=(
                f"{_KUBE_VERSION}.gitVersion=v{KUBERNETES}",
                f"{_KUBE_VERSION}.gitMajor=1",
                f"{_KUBE_VERSION}.gitMinor=36",
                f"sigs.k8s.io/kwok/pkg/consts.Version=v{KWOK}",
            ),
            unoptimised=(
                "k8s.io/client-go/applyconfigurations/...",
                "k8s.io/client-go/informers/...",
                "k8s.io/client-go/kubernetes/...",
                "k8s.io/client-go/listers/...",
                "k8s.io/kubernetes/pkg/generated/...",
            ),
        ),
    ),
)

TALOS_CLIENT = Tool(
    name="talosctl",
    title="talosctl, for tests only",
    version=TALOSCTL,
    minutes=3.0,
    builds=(
        GoBuild(
            folder="talosctl",
            packages=("github.com/siderolabs/talos/cmd/talosctl",),
            programs=("talosctl",),
            set_variables=(f"github.com/siderolabs/talos/pkg/machinery/version.Tag=v{TALOSCTL}",),
            unoptimised=("github.com/...", "go.etcd.io/...", "k8s.io/...", "sigs.k8s.io/..."),
        ),
    ),
)


def key(tool: Tool, modules: Path = GO_MODULES) -> str:
    """The first 12 hex digits of the hash of everything that decides what the tool's programs are.

    How long it takes and what it is called to people are left out: a better estimate rebuilds nothing.
    """
    digest = hashlib.sha256()
    machine = (platform.system(), platform.machine(), GO_ENVIRONMENT, GO_LINKER)
    digest.update(repr((tool.name, tool.version, tool.builds, tool.scripts, machine)).encode())
    for folder in sorted({build.folder for build in tool.builds}):
        for path in sorted((modules / folder).rglob("*")):
            if path.is_file():
                digest.update(f"\n{path.relative_to(modules).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
