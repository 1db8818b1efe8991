"""Every version that the toolchain pins, and how long each takes to build.

The Go modules behind a tool, with the checksum of each, are in `tools/go/NAME/go.mod` and `go.sum`. A tool's key is
the hash of its whole recipe, so that a changed pin builds anew and an unchanged one never does.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass, field
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
KUBERNETES_PLUGIN = "4.25.0"
RANDOM_PLUGIN = "4.21.4"
HELM = "3.18.6"
PROMTOOL = "3.10.0"
ACTIONLINT = "1.7.12"

# No cgo: nothing but Go is needed to build, and the programs run on any libc. No symbol tables: half the size.
GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false", "GOWORK": "off"}
GO_LINKER = "-s -w"


@dataclass(frozen=True)
class GoBuild:
    """One `go build` in a folder of `tools/go`.

    `programs` are the commands that it leaves, `unoptimised` are packages of much generated code that no hot path
    goes through: they compile faster without the optimiser. `tags` are Go's build tags.
    """

    folder: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    set_variables: tuple[str, ...] = ()
    unoptimised: tuple[str, ...] = ()
    tags: tuple[str, ...] = field(default=(), repr=False)  # a key holds them only where there are any


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
class OwnScript:
    """A script of the project's, taken as it is. `source` is its path in the checkout."""

    program: str
    source: str


@dataclass(frozen=True)
class Release:
    """The official archive, which is taken rather than built where it can be fetched.

    `folder` is the URL that holds `archive` and the list `checksums`; `inside` is the folder of the programs within
    the archive. `{system}` and `{architecture}` are filled in; `architectures` are its words for x86-64 and ARM.
    """

    folder: str
    archive: str
    checksums: str
    inside: str
    architectures: tuple[str, str]


@dataclass(frozen=True)
class Tool:
    """Programs that are built, kept and replaced together.

    `minutes` is what the build took on two cores with nothing in Go's caches, downloads included: measured, and shown
    to whoever waits. `embedded` are files out of modules that its first package embeds; `own` are scripts of this
    project's that take the programs' place where there is no release.
    """

    name: str
    title: str
    version: str
    minutes: float
    builds: tuple[GoBuild, ...]
    scripts: tuple[ModuleFile, ...] = ()
    embedded: tuple[ModuleFile, ...] = ()
    own: tuple[OwnScript, ...] = ()
    release: Release | None = None

    @property
    def programs(self) -> tuple[str, ...]:
        """What its `bin` folder holds when it is complete."""
        built = tuple(name for build in self.builds for name in build.programs)
        return (*built, *(script.program for script in self.scripts), *(script.program for script in self.own))


_SDK = "github.com/pulumi/pulumi/sdk/v3"
_PULUMI_VERSION = f"{_SDK}/go/common/version.Version=v{PULUMI}"
_KUBE_VERSION = "k8s.io/component-base/version"
_KUBERNETES_PROVIDER = "github.com/pulumi/pulumi-kubernetes/provider/v4"


def _plugin_release(name: str, version: str) -> Release:
    return Release(
        folder=f"https://github.com/pulumi/pulumi-{name}/releases/download/v{version}",
        archive=f"pulumi-resource-{name}-v{version}-{{system}}-{{architecture}}.tar.gz",
        checksums=f"pulumi-{name}_{version}_checksums.txt",
        inside="",
        architectures=("amd64", "arm64"),
    )


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
    release=Release(
        folder=f"https://github.com/pulumi/pulumi/releases/download/v{PULUMI}",
        archive=f"pulumi-v{PULUMI}-{{system}}-{{architecture}}.tar.gz",
        checksums=f"pulumi-{PULUMI}-checksums.txt",
        inside="pulumi/",
        architectures=("x64", "arm64"),
    ),
)

KUBERNETES_PROVIDER = Tool(
    name="resource-kubernetes",
    title="Pulumi's Kubernetes plugin",
    version=KUBERNETES_PLUGIN,
    minutes=8.0,
    builds=(
        GoBuild(
            folder="kubernetes",
            packages=("./pulumi-resource-kubernetes",),
            programs=("pulumi-resource-kubernetes",),
            set_variables=(f"{_KUBERNETES_PROVIDER}/pkg/version.Version={KUBERNETES_PLUGIN}",),
            unoptimised=(
                "github.com/pulumi/pulumi-kubernetes/sdk/v4/...",
                "k8s.io/client-go/informers/...",
                "k8s.io/client-go/listers/...",
                "k8s.io/client-go/applyconfigurations/...",
                "k8s.io/client-go/kubernetes/...",
            ),
        ),
    ),
    embedded=(
        ModuleFile("kubernetes", _KUBERNETES_PROVIDER, "cmd/pulumi-resource-kubernetes/schema.json"),
        ModuleFile("kubernetes", _KUBERNETES_PROVIDER, "cmd/pulumi-resource-kubernetes/terraform-mapping.json"),
    ),
    release=_plugin_release("kubernetes", KUBERNETES_PLUGIN),
)

