"""What every part of the platform has in common: its place in the graph, its namespace, its chart, its password."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.helm.v4 import Chart, ChartArgs
from pulumi_random import RandomPassword
from pydantic import SecretStr

from components.after import after
from components.manifest import Manifest
from components.versions import CHARTS
from providers.charts import Library
from providers.kubernetes.definitions import Definitions, digest, has_definitions
from providers.talos.resources import Cluster
from settings import Settings

PASSWORD_LENGTH = 24
POD_SECURITY = tuple(f"pod-security.kubernetes.io/{mode}" for mode in ("enforce", "audit", "warn"))

R = TypeVar("R", bound=pulumi.Resource)


class Overrides(Protocol):
    """What the settings may change of a chart."""

    @property
    def version(self) -> str | None:
        """The chart's version, or None for the tested one."""

    @property
    def values(self) -> Mapping[str, Any]:
        """Values merged over the part's own."""


@dataclass(frozen=True)
class Site:
    """Where a part is built.

    Attributes:
        cluster: when it goes, its parts need no removal of their own.
        provider: what talks to the cluster's API.
        charts: where archives of charts are.
        ready: what must exist before a part begins: the nodes' memberships, and other parts' resources. It orders, and
            records no dependency.
    """

    lab: Settings
    cluster: Cluster
    provider: kubernetes.Provider
    charts: Library
    ready: tuple[pulumi.Resource, ...] = ()

    def behind(self, *parts: Part | None) -> Site:
        """The same site, for a part that begins when all of `parts` are there; None stands for one that is off."""
        return replace(self, ready=(*self.ready, *(made for part in parts if part is not None for made in part.made)))


class Part(pulumi.ComponentResource):
    """A part of the platform, removable alone: it takes its children with it and no other part.

    Its resources are made by the methods below, which name them `<part>-<suffix>`. Inside a part they may depend on
    each other; what comes from outside goes through `Site.behind`.

    Attributes:
        made: the resources that those behind this part wait for.
        logins: passwords and tokens that people need, by name (`<part>-password`), for the output of that name.
    """

    def __init__(self, name: str, site: Site, overrides: Overrides | None = None) -> None:
        super().__init__(f"homelab:{type(self).__name__}", name)
        self.name = name
        self.site = site
        self.made: list[pulumi.Resource] = []
        self.logins: dict[str, pulumi.Input[str]] = {}
        self._overrides = overrides

    def child(self, depends_on: Sequence[pulumi.Resource] = (), **more: Any) -> pulumi.ResourceOptions:
        """The options of every child."""
        return pulumi.ResourceOptions(parent=self, deleted_with=self.site.cluster, depends_on=list(depends_on), **more)

    def options(self, depends_on: Sequence[pulumi.Resource] = (), **more: Any) -> pulumi.ResourceOptions:
        """The options of a child that is in the cluster."""
        return self.child(depends_on, provider=self.site.provider, **more)

    def keep(self, resource: R) -> R:
        """Note a child that was made in another way, so that those behind this part wait for it."""
        self.made.append(resource)
        return resource

    def namespace(self, name: str, *, privileged: bool = False) -> Manifest:
        """The part's namespace; it is made when the site is ready, so all else of the part should depend on it.

        Args:
            name: the namespace.
            privileged: whether pods may use the host: its network, its paths. Talos allows that nowhere by default.
        """
        labels = {"labels": dict.fromkeys(POD_SECURITY, "privileged")} if privileged else {}
        metadata = {"name": after(name, *self.site.ready), **labels}
        return self.object("namespace", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def object(
        self, suffix: str, manifest: Mapping[str, Any], depends_on: Sequence[pulumi.Resource] = (), **more: Any
    ) -> Manifest:
        """One Kubernetes object, as it stands in YAML."""
        return self.keep(Manifest(f"{self.name}-{suffix}", manifest, self.options(depends_on, **more)))

    def chart(
        self,
        chart: str,
        namespace: str,
        values: Mapping[str, Any],
        depends_on: Sequence[pulumi.Resource] = (),
        *,
        main: bool = True,
        skip_await: bool = False,
    ) -> Chart:
        """A chart's objects, as the release `chart` in `namespace`.

        Args:
            chart: its name in `components.versions.CHARTS`.
            namespace: of the release.
            values: ours; the settings' are merged over them, last.
            depends_on: what must be there before.
            main: whether the settings' version and values are this chart's.
            skip_await: do not wait until its pods run.
        """
        overrides = self._overrides if main else None
        archive, name = self.archive(chart, main=main), f"{self.name}-chart" if main else f"{self.name}-{chart}"
        kinds = self._definitions(chart, archive, depends_on)
        arguments = ChartArgs(
            chart=archive,
            name=chart,
            namespace=self._once_known(after(namespace, *self.site.ready)),
            values=merged(values, opened(overrides.values) if overrides else {}),
            skip_await=skip_await,
            skip_crds=bool(kinds),
        )
        return self.keep(Chart(name, arguments, self.options([*depends_on, *kinds])))

    def _once_known(self, namespace: Awaitable[str]) -> pulumi.Output[str]:
        """The namespace, in a preview unknown until the kinds that the part brings are in the cluster.

        A chart is drawn with the cluster's help, and objects of unknown kinds fail it: with an unknown input it is
        listed as one line instead.
        """
        kinds = [made.id for made in self.made if isinstance(made, Definitions)]
        return pulumi.Output.all(namespace, *kinds).apply(lambda known: str(known[0]))

    def _definitions(self, chart: str, archive: str, depends_on: Sequence[pulumi.Resource]) -> list[Definitions]:
        """The kinds that a chart brings apart from its objects, if it does."""
        if not has_definitions(Path(archive)):
            return []
        props = {
            "chart": chart,
            "digest": digest(Path(archive)),
            "archive": after(archive, *self.site.ready),
            "kubeconfig": self.site.cluster.kubeconfig,
        }
        return [self.keep(Definitions(f"{self.name}-{chart}-kinds", props, self.child(depends_on)))]

    def archive(self, chart: str, *, main: bool = True) -> str:
        """The relative path of a chart's archive on this machine; fetched if it isn't there."""
        source = CHARTS[chart]
        version = self._overrides.version if main and self._overrides else None
        return self.site.charts.archive(source.repo, chart, version or source.version)

    def password(self, suffix: str = "password") -> RandomPassword:
        """A password of letters and digits that stays the same until the part is removed.

        `result` is its text, `bcrypt_hash` what a login compares with; both are Pulumi secrets.
        """
        return RandomPassword(f"{self.name}-{suffix}", length=PASSWORD_LENGTH, special=False, opts=self.child())


def requests(cpu: str, memory: str) -> dict[str, dict[str, str]]:
    """The `resources` of a container that is sure to get so much, and may take more."""
    return {"requests": {"cpu": cpu, "memory": memory}}


def opened(values: Any) -> Any:
    """Values of the settings, with the encrypted ones as Pulumi secrets."""
    if isinstance(values, SecretStr):
        return pulumi.Output.secret(values.get_secret_value())
    if isinstance(values, Mapping):
        return {key: opened(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [opened(value) for value in values]
    return values


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Values like Helm merges them: maps key by key, all else is replaced."""
    both = {key for key in base if key in over and isinstance(base[key], Mapping) and isinstance(over[key], Mapping)}
    return {**base, **over, **{key: merged(base[key], over[key]) for key in both}}
