"""What every kubelet asks of the API: a certificate for its Node, whether pods have a network, and to be Ready."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime

from twin.kubernetes.api import Api, Object
from twin.talos.pki import Pair, signing_request

SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
NETWORKS = "/etc/cni/net.d"  # where a node's container runtime reads its networks
_CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


class Denied(Exception):
    """Somebody refused to sign a certificate."""


async def certified(api: Api, node: str, poll_s: float) -> Pair:
    """A kubelet's certificate by TLS bootstrap: asked for with a token, signed by the controller manager.

    It waits for as long as nobody approves.

    Raises:
        ApiError: whoever asks is not let in, or may not ask.
        Denied: it was refused.
    """
    request, key = signing_request(f"system:node:{node}", "system:nodes")
    made = await api.create(_CSRS, _asked(request))
    while True:
        status = (await api.get(f"{_CSRS}/{made['metadata']['name']}")).get("status", {})
        if certificate := status.get("certificate"):
            return Pair(base64.b64decode(certificate), key)
        for condition in status.get("conditions", []):
            if condition["type"] in ("Denied", "Failed"):
                raise Denied(f"{made['metadata']['name']}: {condition['type']}: {condition.get('message', '')}")
        await asyncio.sleep(poll_s)


def _asked(request: bytes) -> Object:
    spec = {
        "request": base64.b64encode(request).decode(),
        "signerName": SIGNER,
        "usages": ["digital signature", "client auth"],
    }
    about = {"generateName": "csr-"}
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": about,
        "spec": spec,
    }


async def has_network(api: Api, node: str) -> bool:
    """Whether a pod of the cluster's network runs on a node: one that writes where the runtime reads its networks."""
    pods = (await api.get(f"/api/v1/pods?fieldSelector=spec.nodeName={node}"))["items"]
    return any(
        pod["status"].get("phase") == "Running"
        and any(volume.get("hostPath", {}).get("path") == NETWORKS for volume in pod["spec"].get("volumes", []))
        for pod in pods
    )


async def say_ready(api: Api, node: str) -> None:
    """Write the Ready condition of a node, as its kubelet does."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }  # fmt: skip
    await api.patch(f"/api/v1/nodes/{node}/status", {"status": {"conditions": [condition]}}, "strategic-merge-patch")


def is_ready(node: Object) -> bool:
    """Whether a Node object says Ready."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
