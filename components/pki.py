"""The certificates that are in no file of a node: the Talos API's CA, and the clients' that people hold."""

from __future__ import annotations

import base64

import yaml

SECRET = "pki"  # noqa: S105  # the name of an object
KEY = "certificates.pem"
KIND = "homelab/certificates"  # of the Secret; the exporter is told to read this kind

# What the nodes hold. https://www.talos.dev/latest/learn-more/control-plane/
ON_EVERY_NODE = (
    "/etc/kubernetes/pki/ca.crt",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
    "/var/lib/kubelet/pki/kubelet.crt",
)
ON_CONTROL_PLANES = (
    *(
        f"/system/secrets/kubernetes/kube-apiserver/{name}.crt"
        for name in (
            "aggregator-ca",
            "apiserver",
            "apiserver-kubelet-client",
            "ca",
            "etcd-client",
            "etcd-client-ca",
            "front-proxy-client",
        )
    ),
    *(f"/system/secrets/etcd/{name}.crt" for name in ("admin", "ca", "peer", "server")),
)
KUBECONFIGS = tuple(
    f"/system/secrets/kubernetes/{name}/kubeconfig" for name in ("kube-controller-manager", "kube-scheduler")
)


def certificates(kubeconfig: str, talosconfig: str) -> str:
    """The certificates (PEM, without keys) of both files: two CAs and two clients."""
    kubernetes = yaml.safe_load(kubeconfig)
    talos = yaml.safe_load(talosconfig)
    context = talos["contexts"][talos["context"]]
    coded = (
        context["ca"],
        context["crt"],
        kubernetes["clusters"][0]["cluster"]["certificate-authority-data"],
        kubernetes["users"][0]["user"]["client-certificate-data"],
    )
    return "".join(base64.b64decode(text).decode().rstrip() + "\n" for text in coded)
