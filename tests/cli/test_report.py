"""Where the report's facts come from: files, boards, nodes and the API; and that none of them is a secret."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import ssl
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli import report, run_log
from cli import report_platform as platform
from cli.observe import Lab
from cli.observe_scene import look
from cli.report_certificates import certificates
from cli.report_lab import Certificate
from cli.report_page import page
from cli.stacks import Stack
from components import etcd_backup
from providers.errors import UserError
from providers.talos import pki
from providers.talos.secrets import SecretsBundle
from settings import load
from tests.cli.events import first_up
from tests.cli.lab import lab as bare
from tests.providers.kubernetes.wire import Authority, kubeconfig

ROOT = Path(__file__).parents[2]
HOST = "127.114.0.1"
LIST = "/apis/cert-manager.io/v1/certificates"


@contextmanager
def served(answers: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    """An API server with these objects, by path. Yields its URL and a kubeconfig for it."""
    authority = Authority()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known = self.path in answers
            status = {"kind": "Status", "apiVersion": "v1", "message": "not found", "code": 404}
            payload = json.dumps(answers[self.path] if known else status).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    certificate, key = authority.issue("server", addresses=(HOST,))
    (folder / "server.pem").write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        url = f"https://{HOST}:{server.server_port}"
        yield url, kubeconfig(authority, url)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def lab(root: Path, config: str | None = None, *, talos: bool = False) -> Lab:
    """The shipped twin's settings on a stack that keeps its files under `root`; nothing listens at its addresses."""
    text = (ROOT / "Pulumi.twin.yaml").read_text().replace("127.10.0.", "127.114.9.")
    path = root / "Pulumi.home.yaml"
    path.write_text(text)
    certificate = SecretsBundle.generate().issue_client(ttl=timedelta(days=20)) if talos else None
    return Lab(Stack("home", root), load(path, None), certificate, config)


def by_name(found: tuple[Certificate, ...]) -> dict[str, Certificate]:
    return {it.name: it for it in found}


def test_the_certificates_of_this_machines_files(tmp_path: Path) -> None:
    found = by_name(certificates(lab(tmp_path, kubeconfig(Authority(), "https://127.114.9.10:6443"), talos=True)))
    now = datetime.now(UTC)
    assert found["Talos CA"].days(now) == 3649
    assert found["Talos client"].days(now) == 19
    assert found["Talos client"].state(now) == "soon"
    assert found["Kubernetes CA"].days(now) == 0
    assert found["Kubernetes client"].place == "kubeconfig"
    assert (found["etcd CA"].until, found["etcd CA"].note) == (None, "no control plane shows its machine config")
    assert (found["Kubernetes API"].until, found["Kubernetes API"].note) == (None, "no answer")
    assert (found["BMC of board1"].note, found["BMC of board1"].counts) == ("no answer", False)
    assert found["home CA"].note == "the API gives no answer"


def test_before_the_first_up_only_the_boards_have_certificates(tmp_path: Path) -> None:
    assert [it.name for it in certificates(lab(tmp_path))] == ["BMC of board1"]


def test_a_damaged_certificate_says_so(tmp_path: Path) -> None:
    broken = dataclasses.replace(lab(tmp_path), certificate=pki.ClientCert("no PEM", "neither", "nor"))
    assert "not a PEM certificate" in by_name(certificates(broken))["Talos CA"].note
    found = by_name(certificates(lab(tmp_path, "no: kubeconfig")))
    assert "kubeconfig: cannot be read" in found["Kubernetes client"].note


def test_what_a_board_and_the_api_show_to_everybody(tmp_path: Path) -> None:
    with served({}, tmp_path) as (url, config):
        here = lab(tmp_path, config)
        address = url.removeprefix("https://")
        board = here.settings.boards["board1"].model_copy(update={"address": address})
        boards = here.settings.model_copy(update={"boards": {"board1": board}})
        found = by_name(certificates(dataclasses.replace(here, settings=boards)))
    assert found["BMC of board1"].days(datetime.now(UTC)) == 0
    assert found["BMC of board1"].state(datetime.now(UTC)) == "good"  # nobody minds its end


