"""The definitions of kinds (CRDs) in a chart's folder `crds/`: applied as they are, and left when the chart goes.

Helm installs that folder once and never again, so a chart's next version meets yesterday's kinds. As resources of the
engine they would be deleted with their chart, and every object of those kinds with them, other parts' too; and state
holds each three times: those of Prometheus alone would be larger than all the rest.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi
import yaml
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from providers import pace
from providers.deadline import Deadline
from providers.dynamic import Props, Provider, lazily, packed
from providers.engine import Reporter
from providers.errors import ProtocolError, UnreachableError

if TYPE_CHECKING:
    from providers.kubernetes import client
else:
    client = lazily("providers.kubernetes.client")

APPLY_S = 180.0
MANAGER = "homelab"
_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_MEMBER = re.compile(r"[^/]+/(charts/[^/]+/)*crds/.+\.ya?ml")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # one of two classes
    """YAML in which a bare `=` is a text, as Kubernetes reads it: an operator of Prometheus' kinds."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def has_definitions(archive: Path) -> bool:
    """Whether a chart, or one inside it, brings definitions.

    Raises:
        ProtocolError: the file is no chart's archive.
    """
    with _opened(archive) as tar:
        return any(_MEMBER.fullmatch(member.name) for member in tar)


def digest(archive: Path) -> str:
    """What tells one chart's definitions from another's: the archive's SHA-256."""
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def definitions(archive: Path) -> Iterator[Mapping[str, Any]]:
    """Every CRD of a chart's archive.

    Raises:
        ProtocolError: the folder holds something else.
    """
    with _opened(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if _MEMBER.fullmatch(member.name) else None
            for found in yaml.load_all(file, _Loader) if file else ():
                if found is not None:
                    yield _checked(found, f"{archive}: {member.name}")


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive) as tar:
            yield tar
    except (tarfile.TarError, EOFError, OSError, yaml.YAMLError) as error:
        raise ProtocolError(f"{archive}: can't be read as the archive of a chart ({error}); delete it") from error


def _checked(found: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(found, dict) or found.get("kind") != "CustomResourceDefinition":
        raise ProtocolError(f"{where}: holds something that is no CustomResourceDefinition")
    return found


def apply(props: Mapping[str, Any], report: Reporter, seconds: float = APPLY_S) -> list[str]:
    """Apply the definitions of `archive`, wait until the API serves their kinds, and give their names.

    Raises:
        DeadlineError: a kind is not served in time, or the API was away for all of it.
        RefusedError: the API server takes one for wrong.
    """
    deadline, found = Deadline(seconds), list(definitions(Path(props["archive"])))
    with client.Kube(props["kubeconfig"]) as kube:
        for definition in found:
            report.progress(_name(definition))
            _apply(kube, definition, deadline)
        for definition in found:
            _wait_served(kube, definition, deadline)
    return [_name(definition) for definition in found]


def _name(definition: Mapping[str, Any]) -> str:
    return str(definition["metadata"]["name"])


def _apply(kube: client.Kube, definition: Mapping[str, Any], deadline: Deadline) -> None:
    path, what = f"{_PATH}/{_name(definition)}", f"{_name(definition)}: applied"
    kube.patiently(lambda: kube.apply(path, definition, MANAGER), what, deadline)


def _wait_served(kube: client.Kube, definition: Mapping[str, Any], deadline: Deadline) -> None:
    """Ask for objects of the kind: a definition is established a moment before its storage answers."""
    spec = definition["spec"]
    version = next(version["name"] for version in spec["versions"] if version.get("served", True))
    path = f"/apis/{spec['group']}/{version}/{spec['names']['plural']}?limit=1"
    kube.patiently(lambda: kube.look(path), f"{_name(definition)}: served", deadline)


def are_there(props: Mapping[str, Any]) -> bool:
    """Whether the cluster still has all of `names`; one that can't be asked is taken to have them."""
    try:
        with client.Kube(props["kubeconfig"]) as kube:
            return all(kube.look(f"{_PATH}/{name}") is not None for name in props["names"])
    except UnreachableError:
        return True


class DefinitionsProvider(Provider):
    """Applies a chart's definitions when the chart changes; deleting it leaves them."""

    inputs = ("chart", "digest")
    memos = ("archive", "kubeconfig")

    def create(self, props: Props) -> CreateResult:
        """Apply them all."""
        names = apply(props, Reporter(), pace.limit(APPLY_S))
        return CreateResult(str(props["chart"]), self.stored(props, names=names))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Apply them all."""
        return UpdateResult(self.stored(news, names=apply(news, Reporter(), pace.limit(APPLY_S))))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Gone when one of them is."""
        return ReadResult(id_, props) if are_there(props) else ReadResult("", {})


class Definitions(Resource, module="kubernetes", name="Definitions"):
    """A chart's CRDs: what makes objects of their kinds comes after it."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(DefinitionsProvider(), name, packed(props), opts)
