"""What a machine is given to join with: a Talos machine config, or for a plain Linux a file of shell variables.

It holds no key of the cluster. A Talos worker's has the cluster's CA certificates, the token of trustd (which Talos
can't make for one machine or for some hours), and a join token of the machine's own.
"""

from __future__ import annotations

import base64
import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from providers.kubernetes.kubeconfig import Access
from providers.netboot.tokens import Token
from providers.talos import documents
from providers.talos.config import NodeConfig, render, whole
from providers.talos.secrets import SecretsBundle

Entry = Mapping[str, Any]


def talos(fields: Entry, bundle: SecretsBundle, token: Token) -> str:
    """A worker's machine config; without a `mac` for whichever machine asks, which names itself.

    Args:
        fields: of `NodeConfig`; `mac`, `address` and `name` may be "".
        bundle: the cluster's secrets, as a worker may have them.
        token: its own.

    Raises:
        UserError: a field or a patch is wrong.
    """
    node = NodeConfig.from_dict({**fields, "role": "worker"})
    mine = dataclasses.replace(bundle, bootstrap_token=token.text)
    found = documents.load(render(node, mine))
    for document in found:
        _without_blanks(document, node)
    return documents.dump(found)


def _without_blanks(document: dict[str, Any], node: NodeConfig) -> None:
    """Take out what a worker of the settings has and such a machine has not: a known address, a name, a card."""
    if document.get("kind") == "HostnameConfig" and not node.name:
        document.pop("hostname")
        document["auto"] = "stable"
    machine = document.get("machine")
    if machine is None:
        return
    if not node.address:
        machine.pop("certSANs", None)
    if not node.name:
        machine["network"].pop("hostname", None)
    if not node.mac:
        for interface in machine["network"]["interfaces"]:
            interface["deviceSelector"] = {"physical": True}


def linux(fields: Entry, access: Access, token: Token) -> str:
    """Variables for the start script of a plain Linux.

    Args:
        fields: `name` ("" for a machine that names itself), `labels`, `taints`; `dns`, where the cluster's names are
            not resolved at the usual address.
        access: to the cluster, of which only its URL and the CA's certificate are taken.
        token: its own.
    """
    labels = sorted((whole(fields.get("labels")) or {}).items())
    taints = sorted((whole(fields.get("taints")) or {}).items())
    values = {
        "NODE": fields.get("name", ""),
        "SERVER": access.server,
        "CA": base64.b64encode(access.ca.encode()).decode(),
        "TOKEN": token.text,
        "LABELS": ",".join(f"{key}={value}" for key, value in labels),
        "TAINTS": ",".join(f"{key}={value}" for key, value in taints),
        **({"DNS": fields["dns"]} if fields.get("dns") else {}),
    }
    return "".join(f"HOMELAB_{key}={shlex.quote(str(value))}\n" for key, value in values.items())
