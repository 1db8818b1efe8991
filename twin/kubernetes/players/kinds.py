"""The kinds that players look at or write, and how they tell that a program runs."""

from twin.kubernetes.api import Object
from twin.kubernetes.players.world import Kind, World, at

_CORE, _APPS = "/api/v1", "/apis/apps/v1"
_STORAGE = "/apis/storage.k8s.io/v1"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_NETWORK = "/apis/networking.k8s.io/v1"
_CERT_MANAGER = "/apis/cert-manager.io/v1"
_LONGHORN = "/apis/longhorn.io/v1beta2"
_MONITORING = "/apis/monitoring.coreos.com/v1"
_METALLB = "/apis/metallb.io/v1beta1"

NODE = Kind(_CORE, "nodes", "Node")
POD = Kind(_CORE, "pods", "Pod")
SERVICE = Kind(_CORE, "services", "Service")
DEPLOYMENT = Kind(_APPS, "deployments", "Deployment")
DAEMON_SET = Kind(_APPS, "daemonsets", "DaemonSet")
ENDPOINT_SLICE = Kind("/apis/discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
ADDRESS_POOL = Kind(_METALLB, "ipaddresspools", "IPAddressPool")
L2_ADVERTISEMENT = Kind(_METALLB, "l2advertisements", "L2Advertisement")
SECRET = Kind(_CORE, "secrets", "Secret")
CERTIFICATE = Kind(_CERT_MANAGER, "certificates", "Certificate")
ISSUER = Kind(_CERT_MANAGER, "issuers", "Issuer")
CLUSTER_ISSUER = Kind(_CERT_MANAGER, "clusterissuers", "ClusterIssuer")
VALIDATING = Kind(_ADMISSION, "validatingwebhookconfigurations", "ValidatingWebhookConfiguration")
MUTATING = Kind(_ADMISSION, "mutatingwebhookconfigurations", "MutatingWebhookConfiguration")
INGRESS = Kind(_NETWORK, "ingresses", "Ingress")
INGRESS_CLASS = Kind(_NETWORK, "ingressclasses", "IngressClass")
CLAIM = Kind(_CORE, "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUME = Kind(_CORE, "persistentvolumes", "PersistentVolume")
STORAGE_CLASS = Kind(_STORAGE, "storageclasses", "StorageClass")
CSI_DRIVER = Kind(_STORAGE, "csidrivers", "CSIDriver")
CONFIG_MAP = Kind(_CORE, "configmaps", "ConfigMap")
STATEFUL_SET = Kind(_APPS, "statefulsets", "StatefulSet")
POLICY = Kind(_ADMISSION, "validatingadmissionpolicies", "ValidatingAdmissionPolicy")
POLICY_BINDING = Kind(_ADMISSION, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding")
JOB = Kind("/apis/batch/v1", "jobs", "Job")
BACKUP_TARGET = Kind(_LONGHORN, "backuptargets", "BackupTarget")
PROMETHEUS = Kind(_MONITORING, "prometheuses", "Prometheus")
ALERTMANAGER = Kind(_MONITORING, "alertmanagers", "Alertmanager")
LONGHORN_NODE = Kind(_LONGHORN, "nodes", "Node")
LONGHORN_VOLUME = Kind(_LONGHORN, "volumes", "Volume")
LONGHORN_REPLICA = Kind(_LONGHORN, "replicas", "Replica")
LONGHORN_SETTING = Kind(_LONGHORN, "settings", "Setting")
SERVICE_L2_STATUS = Kind(_METALLB, "servicel2statuses", "ServiceL2Status")


def deployment(world: World, name: str) -> Object | None:
    """The Deployment of this name that has a pod which is available, in whichever namespace."""
    return _running(world, DEPLOYMENT, name)


def daemon_set(world: World, name: str) -> Object | None:
    """The DaemonSet of this name that has a ready pod."""
    return _running(world, DAEMON_SET, name)


def alive(workload: Object) -> bool:
    """Whether a Deployment or DaemonSet has a pod that is ready."""
    return bool(at(workload, "status", "availableReplicas") or at(workload, "status", "numberReady"))


def arguments(found: Object) -> list[str]:
    """All arguments of the containers of a workload."""
    containers = at(found, "spec", "template", "spec", "containers") or []
    return [str(word) for container in containers for word in container.get("args", [])]


def ready(node: Object) -> bool:
    """Whether a Node says Ready."""
    return condition(node, "Ready")


def condition(found: Object, kind: str) -> bool:
    """Whether an object's condition is True."""
    return any(c["type"] == kind and c["status"] == "True" for c in at(found, "status", "conditions") or [])


def _running(world: World, kind: Kind, name: str) -> Object | None:
    for found in world.all(kind):
        if found["metadata"]["name"] == name and alive(found):
            return found
    return None