def test_what_cert_manager_issued_is_read_without_its_keys(tmp_path: Path) -> None:
    items = [
        {
            "metadata": {"name": "home-ca", "namespace": "cert-manager"},
            "spec": {"isCA": True},
            "status": {"notAfter": "2036-11-01T10:00:00Z"},
        },
        {"metadata": {"name": "traefik-tls", "namespace": "traefik"}, "spec": {}, "status": {}},
    ]
    with served({LIST: {"items": items}}, tmp_path) as (_, config):
        found = by_name(certificates(lab(tmp_path, config)))
    assert found["home CA"].until == datetime(2036, 11, 1, 10, tzinfo=UTC)
    assert found["traefik-tls"].note == "not issued yet"


def test_a_cluster_without_cert_manager_has_no_more(tmp_path: Path) -> None:
    with served({}, tmp_path) as (_, config):
        assert "home CA" not in by_name(certificates(lab(tmp_path, config)))


def test_a_certificate_of_the_owners_own(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("home.example")
    here = lab(tmp_path)
    values = {"own": {"certificate": certificate, "key": key}}
    traefik = here.settings.platform.traefik
    assert traefik is not None
    changed = type(traefik).model_validate({"certificate": values})
    platform_settings = here.settings.platform.model_copy(update={"traefik": changed})
    settings = here.settings.model_copy(update={"platform": platform_settings})
    found = by_name(certificates(dataclasses.replace(here, settings=settings)))["certificate of your own"]
    assert found.days(datetime.now(UTC)) == 0
    assert key not in repr(found)


def test_the_parts_that_are_on_with_their_versions_hosts_and_addresses(tmp_path: Path) -> None:
    found = {it.name: it for it in platform.parts(lab(tmp_path))}
    assert list(found)[:3] == ["metallb", "metrics-server", "cert-manager"]
    assert found["traefik"].hosts == ("traefik.local",)
    assert found["traefik"].addresses == ("127.114.9.234",)
    assert found["dns"].addresses == ("127.114.9.240", "127.114.9.249")
    assert found["dns"].version.startswith("v0.")
    assert found["monitoring"].version
    assert found["nfs"].version
    assert found["web"].version == "nginxinc/nginx-unprivileged:1.29.1"
    assert found["web"].hosts == ("web.local",)


def test_a_lab_without_a_platform_has_no_parts(tmp_path: Path) -> None:
    assert platform.parts(bare(tmp_path)) == ()
    assert platform.job(bare(tmp_path)) is None


def test_only_services_of_the_lan_are_listed(tmp_path: Path) -> None:
    def service(name: str, kind: str, ip: str = "") -> dict[str, Any]:
        ports = [{"port": 53, "protocol": "UDP"}, {"port": 80}]
        ingress = [{"ip": ip}] if ip else []
        spec = {"type": kind, "ports": ports}
        status = {"loadBalancer": {"ingress": ingress} if ip else {}}
        return {"metadata": {"name": name, "namespace": "x"}, "spec": spec, "status": status}

    items = [service("a", "LoadBalancer", "127.114.9.200"), service("b", "ClusterIP"), service("c", "LoadBalancer")]
    with served({platform.SERVICES: {"items": items}}, tmp_path) as (_, config):
        found = platform.services(lab(tmp_path, config))
    assert found is not None
    assert [(it.name, it.address, it.ports) for it in found] == [
        ("a", "127.114.9.200", ("53/UDP", "80/TCP")),
        ("c", "", ("53/UDP", "80/TCP")),
    ]
    assert platform.services(lab(tmp_path)) is None


def test_the_backup_job_is_the_one_that_the_program_makes() -> None:
    assert platform.CRON_JOB.endswith(f"/namespaces/{etcd_backup.NAMESPACE}/cronjobs/{etcd_backup.NAME}")


def test_what_became_of_the_backup_job(tmp_path: Path) -> None:
    job = {
        "spec": {"suspend": True},
        "status": {"lastSuccessfulTime": "2026-11-21T03:30:00Z", "lastScheduleTime": "2026-11-21T03:30:00Z"},
    }
    with served({platform.CRON_JOB: job}, tmp_path) as (_, config):
        found = platform.job(lab(tmp_path, config))
    assert found is not None
    assert found.succeeded == datetime(2026, 11, 21, 3, 30, tzinfo=UTC)
    assert found.suspended
    assert found.target == "127.114.9.3:/export"
    with served({}, tmp_path) as (_, config):
        gone = platform.job(lab(tmp_path, config))
    assert gone is not None
    assert gone.note.startswith("it is not in the cluster")
    away = platform.job(lab(tmp_path))
    assert away is not None
    assert away.note == "the API gives no answer"


def test_the_backups_of_this_machine_newest_first(tmp_path: Path) -> None:
    stack = Stack("home", tmp_path)
    made = (("backups", "etcd-home-1.db", 50), ("states", "s.tar.gz", 10), ("backups", ".half", 1))
    for folder, name, age in (*made, ("backups", "etcd-home-1.db.token", 1)):
        path = stack.folder / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 7)
        os.utime(path, (1_763_740_000 - age, 1_763_740_000 - age))
    found = report.backups(stack)
    assert [(it.kind, it.file, it.size_bytes) for it in found] == [
        ("state", "s.tar.gz", 7),
        ("etcd", "etcd-home-1.db", 7),
    ]


