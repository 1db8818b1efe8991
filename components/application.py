"""A service of the household: an image with a port, a host name, and perhaps a volume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
from pydantic import SecretStr

from components import storage
from components.ingress import ingress
from components.metallb import addressed
from components.part import Part, Site
from components.policy import Door, policy
from components.traefik import NAMESPACE as TRAEFIK
from components.workload import CHECKSUM, HTTP_PORT, Container, Port, checksum, claim, deployment, env, secret, service
from settings.applications import Application as Settings
from settings.applications import Volume

DATA = "data"
DOCKER_HUB = "docker.io"
DOCKER_HUB_KEY = "https://index.docker.io/v1/"  # what Docker Hub is called in a file of logins, for ever


class Application(Part):
    """A Deployment, its Service, its Ingress, its volume, in a namespace of its own: all named like the application.

    Args:
        site: where it is built.
        name: of the application.
        settings: with an image and a port.
    """

    def __init__(self, site: Site, name: str, settings: Settings) -> None:
        super().__init__(name, site)
        self._settings = settings
        namespace = self.namespace(name)
        needs = [namespace, *self._secrets(namespace), *self._volume(namespace)]
        pods = self.object("deployment", self._deployment(), needs)
        port = Port("http", _port(settings), HTTP_PORT)
        has_address = site.lab.platform.address(name) is not None
        manifest = service(name, name, [port], lan=has_address, annotations=addressed(site, name))
        front = self.object("service", manifest, [namespace])
        policy(self, name, name, [Door(port, None if has_address else TRAEFIK)], [namespace])
        ingress(self, site.lab.platform.host(name), name, name, HTTP_PORT, depends_on=[front, pods])
        self.register_outputs({})

    def _secrets(self, namespace: pulumi.Resource) -> list[pulumi.Resource]:
        made: list[pulumi.Resource] = []
        if self._settings.pull_secret:
            made.append(self.object("login", self._login(self._settings.pull_secret), [namespace]))
        hidden = _hidden(self._settings.env)
        if hidden:
            texts = {key: pulumi.Output.secret(value) for key, value in hidden.items()}
            made.append(self.object("env", secret("env", self.name, texts), [namespace]))
        return made

    def _login(self, host: str) -> dict[str, Any]:
        """The login of `cluster.registries.credentials`, as the kubelet reads it."""
        given = self.site.lab.cluster.registries.credentials[host]
        password = given.password.get_secret_value() if given.password is not None else ""
        login = {"username": given.username, "password": password}
        key = DOCKER_HUB_KEY if host == DOCKER_HUB else host
        text = pulumi.Output.secret(json.dumps({"auths": {key: login}}))
        return secret("login", self.name, {".dockerconfigjson": text}, "kubernetes.io/dockerconfigjson")

    def _volume(self, namespace: pulumi.Resource) -> list[pulumi.Resource]:
        volume = self._settings.volume
        if volume is None:
            return []
        shared = self._is_shared(volume)
        return [
            self.object(
                "volume", claim(DATA, self.name, volume.size_gb, volume.storage_class, shared=shared), [namespace]
            )
        ]

    def _is_shared(self, volume: Volume) -> bool:
        return not self._settings.single_writer and storage.is_shared(self.site.lab, volume.storage_class)

    def _deployment(self) -> dict[str, Any]:
        settings, volume = self._settings, self._settings.volume
        return deployment(
            self.name,
            self.name,
            [self._container()],
            user=settings.user,
            replicas=settings.replicas,
            # A volume that one node alone may mount would keep the new pod waiting for the old one, for ever.
            never_two=settings.single_writer or (volume is not None and not self._is_shared(volume)),
            volumes=[{"name": DATA, "persistentVolumeClaim": {"claimName": DATA}}] if volume else [],
            pull_secrets=["login"] if settings.pull_secret else [],
            annotations=_env_checksum(settings.env),
        )

    def _container(self) -> Container:
        settings = self._settings
        return Container(
            name="main",
            image=settings.image,
            requests={"cpu": settings.requests.cpu, "memory": settings.requests.memory},
            ports=[Port("http", _port(settings), HTTP_PORT)],
            probe=_port(settings),
            mounts={settings.volume.path: DATA} if settings.volume else {},
            env=_variables(settings.env),
        )


def _port(settings: Settings) -> int:
    return settings.port or HTTP_PORT  # the settings' checks ask for one


def _hidden(given: Mapping[str, Any]) -> dict[str, str]:
    return {key: value.get_secret_value() for key, value in given.items() if isinstance(value, SecretStr)}


def _variables(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    plain = {key: str(value) for key, value in given.items() if not isinstance(value, SecretStr)}
    named = [{"name": key, "valueFrom": {"secretKeyRef": {"name": "env", "key": key}}} for key in _hidden(given)]
    return [*env(plain), *named]


def _env_checksum(given: Mapping[str, Any]) -> dict[str, str]:
    """A pod reads its secret variables once, so another one must take its place when they change."""
    hidden = _hidden(given)
    return {CHECKSUM: checksum(json.dumps(hidden, sort_keys=True))} if hidden else {}
