"""A lab with every part on, and what the program would ask the engine for: each resource with its inputs."""

from __future__ import annotations

import asyncio
import atexit
import base64
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import pulumi
import yaml
from pulumi.runtime import resource as sdk

from components.part import Site
from components.platform import _provider, _services
from providers.charts import Library
from providers.talos.resources import Cluster
from providers.talos.secrets import SecretsBundle
from providers.talos.wire import pack
from settings import Settings, from_values

ROOT = Path(__file__).parents[2]
BUNDLE = pack(SecretsBundle.generate())
LOOP = asyncio.new_event_loop()  # the SDK wants one
atexit.register(LOOP.close)
PASSWORD, DIGEST = "generated", "$2a$10$generated"

EVERYTHING: dict[str, Any] = {
    "domain": "local",
    "pools": ["192.168.1.200-192.168.1.250"],
    "addresses": {
        "traefik": "192.168.1.234",
        "dns": "192.168.1.240",
        "dns-zone": "192.168.1.249",
        "torrent": "192.168.1.245",
    },
    "metallb": {},
    "metrics_server": {},
    "cert_manager": {},
    "traefik": {},
    "longhorn": {"snapshots": {"keep": 3}, "backup": "nfs://192.168.1.10:/export/longhorn"},
    "nfs": {"server": "192.168.1.10", "path": "/export"},
    "dns": {"zone": {"name": "home.example"}, "records": {"printer.local": "192.168.1.20"}},
    "monitoring": {
        "grafana_plugins": ["grafana-clock-panel 2.1.3", "grafana-piechart-panel"],
        "receivers": [
            {"name": "phone", "ntfy": {"topic": "homelab", "token": "tk_secret"}},
            {"name": "chat", "telegram": {"chat_id": -100, "token": "123:secret"}},
            {"name": "hook", "webhook": {"url": "https://hooks.home.example/secret"}},
            {
                "name": "mail",
                "mail": {
                    "to": "me@home.example",
                    "sender": "lab@home.example",
                    "smarthost": "mail.home.example:587",
                    "username": "lab",
                    "password": "mail-secret",
                },
            },
        ],
    },
    "headlamp": {},
    "etcd_backup": {},
    "applications": {
        "torrent": {"torrent": {"port": 23340, "storage_gb": 500}},
        "web": {"image": "nginxinc/nginx-unprivileged:1.29.1", "port": 8080},
    },
}


def lab(change: Mapping[str, Any] | None = None, **cluster: Any) -> Settings:
    """The owner's example lab with everything on, but for `change`; a part that is None there is off."""
    config = yaml.safe_load((ROOT / "Pulumi.homelab.yaml").read_text())["config"]
    chosen = {**EVERYTHING, **(change or {})}
    if "addresses" not in (change or {}):
        chosen["addresses"] = {name: at for name, at in EVERYTHING["addresses"].items() if _declares(chosen, name)}
    config["homelab:platform"] = {key: value for key, value in chosen.items() if value is not None}
    config["homelab:cluster"].update(cluster)
    config["homelab:cluster"]["endpoint"]["vip"] = "192.168.1.30"
    for board in config["homelab:boards"].values():
        board["password"] = "turing"
    for number, node in enumerate(config["homelab:nodes"].values()):
        node["address"] = f"192.168.1.{11 + number}"
    return from_values({section: json.dumps(value) for section, value in config.items()})


def _declares(platform: Mapping[str, Any], service: str) -> bool:
    """Whether there is such a service, so that it may have an address."""
    if service == "dns-zone":
        return bool((platform["dns"] or {}).get("zone"))
    return service in platform["applications"] or platform.get(service) is not None


