"""DNS for the house: every name that people use has one answer, and nothing is written twice."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from components.dns import config, corefile, records
from providers.errors import UserError
from settings.parts import Dns
from tests.components.house import DIGEST, Made, build, lab, of_kind, text


@pytest.fixture(scope="module")
def made() -> Made:
    return build(lab())


def adguard(made: Made) -> dict[str, Any]:
    """AdGuard Home's own file, as its pod gets it."""
    found: dict[str, Any] = yaml.safe_load(text(made["dns-seed"].inputs, "AdGuardHome.yaml"))
    return found


def answers(made: Made) -> dict[str, str]:
    return {rewrite["domain"]: rewrite["answer"] for rewrite in adguard(made)["filtering"]["rewrites"]}


def test_every_host_of_an_ingress_has_a_record(made: Made) -> None:
    hosts = {rule["host"] for item in of_kind(made, "Ingress").values() for rule in item["spec"]["rules"]}
    assert {"grafana.local", "adguard.local", "longhorn.local", "k8s.local", "torrent.local", "web.local"} <= hosts
    assert {host: answers(made).get(host) for host in hosts} == dict.fromkeys(hosts, "192.168.1.234")
    assert answers(made)["traefik.local"] == "192.168.1.234"  # its dashboard is no Ingress


def test_nodes_the_vip_and_what_the_owner_adds_have_records(made: Made) -> None:
    found = answers(made)
    assert found["node1.local"] == "192.168.1.11"
    assert found["k8s-api.local"] == "192.168.1.30"
    assert found["printer.local"] == "192.168.1.20"


def test_the_endpoints_own_name_is_the_vips() -> None:
    named = lab(endpoint={"vip": "192.168.1.30", "dns": "k8s.home.example"})
    found = records(named, {})
    assert found["k8s.home.example"] == "192.168.1.30"
    assert "k8s-api.local" not in found


def test_every_rewrite_is_switched_on(made: Made) -> None:
    assert all(rewrite["enabled"] is True for rewrite in adguard(made)["filtering"]["rewrites"])
    assert adguard(made)["schema_version"] == 34


def test_upstreams_are_asked_by_address_and_so_is_who_resolves_them(made: Made) -> None:
    dns = adguard(made)["dns"]
    assert dns["upstream_dns"] == dns["bootstrap_dns"] == ["9.9.9.9", "1.1.1.1"]
    assert "&" not in text(made["dns-seed"].inputs, "AdGuardHome.yaml")


def test_the_login_is_the_generated_one(made: Made) -> None:
    assert adguard(made)["users"] == [{"name": "admin", "password": DIGEST}]


def test_both_servers_have_their_fixed_address_and_both_protocols(made: Made) -> None:
    services = of_kind(made, "Service")
    for name, address in (("dns/adguard", "192.168.1.240"), ("dns/dns-zone", "192.168.1.249")):
        found = services[name]
        assert found["metadata"]["annotations"] == {"metallb.io/loadBalancerIPs": address}
        assert found["spec"]["externalTrafficPolicy"] == "Local"
        assert {(port["port"], port["protocol"]) for port in found["spec"]["ports"]} == {(53, "UDP"), (53, "TCP")}


def test_its_data_is_on_nfs_and_never_two_pods_write_it(made: Made) -> None:
    claim = of_kind(made, "PersistentVolumeClaim")["dns/adguard"]
    assert claim["spec"]["storageClassName"] == "nfs"
    pods = of_kind(made, "Deployment")["dns/adguard"]["spec"]
    assert pods["strategy"] == {"type": "Recreate"}
    (container,) = pods["template"]["spec"]["containers"]
    assert [mount["subPath"] for mount in container["volumeMounts"]] == ["conf", "work"]


def test_its_pod_is_replaced_when_a_record_changes(made: Made) -> None:
    def mark(found: Made) -> str:
        pods = of_kind(found, "Deployment")["dns/adguard"]["spec"]["template"]
        return str(pods["metadata"]["annotations"]["homelab/checksum"])

    other = build(lab({"dns": {"records": {"printer.local": "192.168.1.21"}}}))
    assert mark(other) != mark(made)
    assert mark(build(lab())) == mark(made)


def test_all_names_of_the_zone_have_one_answer_and_others_go_on(made: Made) -> None:
    file = of_kind(made, "ConfigMap")["dns/dns-zone"]["data"]["Corefile"]
    assert file.startswith("home.example:5353 {")
    assert 'answer "{{ .Name }} 60 IN A 192.168.1.234"' in file
    assert "forward . 9.9.9.9 1.1.1.1" in file


def test_without_a_zone_there_is_no_second_server() -> None:
    made = build(lab({"dns": {}}))
    assert "dns/dns-zone" not in of_kind(made, "Deployment")


def test_a_version_of_the_owners_is_the_images_tag() -> None:
    made = build(lab({"dns": {"version": "v0.107.80"}}))
    (container,) = of_kind(made, "Deployment")["dns/adguard"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "docker.io/adguard/adguardhome:v0.107.80"


def test_hosts_without_an_address_that_stays_are_refused() -> None:
    addresses = {"torrent": "192.168.1.245"}
    with pytest.raises(UserError, match=r"platform.addresses.traefik: is missing, and DNS answers with it"):
        records(lab({"addresses": addresses, "dns": None}), {})


def test_without_traefik_there_are_no_hosts_to_answer() -> None:
    found = records(lab({"traefik": None, "dns": {}}), {})
    assert sorted(found) == ["k8s-api.local", "node1.local", "node2.local", "node3.local", "node4.local"]


def test_the_files_are_the_same_each_time() -> None:
    settings = Dns.model_validate({"zone": {"name": "home.example"}})
    assert config(lab(), settings, "x") == config(lab(), settings, "x")
    assert settings.zone is not None
    assert corefile(settings.zone, "192.168.1.1", settings) == corefile(settings.zone, "192.168.1.1", settings)
