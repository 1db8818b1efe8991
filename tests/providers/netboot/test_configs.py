"""What a machine is given to join with: no key of the cluster, a token of its own, and only what is known of it."""

import base64
import shlex
import time

import pytest

from providers.kubernetes.kubeconfig import Access
from providers.netboot import configs, join, rolling, tokens
from providers.talos import documents
from providers.talos.secrets import SecretsBundle
from providers.talos.wire import pack_for_worker, unpack

WHOLE = SecretsBundle.generate()
WORKER = unpack(pack_for_worker(WHOLE))
TOKEN = tokens.Token("abcdef", "0123456789abcdef", 1_800_000_000)
ACCESS = Access("https://192.168.1.230:6443", WHOLE.kubernetes.crt, "THE ADMIN'S CERTIFICATE", "THE ADMIN'S KEY")
TALOS = {
    "cluster": "home", "name": "box1", "mac": "02:00:00:00:01:01", "address": "", "vip": "192.168.1.230",
    "subnet": "192.168.1.0/24", "talos": "v1.13.9", "kubernetes": "v1.36.1", "installer": "factory/x:v1.13.9",
    "disk": "/dev/sda", "labels": {"example.com/rack": "left"}, "taints": {"example.com/only": "batch:NoSchedule"},
}  # fmt: skip


@pytest.mark.parametrize("talos", ["v1.11.5", "v1.13.9"])
def test_a_machine_config_joins_with_its_own_token(talos: str):
    text = configs.talos({**TALOS, "talos": talos}, WORKER, TOKEN)
    main = documents.main(documents.load(text))
    assert (main["machine"]["type"], main["cluster"]["token"]) == ("worker", "abcdef.0123456789abcdef")
    assert main["machine"]["nodeLabels"] == {"example.com/rack": "left"}
    assert main["machine"]["network"]["interfaces"][0]["deviceSelector"] == {"hardwareAddr": "02:00:00:00:01:01"}
    assert "certSANs" not in main["machine"]
    assert "box1" in text


def test_no_key_of_the_cluster_travels():
    text = configs.talos(TALOS, WORKER, TOKEN) + configs.linux({"name": "a"}, ACCESS, TOKEN)
    assert "PRIVATE KEY" not in text
    secrets = (WHOLE.bootstrap_token, WHOLE.service_account_key, WHOLE.secretbox_secret, WHOLE.kubernetes.key)
    assert not any(secret in text for secret in (*secrets, ACCESS.certificate, ACCESS.key))


@pytest.mark.parametrize("talos", ["v1.11.5", "v1.13.9"])
def test_a_machine_that_nobody_named_names_itself(talos: str):
    text = configs.talos({**TALOS, "talos": talos, "name": "", "mac": ""}, WORKER, TOKEN)
    found = documents.load(text)
    main = documents.main(found)
    assert main["machine"]["network"]["interfaces"][0]["deviceSelector"] == {"physical": True}
    assert "hostname" not in main["machine"]["network"]
    assert [one for one in found if one.get("kind") == "HostnameConfig"] == (
        [{"apiVersion": "v1alpha1", "kind": "HostnameConfig", "auto": "stable"}] if talos == "v1.13.9" else []
    )


def test_the_variables_of_a_plain_linux_survive_a_shell():
    fields = {"name": "box1", "labels": {"b": "2", "a": ""}, "taints": {}}
    found = _variables(configs.linux(fields, ACCESS, TOKEN))
    assert found["HOMELAB_LABELS"] == "a=,b=2"
    assert found["HOMELAB_TOKEN"] == TOKEN.text
    assert found["HOMELAB_NODE"] == "box1"
    assert found["HOMELAB_SERVER"] == "https://192.168.1.230:6443"
    assert base64.b64decode(found["HOMELAB_CA"]).decode() == WHOLE.kubernetes.crt
    assert "HOMELAB_DNS" not in found, "the start script knows the usual address"


def test_a_plain_linux_is_told_where_another_cluster_resolves_names():
    assert _variables(configs.linux({"name": "a", "dns": "10.112.0.10"}, ACCESS, TOKEN))["HOMELAB_DNS"] == "10.112.0.10"


def _variables(text: str) -> dict[str, str]:
    return dict(shlex.split(line)[0].split("=", 1) for line in text.splitlines())


def test_a_token_says_whose_it_is_and_when_it_ends():
    data = tokens.manifest(TOKEN, "boxes/box1")["stringData"]
    assert (data["description"], data["expiration"]) == ("homelab: boxes/box1", "2027-01-15T08:00:00Z")
    assert tokens.new(0).text != tokens.new(0).text


def test_tokens_are_renewed_when_half_of_their_time_is_over():
    olds = {"expires": 1000 + 24 * 3600, "hours": 24.0}
    assert not join.is_due(olds, now_s=1000 + 11 * 3600)
    assert join.is_due(olds, now_s=1000 + 13 * 3600)
    assert join.is_due({}, now_s=time.time())


def test_machines_are_rolled_in_the_order_of_the_settings():
    assert rolling.order({"b": 2, "a": 10, "c": 1}) == ["c", "b", "a"]