class Recorder(pulumi.runtime.Mocks):
    """An engine that makes everything, and writes down what."""

    def __init__(self) -> None:
        self.made: dict[str, pulumi.runtime.MockResourceArgs] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.made[args.name] = args
        outputs = dict(args.inputs)
        if args.typ.startswith("random:"):
            outputs |= {"result": PASSWORD, "bcryptHash": DIGEST}
        if args.name == "cluster":
            outputs |= {"kubeconfig": kubeconfig(), "talosconfig": talosconfig(), "bundle": "", "secrets": ""}
        return f"{args.name}-id", outputs

    def call(self, _args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], None]:
        return {}, None


class Hooks:
    """Takes what shall be called before a resource is made; the SDK's mocks of an engine have nothing that does."""

    def __init__(self) -> None:
        self.taken: list[pulumi.ResourceHook] = []

    def register_resource_hook(self, hook: pulumi.ResourceHook) -> None:
        """Note it; nobody calls it."""
        self.taken.append(hook)


HOOKS = Hooks()


async def _hooks() -> Hooks:
    return HOOKS


sdk._get_callbacks = _hooks  # type: ignore[assignment, attr-defined]  # the SDK has no setting


class Charts:
    """Archives of charts that nobody fetches: the twin's stand-ins."""

    def archive(self, repo: str, chart: str, version: str) -> str:
        return packed(chart, version)


@cache
def packed(chart: str, version: str) -> str:
    """The archive of a stand-in."""
    folder = Path(tempfile.mkdtemp(prefix="charts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / f"{chart}-{version}.tgz"
    with tarfile.open(file, "w:gz") as archive:
        archive.add(ROOT / "twin" / "charts" / chart, arcname=chart)
    return str(file)


Made = Mapping[str, pulumi.runtime.MockResourceArgs]


def build(wanted: Settings) -> Made:
    """Every resource of the platform by name."""
    recorder = Recorder()

    def program() -> None:
        cluster = Cluster("cluster", {"secrets": BUNDLE})
        list(_services(Site(wanted, cluster, _provider(cluster), library())))

    run: Any = pulumi.runtime.test  # has no types
    asyncio.set_event_loop(LOOP)  # other tests may have ended theirs
    pulumi.runtime.set_mocks(recorder, preview=False)
    run(program)()
    return recorder.made


def objects(made: Made) -> Iterator[dict[str, Any]]:
    """The Kubernetes objects among them."""
    for args in made.values():
        if args.typ.startswith("kubernetes:") and "kind" in args.inputs:
            yield cast(dict[str, Any], args.inputs)


def of_kind(made: Made, kind: str) -> dict[str, dict[str, Any]]:
    """The objects of a kind, by namespace/name."""
    return {
        f"{found['metadata'].get('namespace', '')}/{found['metadata']['name']}": found
        for found in objects(made)
        if found["kind"] == kind
    }


def pods(made: Made) -> dict[str, dict[str, Any]]:
    """The pods that our own objects make: namespace/name -> template."""
    found = {name: item["spec"]["template"] for name, item in of_kind(made, "Deployment").items()}
    jobs = of_kind(made, "CronJob").items()
    return found | {f"{name} (job)": item["spec"]["jobTemplate"]["spec"]["template"] for name, item in jobs}


def text(manifest: Mapping[str, Any], key: str) -> str:
    """What a Secret of the program's holds, in plain."""
    value = manifest["stringData"]
    value = value["value"] if "value" in value and len(value) == 2 else value  # a secret as the engine is handed it
    found = value[key]
    return str(found["value"] if isinstance(found, dict) else found)


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@cache
def kubeconfig() -> str:
    return yaml.safe_dump(
        {
            "clusters": [{"cluster": {"certificate-authority-data": coded("KUBERNETES CA\n")}}],
            "users": [{"user": {"client-certificate-data": coded("ADMIN\n"), "client-key-data": coded("KEY")}}],
        }
    )


@cache
def talosconfig() -> str:
    context = {"ca": coded("TALOS CA\n"), "crt": coded("TALOS ADMIN\n"), "key": coded("KEY")}
    return yaml.safe_dump({"context": "home", "contexts": {"home": context}})


def library() -> Library:
    return cast(Library, Charts())
