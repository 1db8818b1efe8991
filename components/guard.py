"""A password in front of a page that has none of its own."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from components.manifest import Manifest
from components.part import Part
from components.workload import secret

USER = "admin"
MIDDLEWARES = "traefik.ingress.kubernetes.io/router.middlewares"


@dataclass(frozen=True)
class Guard:
    """What an Ingress needs to be behind a password.

    Attributes:
        annotations: for the Ingress.
        password: the generated one, of the user `admin`.
        resources: what the Ingress comes after.
    """

    annotations: dict[str, str]
    password: pulumi.Output[str]
    resources: tuple[pulumi.Resource, ...]


def guard(part: Part, namespace: str, within: Manifest) -> Guard:
    """A generated password, and the middleware of Traefik that asks for it.

    Args:
        part: whose page it is.
        namespace: of the page's Ingress; a middleware of another one is not allowed.
        within: the namespace itself.
    """
    name = f"{part.name}-login"
    password = part.password()
    line = password.bcrypt_hash.apply(lambda hashed: f"{USER}:{hashed}")
    users = part.object("users", secret(name, namespace, {"users": line}), [within])
    middleware = {
        "apiVersion": "traefik.io/v1alpha1",
        "kind": "Middleware",
        "metadata": {"name": name, "namespace": namespace},
        # The page behind it has no use for the header, and some take it for a login of their own.
        "spec": {"basicAuth": {"secret": name, "realm": part.name, "removeHeader": True}},
    }
    asks = part.object("middleware", middleware, [users])
    return Guard({MIDDLEWARES: f"{namespace}-{name}@kubernetescrd"}, password.result, (asks,))
