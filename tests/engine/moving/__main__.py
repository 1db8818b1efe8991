"""The pools of a lab whose clusters are there already."""

import json
from pathlib import Path

import pulumi
from opened.opened import Opened  # type: ignore[import-not-found]  # the program's own folder

import settings
from components.pool import Netboot
from providers.talos.secrets import SecretsBundle
from providers.talos.wire import pack

lab = settings.load(Path("lab.yaml"), json.loads(Path("plain.json").read_text()))
home, garage = Opened("home"), Opened("garage")
bundle = pulumi.Output.secret(pack(SecretsBundle.generate()))
Netboot(lab, bundle, home, {"garage": garage.kubeconfig}).start([])