def test_versions_stand_beside_what_was_seen(tmp_path: Path) -> None:
    here = lab(tmp_path)
    found = {it.what: it for it in report.versions(here, look(here))}
    assert (found["Talos"].wanted, found["Talos"].seen) == ("v1.13.9", "")
    assert found["Kubernetes API"].wanted == "v1.36.1"


def test_a_page_of_a_lab_that_is_away_has_no_secret_in_it(tmp_path: Path) -> None:
    config = kubeconfig(Authority(), "https://127.114.9.10:6443")
    here = lab(tmp_path, config, talos=True)
    board = here.settings.boards["board1"]
    opened = type(board).model_validate({**board.model_dump(), "password": "a-password-of-mine"})
    here = dataclasses.replace(here, settings=here.settings.model_copy(update={"boards": {"board1": opened}}))
    with run_log.recorded(here.stack, "up") as record:
        assert record.path is not None
        record.path.write_text("".join(first_up()))
        record.code = 1
    found = report.gather(here)
    text = page(found) + repr(found)
    assert "the Kubernetes API gives no answer" in text
    assert "the last up failed" in text
    assert "a-password-of-mine" not in text
    assert here.certificate is not None
    keys = [here.certificate.key, *json.loads(config)["users"][0]["user"].values()]
    for key in keys:
        assert key.strip() not in text
    assert "PRIVATE KEY" not in text
    assert "-----BEGIN" not in text


def test_one_file_is_written_that_its_owner_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    report.make(bare(tmp_path), folder / "lab.html", as_json=False)
    path = folder / "lab.html"
    assert f"wrote {path}" in capsys.readouterr().err
    assert path.read_text().startswith("<!doctype html>")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(folder.iterdir()) == [path]


def test_the_facts_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.make(bare(tmp_path), None, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert {"made", "scene", "versions", "certificates", "backups", "job", "parts", "services", "runs"} == set(found)


def test_where_a_page_goes(tmp_path: Path) -> None:
    stack = Stack("home", tmp_path)
    assert report.place(stack, None) == tmp_path / ".homelab" / "home" / "report.html"
    assert report.place(stack, tmp_path) == tmp_path / "report.html"
    with pytest.raises(UserError, match="there is no folder"):
        report.place(stack, tmp_path / "missing" / "x.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="can't be written"):
        report.write("x", tmp_path / "folder" / ".." / "folder")
