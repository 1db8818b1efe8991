"""Whatever a file holds: good settings survive being written and read, and nothing but SettingsError is raised."""

import tempfile
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from settings import Problem, SettingsError, load
from settings.load import SECTIONS
from settings.yamlfile import parse

_SLOW_IS_FINE = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=40)


def _loaded(text: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "Pulumi.lab.yaml"
        file.write_text(text, encoding="utf-8", errors="replace")
        return load(file)


@st.composite
def labs(draw: st.DrawFn) -> dict[str, Any]:
    """Config of a lab that holds together: up to four full boards somewhere in 10.0.0.0/8."""
    count = draw(st.integers(1, 16))
    lan = IPv4Network(f"10.{draw(st.integers(1, 50))}.0.0/24")
    hosts = draw(st.lists(st.integers(1, 200), min_size=count + 1, max_size=count + 1, unique=True))
    address = [str(lan[host]) for host in hosts]
    boards = {
        f"board{i}": {"address": str(lan[201 + i]), "password": {"secure": f"v1:{i}"}} for i in range((count + 3) // 4)
    }
    nodes = {f"n{i}": _node(draw, i, address[i]) for i in range(count)}
    nodes["n0"] |= {"role": "controlplane", "disabled": False}
    cluster = {
        "name": draw(st.from_regex(r"[a-m]{1,8}[o-z]", fullmatch=True)),
        "endpoint": {"vip": address[count], "port": draw(st.integers(1, 65535))},
        "talos": {"version": draw(st.sampled_from(["v1.12.11", "v1.13.9"])), "allow_reboot": draw(st.booleans())},
        "kubernetes": {"version": draw(st.sampled_from(["v1.31.2", "v1.35.4"]))},
        "cni": draw(st.sampled_from(["flannel", "flannel-host-gw", "cilium", "cilium-kube-proxy-free", "none"])),
        "pod_subnets": ["172.16.0.0/16"],
        "service_subnets": ["172.20.0.0/16"],
        "network": {"subnet": str(lan), "time_servers": draw(st.lists(st.just("pool.ntp.org"), max_size=1))},
    }
    return {
        "homelab:cluster": cluster,
        "homelab:boards": boards,
        "homelab:nodes": nodes,
        "homelab:platform": _platform(draw, lan),
    }


def _platform(draw: st.DrawFn, lan: IPv4Network) -> dict[str, Any]:
    """Parts that hold together, above the boards of the LAN."""
    always = {
        "pools": [f"{lan[210]}-{lan[219]}", f"{lan[224]}-{lan[231]}"],
        "addresses": {"dns": str(lan[draw(st.integers(210, 218))]), "traefik": str(lan[224])},
        "dns": {"enabled": draw(st.booleans()), "records": {"nas.example": str(lan[250])}},
        "metallb": {},
        "traefik": {"dashboard": draw(st.booleans()), "values": {"replicas": draw(st.integers())}},
        "cert_manager": {},
        "nfs": {"server": "nas.home.arpa", "path": "/export"},
    }
    parts: dict[str, Any] = {
        "domain": draw(st.sampled_from(["local", "home.arpa"])),
        "longhorn": {"enabled": draw(st.booleans()), "snapshots": {"schedule": "*/5 0-6 * * 1,3", "keep": 2}},
        "monitoring": {"receivers": [{"name": "phone", "ntfy": {"topic": draw(st.sampled_from(["a", "b_c"]))}}]},
        "etcd_backup": {"keep": draw(st.integers(1, 99))},
        "applications": {"web": {"image": "a/b:1.2", "port": draw(st.integers(1, 65535)), "env": {"TZ": "UTC"}}},
    }
    return always | {key: value for key, value in parts.items() if draw(st.booleans())}


def _node(draw: st.DrawFn, i: int, address: str) -> dict[str, Any]:
    key = st.from_regex(r"[a-z]{1,5}\.[a-z]{2}/[a-z0-9]{1,5}", fullmatch=True)
    return {
        "role": draw(st.sampled_from(["controlplane", "worker"])),
        "address": address,
        "mac": f"02:00:00:00:00:{i:02x}",
        "machine": {"board": f"board{i // 4}", "slot": i % 4 + 1},
        "module": draw(st.sampled_from(["rk1", "cm4"])),
        "labels": draw(st.dictionaries(key, st.sampled_from(["", "true", "1", "no", "a.b"]), max_size=2)),
        "taints": draw(st.dictionaries(key, st.sampled_from(["x:NoSchedule", "NoExecute"]), max_size=2)),
        "generation": draw(st.integers(0, 5)),
        "disabled": draw(st.booleans()),
        "patches": draw(st.lists(st.just({"machine": {"sysctls": {"a": "1"}}}), max_size=2)),
    }


def _is_part_of(written: Any, read: Any) -> bool:
    if isinstance(written, dict) and set(written) != {"secure"}:
        return all(key in read and _is_part_of(value, read[key]) for key, value in written.items())
    if isinstance(written, list):
        return len(written) == len(read) and all(map(_is_part_of, written, read))
    return isinstance(written, dict) or written == read


@given(labs(), st.booleans())
@_SLOW_IS_FINE
def test_what_is_written_is_what_is_read(config: dict[str, Any], flow: bool):
    read = _loaded(yaml.safe_dump({"config": config}, default_flow_style=flow, sort_keys=False))
    dumped = read.model_dump(mode="json")
    assert _is_part_of({key.removeprefix("homelab:"): value for key, value in config.items()}, dumped)
    assert list(read.nodes) == list(config["homelab:nodes"])
    again = _loaded(yaml.safe_dump({"config": _as_config(dumped)}, sort_keys=False))
    assert again.model_dump() == read.model_dump()


def _as_config(dumped: dict[str, Any]) -> dict[str, Any]:
    """Read settings as a stack file says them: without the filled-in names, secrets encrypted."""
    for section in ("boards", "nodes"):
        for part in dumped[section].values():
            del part["name"]
    for board in dumped["boards"].values():
        board["password"] = {"secure": "v1:x"}
    dumped["platform"] = _without_absent(dumped["platform"])
    return {f"homelab:{key}": value for key, value in dumped.items()}


def _without_absent(value: Any) -> Any:
    """A part with nothing after its name is on, so the absent ones are left out."""
    if isinstance(value, dict):
        return {key: _without_absent(item) for key, item in value.items() if item is not None}
    return value


def _never_crashes(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "Pulumi.lab.yaml"
        file.write_bytes(content)
        problems = _problems(file)
    assert problems != ()
    assert all("\n" not in str(problem) for problem in problems or ())


def _problems(file: Path) -> tuple[Problem, ...] | None:
    try:
        load(file)
    except SettingsError as error:
        return error.problems
    return None


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
_keys = st.sampled_from(
    ["name", "secure", "password", "patches", "labels", "install", "machine", "pools", "nfs", "applications", "values"]
) | st.text(max_size=6)
_anything = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4), max_leaves=12
)


@given(labs(), st.data())
@_SLOW_IS_FINE
def test_one_value_replaced_by_anything_never_crashes(config: dict[str, Any], data: st.DataObject):
    part: Any = config
    while True:
        key = data.draw(st.sampled_from(list(part)))
        if not isinstance(part[key], dict) or not part[key] or data.draw(st.booleans()):
            part[key] = data.draw(_anything)
            break
        part = part[key]
    _never_crashes(yaml.safe_dump({"config": config}, sort_keys=False).encode())


@given(_anything)
@_SLOW_IS_FINE
def test_any_data_never_crashes(value: Any):
    _never_crashes(yaml.safe_dump({"config": {f"homelab:{section}": value for section in SECTIONS}}).encode())


@given(st.text(alphabet="abc:{}[]-#&*!|>'\"%@`? \n\t0<~.,", max_size=80))
@_SLOW_IS_FINE
def test_any_text_never_crashes(text: str):
    _never_crashes(text.encode())
    _never_crashes(b"config:\n  homelab:cluster: " + text.encode())


@given(st.binary(max_size=60))
@_SLOW_IS_FINE
def test_any_bytes_never_crash(content: bytes):
    _never_crashes(content)


def test_deep_and_wide_files_are_refused():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    for text in ("[" * 2_000, "config: " + "{a: " * 2_000, bomb, "config: &a [*a]", "x: " + "9" * 9000):
        _never_crashes(text.encode())


def test_words_mean_what_they_mean_to_pulumi():
    text = "[yes, no, on, 12:30:45, 2001-01-01, 010, 0x10, 1e3, ~, null, True, '1', .5, '']"
    expected = ["yes", "no", "on", "12:30:45", "2001-01-01", 10, 16, 1000.0, None, None, True, "1", 0.5, ""]
    assert parse(text).data == expected