RANDOM_PROVIDER = Tool(
    name="resource-random",
    title="Pulumi's random plugin",
    version=RANDOM_PLUGIN,
    minutes=0.1,
    builds=(),
    own=(OwnScript("pulumi-resource-random", "tools/plugins/resource_random.py"),),
    release=_plugin_release("random", RANDOM_PLUGIN),
)

PLUGINS = (KUBERNETES_PROVIDER, RANDOM_PROVIDER)

_KUBE_UNOPTIMISED = (
    "k8s.io/client-go/applyconfigurations/...",
    "k8s.io/client-go/informers/...",
    "k8s.io/client-go/kubernetes/...",
    "k8s.io/client-go/listers/...",
    "k8s.io/kubernetes/pkg/generated/...",
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
            unoptimised=_KUBE_UNOPTIMISED,
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

KUBEADM = Tool(
    name="kubeadm",
    title="kubeadm, for tests only",
    version=KUBERNETES,
    minutes=2.0,
    builds=(
        GoBuild(
            folder="kubeadm",
            packages=("k8s.io/kubernetes/cmd/kubeadm",),
            programs=("kubeadm",),
            set_variables=(
                f"{_KUBE_VERSION}.gitVersion=v{KUBERNETES}",
                f"{_KUBE_VERSION}.gitMajor=1",
                f"{_KUBE_VERSION}.gitMinor=36",
            ),
            unoptimised=_KUBE_UNOPTIMISED,  # as the servers, whose compiled packages it shares
        ),
    ),
)

HELM_CLIENT = Tool(
    name="helm",
    title="Helm, for tests only",
    version=HELM,
    minutes=3.0,
    builds=(
        GoBuild(
            folder="helm",
            packages=("helm.sh/helm/v3/cmd/helm",),
            programs=("helm",),
            set_variables=(
                f"helm.sh/helm/v3/internal/version.version=v{HELM}",
                # What `helm template` takes the cluster for; the code says 1.20, which today's charts refuse.
                "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
                "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=36",
                "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1",
                "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=36",
            ),
            unoptimised=("k8s.io/api/...", "k8s.io/client-go/...", "k8s.io/kubectl/...", "sigs.k8s.io/kustomize/..."),
        ),
    ),
)

PROMETHEUS_CLIENT = Tool(
    name="promtool",
    title="promtool, for tests only",
    version=PROMTOOL,
    minutes=3.0,
    builds=(
        GoBuild(
            folder="promtool",
            packages=("github.com/prometheus/prometheus/cmd/promtool",),
            programs=("promtool",),
            set_variables=(f"github.com/prometheus/common/version.Version={PROMTOOL}",),
            unoptimised=("k8s.io/...", "sigs.k8s.io/...", "go.opentelemetry.io/..."),
            tags=("remove_all_sd",),
        ),
    ),
)

WORKFLOW_LINTER = Tool(
    name="actionlint",
    title="actionlint, for tests only",
    version=ACTIONLINT,
    minutes=1.0,
    builds=(
        GoBuild(
            folder="actionlint",
            packages=("github.com/rhysd/actionlint/cmd/actionlint",),
            programs=("actionlint",),
            set_variables=(f"github.com/rhysd/actionlint.version={ACTIONLINT}",),
        ),
    ),
)

TEST_TOOLS = (TALOS_CLIENT, KUBEADM, HELM_CLIENT, PROMETHEUS_CLIENT, WORKFLOW_LINTER)


def key(tool: Tool, modules: Path = GO_MODULES) -> str:
    """The first 12 hex digits of the hash of everything that decides what the tool's programs are.

    How long it takes, what it is called to people and where a release would be are left out: a better estimate
    rebuilds nothing.
    """
    digest = hashlib.sha256()
    machine = (platform.system(), platform.machine(), GO_ENVIRONMENT, GO_LINKER)
    digest.update(repr((tool.name, tool.version, tool.builds, tool.scripts, machine)).encode())
    for folder in sorted({build.folder for build in tool.builds}):
        for path in sorted((modules / folder).rglob("*")):
            if path.is_file():
                digest.update(f"\n{path.relative_to(modules).as_posix()}\n".encode() + path.read_bytes())
    for later in (*tool.embedded, *(build.tags for build in tool.builds if build.tags)):
        digest.update(repr(later).encode())
    for script in tool.own:
        digest.update(f"\n{script.program}\n".encode() + (ROOT / script.source).read_bytes())
    return digest.hexdigest()[:12]
