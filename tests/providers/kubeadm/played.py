"""Hosts that kubeadm runs on, played: files, packages, services. The Kubernetes API that they make is a real one."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from providers.errors import RefusedError, UnreachableError
from providers.kubeadm.host import ca_hash
from providers.kubeadm.hosts import Place
from providers.kubeadm.wish import Cluster, Node
from providers.ssh.client import Answer, Target
from tests.providers.kubernetes.servers import Cluster as Api
from tests.providers.kubernetes.wire import Authority

CLUSTER = Cluster("garage", "v1.36.1", "10.0.0.5", 8443, "10.0.0.5")
PKI = "/etc/kubernetes/pki/ca.crt"
RULES = "*nat\n:KUBE-SERVICES - [0:0]\n:OWN - [0:0]\n-A OUTPUT -j KUBE-SERVICES\n-A OUTPUT -j OWN\nCOMMIT\n"


@dataclass
class World:
    """What the played hosts have in common: the cluster that kubeadm made, its etcd, its tokens."""

    kubeconfig: str = "kubeconfig of a test"
    ca: str = ""
    api: Api | None = None
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    certificate_key: str = ""
    uploads: int = 0
    etcd: dict[str, int] = field(default_factory=dict)
    hosts: dict[str, Played] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def add(self, name: str, role: str = "controlplane") -> Place:
        """A new host, with nothing on it."""
        address = f"10.0.0.{11 + len(self.hosts)}"
        self.hosts[name] = Played(self, name, address)
        target = Target(name, address, "ssh-ed25519 AAAA", "key")
        return Place(Node(name, address, role, address), target)

    @contextmanager
    def dial(self, target: Target, timeout_s: float = 60) -> Iterator[Played]:
        """What `providers.ssh.client.connect` does."""
        host = self.hosts[target.name]
        host.answer_or_fail()
        yield host

    def lines(self, word: str) -> list[str]:
        """Host and command of every command that holds `word`, in order."""
        return [f"{host.name}: {line}" for host in self.hosts.values() for line in host.log if word in line]


class Played:
    """One host. `fail` is a part of a command that ends the connection: before it did anything, or after."""

    def __init__(self, world: World, name: str, address: str) -> None:
        self.world, self.name, self.address = world, name, address
        self.target = Target(name, address, "ssh-ed25519 AAAA", "key")
        self.files: dict[str, bytes] = {}
        self.modes: dict[str, int] = {}
        self.log: list[str] = []
        self.fed: dict[str, bytes] = {}
        self.alive = True
        self.version = ""
        self.cut_before = self.cut_after = ""
        self._lock = threading.Lock()
        self._table: list[tuple[str, Callable[..., str]]] = [
            (r"kubeadm version -o short", self._version),
            (r"curl -fsSL .*Release\.key", self._fine),
            (r"(mkdir|apt-get update|apt-mark hold|systemctl|ip link delete|ipvsadm) ?.*", self._fine),
            (r"ip6?tables-save", lambda: RULES),
            (r"ip6?tables-restore", self._fine),
            (r"apt-get install .*'kubeadm=(.+?)-\*'.*", self._install),
            (r"ls -A (\S+)", self._list),
            (r"ip -j -4 address show", self._links),
            (r"kubeadm init --config (\S+)", self._init),
            (r"kubeadm join --config (\S+)", self._join),
            (r"kubeadm token list .*", self._tokens),
            (r"kubeadm token create .*--ttl (\d+)s --description '(.*)'", self._token),
            (r"kubeadm init phase upload-certs .*--config (\S+)", self._upload),
            (r"kubeadm reset .*", self._reset),
            (r".*etcdctl .* member list -w json", self._members),
            (r".*etcdctl .* endpoint health .*", self._health),
            (r".*etcdctl .* member remove (\S+)", self._remove_member),
            (r"kubeadm certs check-expiration -o json", self._expiration),
            (r"kubeadm certs renew all", self._renew),
            (r"crictl .* ps -q .*", lambda: "aa\nbb\n"),
            (r"crictl .* stop aa bb", self._fine),
        ]
        self.certificates_end = datetime.now(UTC) + timedelta(days=365)

    # -- the way in ---------------------------------------------------------------------------------------------------

    def answer_or_fail(self) -> None:
        if not self.alive:
            raise UnreachableError(f"{self.target.place}: no SSH")

    def run(
        self, command: str, *, stdin: bytes = b"", timeout_s: float = 60, check: bool = True, secret: bool = False
    ) -> Answer:
        with self._lock:
            self.answer_or_fail()
            self._maybe_cut(self.cut_before, command)
            self.log.append(command)
            self.fed[command] = stdin
            answer = self._answer(command)
            self._maybe_cut(self.cut_after, command)
        if check and answer.code:
            raise RefusedError(f"{self.target.place}: `{command}` ended with {answer.code}: {answer.err}")
        return answer

    def _maybe_cut(self, word: str, command: str) -> None:
        if word and word in command:
            self.cut_before = self.cut_after = ""
            raise UnreachableError(f"{self.target.place}: the connection was cut")

    def _answer(self, command: str) -> Answer:
        for pattern, action in self._table:
            if match := re.fullmatch(pattern, command):
                try:
                    return Answer(0, action(*match.groups()) or "", "")
                except Refuse as no:
                    return Answer(no.code, "", str(no))
        raise AssertionError(f"no command that this host plays: {command}")

    def read(self, path: str) -> bytes | None:
        self.answer_or_fail()
        return self.files.get(path)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> bool:
        self.answer_or_fail()
        changed = self.files.get(path) != data
        self.files[path], self.modes[path] = data, mode
        return changed

    def remove(self, path: str) -> None:
        self.answer_or_fail()
        self.files = {
            name: data for name, data in self.files.items() if name != path and not name.startswith(path + "/")
        }

    # -- what the commands do -----------------------------------------------------------------------------------------

    def _fine(self, *_: str) -> str:
        return ""

    def _version(self) -> str:
        if not self.version:
            raise Refuse("kubeadm: not found", 127)
        return f"{self.version}\n"

    def _install(self, version: str) -> str:
        self.version = f"v{version}"
        return ""

    def _list(self, folder: str) -> str:
        inside = {name.removeprefix(folder + "/").split("/")[0] for name in self.files if name.startswith(folder + "/")}
        if not inside:
            raise Refuse(f"ls: cannot access '{folder}': No such file or directory", 2)
        return "\n".join(sorted(inside))

    def _links(self) -> str:
        return json.dumps([{"ifname": "eth0", "addr_info": [{"local": self.address}]}])

    def _documents(self, path: str) -> dict[str, dict[str, Any]]:
        assert self.modes[path] == 0o600, "a document with secrets in it is for root alone"
        return {doc["kind"]: doc for doc in yaml.safe_load_all(self.files[path])}

    def _init(self, path: str) -> str:
        documents = self._documents(path)
        self._preflight()
        if self.world.etcd:
            raise Refuse("the endpoint belongs to a cluster already")
        self.world.ca = self.world.ca or Authority().pem
        self._become_control_plane(documents["InitConfiguration"])
        return "Your Kubernetes control-plane has initialized successfully!"

    def _join(self, path: str) -> str:
        document = self._documents(path)["JoinConfiguration"]
        self._preflight()
        shown = document["discovery"]["bootstrapToken"]
        held = self.world.tokens.get(shown["token"])
        if held is None or datetime.fromisoformat(held["expires"]) <= self.world.now:
            raise Refuse("could not find a JWS signature in the cluster-info ConfigMap for token ID")
        if shown["caCertHashes"] != [ca_hash(self.world.ca)]:
            raise Refuse("cluster CA found in cluster-info ConfigMap is invalid: none of the public keys are pinned")
        if "controlPlane" not in document:
            self._become_member(document)
            return ""
        if document["controlPlane"]["certificateKey"] != self.world.certificate_key:
            raise Refuse("error decoding secret data with provided key: cipher: message authentication failed")
        self._become_control_plane(document)
        return ""

    def _preflight(self) -> None:
        for name in ("/etc/kubernetes/kubelet.conf", "/etc/kubernetes/manifests/kube-apiserver.yaml"):
            if name in self.files:
                raise Refuse(f"[ERROR FileAvailable]: {name} already exists")

    def _become_member(self, document: dict[str, Any]) -> None:
        self.files[PKI] = self.world.ca.encode()
        self.files["/etc/kubernetes/kubelet.conf"] = b"kubelet"
        if self.world.api is not None:
            name = document["nodeRegistration"]["name"]
            self.world.api.make("/api/v1/nodes", {"metadata": {"name": name}})
            condition = {"type": "Ready", "status": "True", "reason": "Test", "message": "as the test says"}
            self.world.api.patch(f"/api/v1/nodes/{name}/status", {"status": {"conditions": [condition]}})

    def _become_control_plane(self, document: dict[str, Any]) -> None:
        self._become_member(document)
        self.files["/etc/kubernetes/admin.conf"] = self.world.kubeconfig.encode()
        self.files["/etc/kubernetes/manifests/kube-apiserver.yaml"] = b"pod"
        self.files["/var/lib/etcd/member/wal"] = b"data"
        self.world.etcd[self.name] = 0xA0 + len(self.world.etcd)

    def _tokens(self) -> str:
        return "\n".join(json.dumps(token, indent=4) for token in self.world.tokens.values())

    def _token(self, ttl: str, description: str) -> str:
        made = f"{secrets.token_hex(3)}.{secrets.token_hex(8)}"
        self.world.tokens[made] = {
            "token": made,
            "description": description,
            "expires": (self.world.now + timedelta(seconds=int(ttl))).isoformat(),
            "usages": ["authentication", "signing"],
            "groups": ["system:bootstrappers:kubeadm:default-node-token"],
        }
        return f"{made}\n"

    def _upload(self, path: str) -> str:
        self.world.certificate_key = self._documents(path)["InitConfiguration"]["certificateKey"]
        self.world.uploads += 1
        return ""

    def _reset(self) -> str:
        for folder in ("/etc/kubernetes/manifests", "/etc/kubernetes/pki", "/var/lib/etcd", "/etc/kubernetes"):
            self.remove(folder)
        return ""

    def _members(self) -> str:
        members = [
            {"ID": number, "name": name, "clientURLs": [f"https://{self.world.hosts[name].address}:2379"]}
            for name, number in self.world.etcd.items()
        ]
        return json.dumps({"members": members})

    def _health(self) -> str:
        items = [
            {"endpoint": f"https://{self.world.hosts[name].address}:2379", "health": self.world.hosts[name].alive}
            for name in self.world.etcd
        ]
        return json.dumps(items)

    def _remove_member(self, number: str) -> str:
        self.world.etcd = {name: held for name, held in self.world.etcd.items() if f"{held:x}" != number}
        return ""

    def _expiration(self) -> str:
        day = self.certificates_end.strftime("%Y-%m-%dT%H:%M:%SZ")
        names = ("admin.conf", "apiserver", "etcd-server")
        return json.dumps({"certificates": [{"name": n, "expirationDate": day, "missing": False} for n in names]})

    def _renew(self) -> str:
        self.certificates_end = datetime.now(UTC) + timedelta(days=365)
        return ""


class Refuse(Exception):
    """A command's own error."""

    def __init__(self, words: str, code: int = 1) -> None:
        super().__init__(words)
        self.code = code
