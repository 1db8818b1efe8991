"""The household's own services, and what all of our pods have in common."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.versions import IMAGES
from tests.components.house import EVERYTHING, Made, build, lab, of_kind, pods, text

LOGIN = {"credentials": {"ghcr.io": {"username": "octocat", "password": "registry-secret"}}}


@pytest.fixture(scope="module")
def made() -> Made:
    return build(lab())


def application(registries: Any = None, **settings: Any) -> Made:
    """A lab with one application, `web`."""
    web = {"image": "nginxinc/nginx-unprivileged:1.29.1", "port": 8080, **settings}
    cluster = {"registries": registries} if registries else {}
    return build(lab({"applications": {"web": web}}, **cluster))


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    spec = template["spec"]
    return [*spec["containers"], *spec.get("initContainers", [])]


def test_every_pod_says_what_it_needs(made: Made) -> None:
    for name, template in pods(made).items():
        for container in containers(template):
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name


def test_no_pod_is_roots_without_a_written_reason(made: Made) -> None:
    for name, template in pods(made).items():
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True, name
        assert template["spec"]["securityContext"]["runAsUser"] > 0, name
        for container in containers(template):
            if container["securityContext"].get("runAsUser") == 0:
                assert template["metadata"]["annotations"]["homelab/root-reason"], name
                assert name == "torrent/torrent"


def test_no_container_keeps_what_it_does_not_need(made: Made) -> None:
    for name, template in pods(made).items():
        for container in containers(template):
            security = container["securityContext"]
            assert security["capabilities"]["drop"] == ["ALL"], name
            assert security["allowPrivilegeEscalation"] is False, name
        assert template["spec"]["automountServiceAccountToken"] is False, name


def test_every_container_that_stays_has_probes(made: Made) -> None:
    for name, template in pods(made).items():
        if "(job)" not in name:
            for container in template["spec"]["containers"]:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), name


def test_every_image_is_one_that_stays(made: Made) -> None:
    known = {*IMAGES.values(), EVERYTHING["applications"]["web"]["image"]}
    for name, template in pods(made).items():
        for container in containers(template):
            image = container["image"]
            assert image in known or image.startswith("ghcr.io/siderolabs/talosctl:v"), name


def test_a_web_page_has_pods_a_service_and_a_name(made: Made) -> None:
    pod = of_kind(made, "Deployment")["web/web"]["spec"]
    assert pod["replicas"] == 1
    assert pod["strategy"] == {"type": "RollingUpdate"}
    assert of_kind(made, "Service")["web/web"]["spec"]["type"] == "ClusterIP"
    (rule,) = of_kind(made, "Ingress")["web/web"]["spec"]["rules"]
    assert rule["host"] == "web.local"
    assert rule["http"]["paths"][0]["backend"] == {"service": {"name": "web", "port": {"number": 80}}}


def test_a_service_may_have_an_address_of_its_own() -> None:
    web = {"image": "nginxinc/nginx-unprivileged:1.29.1", "port": 8080}
    addresses = {
        "traefik": "192.168.1.234",
        "dns": "192.168.1.240",
        "dns-zone": "192.168.1.249",
        "web": "192.168.1.201",
    }
    made = build(lab({"applications": {"web": web}, "addresses": addresses}))
    service = of_kind(made, "Service")["web/web"]
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["metadata"]["annotations"] == {"metallb.io/loadBalancerIPs": "192.168.1.201"}


def test_a_private_registrys_login_is_the_one_that_nodes_have() -> None:
    made = application(LOGIN, image="ghcr.io/octocat/web:1", pull_secret="ghcr.io")
    secret = of_kind(made, "Secret")["web/login"]
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    login = {"username": "octocat", "password": "registry-secret"}
    assert json.loads(text(secret, ".dockerconfigjson")) == {"auths": {"ghcr.io": login}}
    pod = of_kind(made, "Deployment")["web/web"]["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "login"}]


def test_a_volume_that_one_node_mounts_is_never_written_by_two_pods() -> None:
    made = application(volume={"path": "/data", "size_gb": 3, "storage_class": "longhorn"})
    claim = of_kind(made, "PersistentVolumeClaim")["web/data"]["spec"]
    assert claim == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "3G"}},
        "storageClassName": "longhorn",
    }
    assert of_kind(made, "Deployment")["web/web"]["spec"]["strategy"] == {"type": "Recreate"}


def test_a_volume_on_nfs_is_shared_unless_there_is_a_single_writer() -> None:
    volume = {"path": "/data", "storage_class": "nfs"}
    made = application(volume=volume, replicas=2)
    assert of_kind(made, "PersistentVolumeClaim")["web/data"]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert of_kind(made, "Deployment")["web/web"]["spec"]["strategy"] == {"type": "RollingUpdate"}
    made = application(volume=volume, single_writer=True)
    assert of_kind(made, "PersistentVolumeClaim")["web/data"]["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert of_kind(made, "Deployment")["web/web"]["spec"]["strategy"] == {"type": "Recreate"}


def test_the_process_is_who_the_owner_says() -> None:
    made = application(user=1234, env={"COLOUR": "green"}, requests={"cpu": "100m", "memory": "1Gi"})
    pod = of_kind(made, "Deployment")["web/web"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 1234
    (container,) = pod["containers"]
    assert container["env"] == [{"name": "COLOUR", "value": "green"}]
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "1Gi"}}


def test_torrent_is_one_pod_and_never_two(made: Made) -> None:
    pod = of_kind(made, "Deployment")["torrent/torrent"]["spec"]
    assert pod["replicas"] == 1
    assert pod["strategy"] == {"type": "Recreate"}
    claim = of_kind(made, "PersistentVolumeClaim")["torrent/data"]["spec"]
    assert claim["storageClassName"] == "nfs"
    assert claim["resources"] == {"requests": {"storage": "500G"}}


def test_peers_find_torrent_at_its_own_address_by_one_number(made: Made) -> None:
    peers = of_kind(made, "Service")["torrent/torrent-peers"]
    assert peers["metadata"]["annotations"] == {"metallb.io/loadBalancerIPs": "192.168.1.245"}
    assert peers["spec"]["selector"] == {"app": "torrent"}
    assert {(port["port"], port["targetPort"], port["protocol"]) for port in peers["spec"]["ports"]} == {
        (23340, 23340, "TCP"),
        (23340, 23340, "UDP"),
    }
    rtorrent = of_kind(made, "Deployment")["torrent/torrent"]["spec"]["template"]["spec"]["containers"][0]
    numbers = {item["name"]: item["value"] for item in rtorrent["env"]}
    assert numbers["RT_INC_PORT"] == numbers["RT_DHT_PORT"] == "23340"


def test_flood_and_rtorrent_share_one_user_one_socket_and_the_downloads(made: Made) -> None:
    template = of_kind(made, "Deployment")["torrent/torrent"]["spec"]["template"]["spec"]
    rtorrent, flood = template["containers"]

    def mounts(container: dict[str, Any]) -> dict[str, str]:
        return {m["mountPath"]: f"{m['name']}/{m.get('subPath', '')}" for m in container["volumeMounts"]}

    for path in ("/downloads", "/var/run/rtorrent"):
        assert mounts(rtorrent)[path] == mounts(flood)[path]
    owner = {item["name"]: item["value"] for item in rtorrent["env"]}["PGID"]
    assert template["securityContext"]["runAsGroup"] == int(owner)


def test_torrents_page_asks_for_a_password(made: Made) -> None:
    ingress = of_kind(made, "Ingress")["torrent/torrent"]
    name = ingress["metadata"]["annotations"]["traefik.ingress.kubernetes.io/router.middlewares"]
    assert name == "torrent-torrent-login@kubernetescrd"
    middleware = of_kind(made, "Middleware")["torrent/torrent-login"]
    secret = of_kind(made, "Secret")[f"torrent/{middleware['spec']['basicAuth']['secret']}"]
    assert text(secret, "users").startswith("admin:$2a$10$")


def test_without_traefik_an_application_has_no_page() -> None:
    made = build(lab({"traefik": None, "dns": None}))
    assert of_kind(made, "Ingress") == {}
    assert "web/web" in of_kind(made, "Deployment")


def test_with_policies_our_pods_are_open_where_they_must_be_and_nowhere_else() -> None:
    cilium = build(lab({"network_policies": True}, cni="cilium"))

    def doors(name: str) -> set[tuple[int, str, str]]:
        rules = of_kind(cilium, "NetworkPolicy")[name]["spec"]["ingress"]
        return {
            (
                int(port["port"]),
                port["protocol"],
                rule["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
                if "from" in rule
                else "everybody",
            )
            for rule in rules
            for port in rule["ports"]
        }

    assert doors("web/web") == {(8080, "TCP", "traefik")}
    assert doors("torrent/torrent") == {
        (3000, "TCP", "traefik"),
        (23340, "TCP", "everybody"),
        (23340, "UDP", "everybody"),
    }
    assert doors("dns/adguard") == {
        (3000, "TCP", "traefik"),
        (5353, "TCP", "everybody"),
        (5353, "UDP", "everybody"),
    }
    assert doors("dns/dns-zone") == {(5353, "TCP", "everybody"), (5353, "UDP", "everybody")}


def test_without_policies_there_are_none_of_ours(made: Made) -> None:
    assert set(of_kind(made, "NetworkPolicy")) == {"longhorn-system/metrics"}  # opens what the chart's own would close
