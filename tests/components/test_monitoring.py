"""Monitoring: nothing fires on a healthy cluster, nothing secret is in plain, every certificate is seen."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from components import pki, receivers, rules
from components.monitoring import exporter, values
from settings.parts import Receiver
from tests.components.house import PASSWORD, Made, build, kubeconfig, lab, of_kind, talosconfig, text


@pytest.fixture(scope="module")
def made() -> Made:
    return build(lab())


@pytest.fixture(scope="module")
def chart(made: Made) -> dict[str, Any]:
    found: dict[str, Any] = made["monitoring-chart"].inputs["values"]
    return found


def alertmanager(made: Made) -> dict[str, Any]:
    secret = of_kind(made, "Secret")["monitoring/alertmanager-config"]
    found: dict[str, Any] = yaml.safe_load(text(secret, "alertmanager.yaml"))
    return found


def test_what_the_charts_hooks_would_make_is_not_waited_for(chart: dict[str, Any]) -> None:
    assert chart["prometheusOperator"]["admissionWebhooks"] == {"enabled": False}
    assert chart["prometheusOperator"]["tls"] == {"enabled": False}
    assert chart["grafana"]["testFramework"] == {"enabled": False}


def test_alerts_that_fire_on_every_cluster_are_off(chart: dict[str, Any]) -> None:
    assert chart["defaultRules"]["disabled"] == {"Watchdog": True, "InfoInhibitor": True}
    assert chart["kubeProxy"] == {"enabled": False}


def test_etcd_is_asked_at_the_control_planes(chart: dict[str, Any]) -> None:
    etcd = chart["kubeEtcd"]["service"]
    assert etcd == {"port": 2381, "targetPort": 2381, "selector": {"component": "kube-controller-manager"}}


def test_rules_and_targets_of_every_part_are_picked_up(chart: dict[str, Any]) -> None:
    spec = chart["prometheus"]["prometheusSpec"]
    for kind in ("serviceMonitor", "podMonitor", "rule", "probe", "scrapeConfig"):
        assert spec[f"{kind}SelectorNilUsesHelmValues"] is False


def test_metrics_never_fill_their_volume() -> None:
    found = values(lab(), lab({"monitoring": {"storage_gb": 20, "retention_days": 30}}).platform.monitoring)  # type: ignore[arg-type]
    spec = found["prometheus"]["prometheusSpec"]
    assert (spec["retention"], spec["retentionSize"]) == ("30d", "16GB")
    volume = spec["storageSpec"]["volumeClaimTemplate"]["spec"]
    assert volume["resources"]["requests"]["storage"] == "20G"
    assert volume["storageClassName"] == "longhorn"


def test_without_longhorn_metrics_are_not_put_on_nfs() -> None:
    chart = build(lab({"longhorn": None}))["monitoring-chart"].inputs["values"]
    assert "storageSpec" not in chart["prometheus"]["prometheusSpec"]
    assert "storage" not in chart["alertmanager"]["alertmanagerSpec"]
    assert chart["grafana"]["persistence"] == {}


def test_grafana_has_its_password_its_plugins_and_its_name(made: Made, chart: dict[str, Any]) -> None:
    grafana = chart["grafana"]
    secret = of_kind(made, "Secret")[f"monitoring/{grafana['admin']['existingSecret']}"]
    assert text(secret, grafana["admin"]["passwordKey"]) == PASSWORD
    assert text(secret, grafana["admin"]["userKey"]) == "admin"
    assert grafana["plugins"] == ["grafana-clock-panel@2.1.3", "grafana-piechart-panel"]
    assert grafana["deploymentStrategy"] == {"type": "Recreate"}
    assert grafana["grafana.ini"]["server"] == {"root_url": "https://grafana.local"}
    (rule,) = of_kind(made, "Ingress")["monitoring/monitoring"]["spec"]["rules"]
    assert rule["host"] == "grafana.local"


def test_no_secret_is_in_the_charts_values(chart: dict[str, Any]) -> None:
    shown = json.dumps(chart)
    assert "secret" not in shown.replace("existingSecret", "").replace('"secrets"', "").replace(
        "configSecret", ""
    ).replace("useExistingSecret", "")
    assert PASSWORD not in shown


def test_everybody_hears_of_an_alert(made: Made) -> None:
    config = alertmanager(made)
    (household,) = config["receivers"]
    assert config["route"]["receiver"] == household["name"]
    folder = "/etc/alertmanager/secrets/alertmanager-receivers"
    ntfy, hook = household["webhook_configs"]
    assert ntfy["url"] == "https://ntfy.sh/homelab?template=alertmanager"
    assert ntfy["http_config"] == {"authorization": {"credentials_file": f"{folder}/phone-token"}}
    assert hook["url_file"] == f"{folder}/hook-url"
    assert household["telegram_configs"][0]["chat_id"] == -100
    assert household["telegram_configs"][0]["bot_token_file"] == f"{folder}/chat-token"
    (mail,) = household["email_configs"]
    assert mail["auth_password_file"] == f"{folder}/mail-password"
    assert mail["require_tls"] is True


def test_every_file_that_alertmanager_names_is_there_and_no_secret_is_in_its_own(
    made: Made, chart: dict[str, Any]
) -> None:
    files = of_kind(made, "Secret")["monitoring/alertmanager-receivers"]
    held = {name: text(files, name) for name in ("phone-token", "chat-token", "hook-url", "mail-password")}
    assert held["phone-token"] == "tk_secret"
    shown = yaml.safe_dump(alertmanager(made))
    assert not [secret for secret in held.values() if secret in shown]
    assert chart["alertmanager"]["alertmanagerSpec"]["secrets"] == ["alertmanager-receivers"]
    assert chart["alertmanager"]["alertmanagerSpec"]["configSecret"] == "alertmanager-config"


def test_without_receivers_alertmanagers_file_is_still_one() -> None:
    config, files = receivers.alertmanager([])
    assert config["receivers"] == [{"name": "household"}]
    assert files == {}
    spec = build(lab({"monitoring": {}}))["monitoring-chart"].inputs["values"]["alertmanager"]["alertmanagerSpec"]
    assert "secrets" not in spec


def test_a_server_with_tls_from_the_first_byte_is_not_asked_for_starttls() -> None:
    mail = {"to": "a@b.example", "sender": "c@b.example", "smarthost": "mail.b.example:465"}
    config, files = receivers.alertmanager([Receiver.model_validate({"name": "mail", "mail": mail})])
    (found,) = config["receivers"][0]["email_configs"]
    assert found["require_tls"] is False
    assert "auth_username" not in found
    assert files == {}


def test_rules_are_those_of_the_parts_that_are_on(made: Made) -> None:
    assert {name.partition("/")[2] for name in of_kind(made, "PrometheusRule")} == {
        f"homelab-{name}" for name in ("backups", "certificates", "etcd", "longhorn", "nodes")
    }
    assert rules.files(frozenset()) == ("certificates", "etcd", "nodes")
    few = build(lab({"longhorn": None, "etcd_backup": None}))
    assert "monitoring/homelab-longhorn" not in of_kind(few, "PrometheusRule")
    assert "monitoring/longhorn" not in of_kind(few, "ServiceMonitor")


def test_grafana_finds_every_dashboard(made: Made) -> None:
    boards = {name: item for name, item in of_kind(made, "ConfigMap").items() if "dashboard" in name}
    assert len(boards) == 6
    for board in boards.values():
        assert board["metadata"]["labels"] == {"grafana_dashboard": "1"}
        (content,) = board["data"].values()
        assert json.loads(content)["panels"]


def test_the_certificates_that_only_people_hold_are_watched_without_their_keys(made: Made) -> None:
    secret = of_kind(made, "Secret")["monitoring/pki"]
    assert text(secret, "certificates.pem").splitlines() == ["TALOS CA", "TALOS ADMIN", "KUBERNETES CA", "ADMIN"]
    assert "KEY" not in pki.certificates(kubeconfig(), talosconfig())
    kinds = exporter()["secretsExporter"]["secretTypes"]
    assert {"type": secret["type"], "key": "certificates.pem"} in kinds


def test_the_nodes_own_certificates_are_watched() -> None:
    found = exporter()["hostPathsExporter"]
    planes = found["daemonSets"]["control-planes"]
    assert planes["nodeSelector"] == {"node-role.kubernetes.io/control-plane": ""}
    named = {path.rpartition("/")[2] for path in planes["watchFiles"]}
    assert {"apiserver.crt", "ca.crt", "peer.crt", "server.crt", "front-proxy-client.crt", "aggregator-ca.crt"} <= named
    assert "/var/lib/kubelet/pki/kubelet-client-current.pem" in found["daemonSets"]["nodes"]["watchFiles"]
    assert found["podAnnotations"]["homelab/root-reason"]
    assert exporter()["prometheusRules"] == {"create": False}  # ours say 30 and 7 days
