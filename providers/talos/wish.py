"""What a machine's inputs mean: its secrets, and the config that they and its `spec` make."""

from __future__ import annotations

from dataclasses import replace

from providers.dynamic import Props
from providers.talos import documents
from providers.talos.config import NodeConfig, render
from providers.talos.secrets import SecretsBundle
from providers.talos.wire import unpack

# From 1.12 on, a machine config has documents beside its v1alpha1 one. A cluster keeps the shape that it began with.
FIRST_OF_DOCUMENTS, BEFORE_DOCUMENTS = (1, 12), "v1.11.0"


def bundle_of(props: Props) -> SecretsBundle:
    """The secrets that a node's config is made with."""
    return unpack(props["secrets"])


def rendered(props: Props, bundle: SecretsBundle, live: str = "") -> str:
    """The wished config; for a node that runs, in the shape that its live config has, which an upgrade leaves alone."""
    node = NodeConfig.from_dict({**props["spec"], "credentials": props.get("credentials") or {}})
    if live and node.minor >= FIRST_OF_DOCUMENTS and not _has_documents(live):
        node = replace(node, talos=BEFORE_DOCUMENTS)
    return render(node, bundle)


def _has_documents(config: str) -> bool:
    """Whether a config is of the shape that came with 1.12: the host name in a document of its own."""
    return any(document.get("kind") == "HostnameConfig" for document in documents.load(config))
