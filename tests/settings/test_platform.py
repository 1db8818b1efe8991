"""What the parts of the platform read of their settings: who is on, at which host and address, with which secrets."""

import datetime as dt
import json
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter

from settings import Settings, SettingsError, from_values, load
from settings.cni import Cni
from settings.platform import PARTS, Platform
from settings.ranges import AddressRange, Range

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
_ONE_NODE = _HERE / "valid" / "platform-of-one-node.yaml"
_FULL = _HERE / "valid" / "platform.yaml"


@pytest.fixture
def full() -> Settings:
    return load(_FULL)


def _one_node(platform: dict[str, Any]) -> Settings:
    config = yaml.safe_load(_ONE_NODE.read_text())["config"]
    config["homelab:boards"]["board1"]["password"] = "turing"
    return from_values({key: json.dumps(value) for key, value in (config | {"homelab:platform": platform}).items()})


def test_nothing_is_on_by_itself():
    platform = load(_HERE / "valid" / "minimal.yaml").platform
    assert not platform.any
    assert [name for name in PARTS if platform.on(name)] == []
    assert platform.hosts == {}


def test_a_part_with_nothing_after_its_name_is_on():
    platform = load(_ONE_NODE).platform
    assert platform.any
    assert [name for name in PARTS if not platform.on(name)] == ["nfs", "etcd-backup"]
    assert platform.on("cert_manager")
    assert platform.on("web")
    assert not platform.on("nonsense")
    assert not platform.on("domain")


def test_a_part_turned_off_keeps_its_settings(full: Settings):
    assert not full.platform.on("metrics-server")
    assert not full.platform.on("later")
    assert full.platform.metrics_server is not None
    assert full.platform.metrics_server.version == "3.13.1"


def test_hosts_are_those_of_what_is_on():
    platform = load(_ONE_NODE).platform
    assert platform.hosts == {
        "traefik.local": "traefik",
        "grafana.local": "monitoring",
        "adguard.local": "dns",
        "longhorn.local": "longhorn",
        "k8s.local": "headlamp",
        "web.local": "web",
    }
    assert platform.host("monitoring") == "grafana.local"
    assert platform.host("metallb") is None


def test_hosts_follow_the_domain_the_dashboard_and_names_of_their_own(full: Settings):
    assert full.platform.hosts == {
        "grafana.home.arpa": "monitoring",
        "adguard.home.arpa": "dns",
        "longhorn.home.arpa": "longhorn",
        "k8s.home.arpa": "headlamp",
        "seeds.home.arpa": "torrent",
        "web.home.arpa": "web",
        "notes.example.org": "wiki",
    }


def test_without_traefik_there_are_no_hosts():
    assert _one_node({"headlamp": {}, "monitoring": {}}).platform.hosts == {}


def test_addresses(full: Settings):
    assert full.platform.address("dns") == IPv4Address("192.168.1.240")
    assert full.platform.address("web") is None
    assert [str(pool) for pool in full.platform.pools] == [
        "192.168.1.200-192.168.1.229",
        "192.168.1.240-192.168.1.243",
        "192.168.1.245-192.168.1.245",
    ]


def test_what_a_cni_is():
    assert [cni.value for cni in Cni if cni.enforces_policies] == ["cilium", "cilium-kube-proxy-free"]
    assert [cni.value for cni in Cni if cni.is_cilium] == ["cilium", "cilium-kube-proxy-free"]
    assert [cni.value for cni in Cni if cni.replaces_kube_proxy] == ["cilium-kube-proxy-free"]


def test_an_application_is_ready_made_or_a_service(full: Settings):
    kinds = {name: application.kind for name, application in full.platform.applications.items()}
    assert kinds == {"torrent": "torrent", "web": "service", "wiki": "service", "later": "service"}


def test_encrypted_values_stay_secrets_where_any_text_may_stand():
    platform = load(_FULL, _decrypted(_FULL, lambda text: f"plain {text[-4:]}")).platform
    assert platform.traefik is not None
    secret = platform.traefik.values["middleware"]["auth"]
    assert isinstance(secret, SecretStr)
    assert secret.get_secret_value() == "plain FFFF"
    env = platform.applications["web"].env
    assert env["TZ"] == "Europe/Berlin"
    assert isinstance(env["DB_PASSWORD"], SecretStr)
    assert env["DB_PASSWORD"].get_secret_value() == "plain 5555"
    assert "plain" not in repr(platform) + platform.model_dump_json()


def _decrypted(file: Path, plain: Callable[[str], str]) -> dict[str, Any]:
    def opened(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {"secure"}:
                return _KEY_OF_FULL if value["secure"].endswith("EEEE") else _url_or(plain(value["secure"]))
            return {key: opened(item) for key, item in value.items()}
        return [opened(item) for item in value] if isinstance(value, list) else value

    return {key: opened(value) for key, value in yaml.safe_load(file.read_text())["config"].items()}


def _url_or(text: str) -> str:
    return "https://hooks.home.example/?token=3333" if text.endswith("3333") else text


_KEY_OF_FULL = "[secret]"  # nobody has it: only its certificate was kept


def _certificate(days: int, before: int = 1) -> tuple[str, str]:
    """A certificate and its key, valid from `before` days ago for `days` days from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "home")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(now - dt.timedelta(days=before))
    made = builder.not_valid_after(now + dt.timedelta(days=days)).sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM).decode(), private.decode()


def _own(certificate: str, key: str) -> Settings:
    own = {"certificate": certificate, "key": key}
    pools = ["192.168.1.200-192.168.1.210"]
    return _one_node({"pools": pools, "metallb": {}, "traefik": {"certificate": {"own": own}}})


def test_a_certificate_with_its_own_key_is_taken():
    settings = _own(*_certificate(365))
    assert settings.warnings == ()
    assert settings.platform.traefik is not None
    assert settings.platform.traefik.certificate.own is not None


def test_a_key_of_another_certificate_is_refused():
    key = _certificate(365)[1]
    with pytest.raises(SettingsError, match="does not belong to the certificate; store") as caught:
        _own(_certificate(365)[0], key)
    assert key.splitlines()[1] not in str(caught.value)


def test_a_key_that_is_none_is_refused():
    with pytest.raises(SettingsError, match=r"own\.key: is not a private key in PEM"):
        _own(_certificate(365)[0], "ssh-ed25519 AAAA")


@pytest.mark.parametrize(
    ("days", "before", "words"),
    [(-1, 9, "has expired on"), (9, 1, "expires on"), (99, -9, "is not valid before")],
)
def test_a_certificate_out_of_its_time_is_a_warning(days: int, before: int, words: str):
    assert [words in str(warning) for warning in _own(*_certificate(days, before)).warnings] == [True]


def test_no_mistake_repeats_a_secret_of_the_platform():
    secret = "correct-horse-battery"
    file = _one_node_file({"monitoring": {"receivers": [{"name": "c", "telegram": {"chat_id": secret}}]}}, secret)
    with pytest.raises(SettingsError) as caught:
        load(*file)
    assert secret not in str(caught.value)


def _one_node_file(platform: dict[str, Any], secret: str) -> tuple[Path, dict[str, Any]]:
    """A file whose application holds an encrypted value that another place repeats."""
    decrypted = _decrypted(_FULL, lambda _: secret)
    decrypted["homelab:platform"] |= platform
    return _FULL, decrypted


def test_the_owners_example_is_whole_when_it_is_uncommented(tmp_path: Path):
    text = (_ROOT / "Pulumi.homelab.yaml").read_text()
    before, mark, section = text.partition("  homelab:platform:")
    file = tmp_path / "Pulumi.homelab.yaml"
    file.write_text(before + re.sub(r"^    # (?=[a-z #-])", "    ", mark + section, flags=re.MULTILINE))
    lab = load(file)
    assert [warning.path for warning in lab.warnings] == ["boards.board1.password"]
    assert all(lab.platform.on(name) for name in (*PARTS, "torrent", "web"))
    assert {name: str(address) for name, address in lab.platform.addresses.items()} == {
        "traefik": "192.168.1.234",
        "dns": "192.168.1.240",
        "dns-zone": "192.168.1.249",
        "torrent": "192.168.1.245",
    }


def test_every_key_of_the_example_stands_uncommented_or_is_known(tmp_path: Path):
    """Also what is commented twice, such as the owner's certificate, must be no misspelt key."""
    known = {key for model in _models(Platform) for key in model.model_fields}
    section = (_ROOT / "Pulumi.homelab.yaml").read_text().partition("homelab:platform:")[2]
    keys = set(re.findall(r"^[ #-]*([a-z_]+):(?: |$)", section, flags=re.MULTILINE))
    assert keys - known - {"web", "torrent"} == set()


def _models(model: Any) -> set[Any]:
    from settings.pages import _part

    found = {model}
    for field in model.model_fields.values():
        inner = _part(field, "")[0]
        found |= _models(inner) if inner is not None else set()
    return found


_LAN = IPv4Network("10.0.0.0/24")
_numbers = st.integers(0, 255)


@given(_numbers, _numbers, st.sets(_numbers, max_size=9))
def test_a_range_without_addresses_is_the_rest_of_it(one: int, other: int, taken: set[int]):
    whole = AddressRange(_LAN[min(one, other)], _LAN[max(one, other)])
    rest = list(whole.without(_LAN[i] for i in taken if _LAN[i] in whole))
    for address in _LAN:
        kept = sum(address in part for part in rest)
        assert kept == (address in whole and int(address) - int(_LAN[0]) not in taken)
    assert not any(a.overlaps(b) for i, a in enumerate(rest) for b in rest[:i])


@given(_numbers, _numbers)
def test_a_range_is_read_as_it_is_written(one: int, other: int):
    adapter: TypeAdapter[AddressRange] = TypeAdapter(Range)
    written = AddressRange(_LAN[min(one, other)], _LAN[max(one, other)])
    assert adapter.validate_python(str(written)) == written
    assert adapter.validate_python(f" {written.first} - {written.last} ".strip()) == written
