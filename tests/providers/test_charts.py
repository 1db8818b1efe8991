"""Charts: fetched once, known by their digest, and every way in which a repository can be wrong told apart."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from providers import oci
from providers.charts import TRIES, Library
from providers.errors import ProtocolError, RefusedError, UnreachableError, UserError

HOST = "127.101.0.1"
ARCHIVE = gzip.compress(b"a chart", mtime=0)
OTHER = gzip.compress(b"another chart", mtime=0)


class Repository:
    """A chart repository: path -> what is there; every request is noted."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: list[int] = []  # statuses to give before anything else
        self.asked: list[str] = []
        self.token = ""  # what readers must show, if anything
        self.url = ""

    def put(self, data: bytes = ARCHIVE, version: str = "1.2.3", name: str = "traefik", **index: object) -> None:
        self.files[f"/charts/{name}-{version}.tgz"] = data
        entry = {"version": version, "urls": [f"{name}-{version}.tgz"], "digest": digest(data), **index}
        known = yaml.safe_load(self.files.get("/charts/index.yaml", b"entries: {}"))
        known["entries"].setdefault(name, []).append(entry)
        self.files["/charts/index.yaml"] = yaml.safe_dump(known).encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def repository() -> Iterator[Repository]:
    found = Repository()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            body = found.files.get(self.path)
            status = found.answers.pop(0) if found.answers else 200 if body is not None else 404
            if found.token and self.headers.get("Authorization") != f"Bearer {found.token}" and "/v2/" in self.path:
                status = 401
            self.send_response(status)
            if status == 401:
                realm = found.url.replace("/charts", "/token")
                self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="here",scope="pull"')
            self.end_headers()
            if status == 200:
                self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    found.url = f"http://{HOST}:{server.server_port}/charts"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "charts", tmp_path / "charts.lock.yaml", pause_s=0.001)


def again(library: Library, tmp_path: Path) -> Library:
    """What the next run has: the same files, and nothing in memory."""
    return Library(library.folder, tmp_path / "charts.lock.yaml", library.mirror, pause_s=0.001)


def test_a_chart_is_fetched_once_and_its_digest_noted(repository, library, tmp_path):
    repository.put()
    file = library.archive(repository.url, "traefik", "1.2.3")
    assert Path(file).read_bytes() == ARCHIVE
    noted = yaml.safe_load((tmp_path / "charts.lock.yaml").read_text())
    assert noted == {repository.url: {"traefik": {"1.2.3": digest(ARCHIVE)}}}
    repository.asked.clear()
    assert again(library, tmp_path).archive(repository.url, "traefik", "1.2.3") == file
    assert repository.asked == []


def test_two_charts_of_one_repository_need_its_index_once(repository, library):
    repository.put()
    repository.put(name="crds")
    library.archive(repository.url, "traefik", "1.2.3")
    library.archive(repository.url + "/", "crds", "1.2.3")
    assert repository.asked.count("/charts/index.yaml") == 1


def test_the_path_is_relative_and_differs_by_repository(repository, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    repository.put()
    library = Library(Path(".homelab") / "charts", Path("lock.yaml"))
    port = repository.url.split(":")[2].split("/")[0]
    expected = f".homelab/charts/{HOST}_{port}_charts/traefik-1.2.3.tgz"
    assert library.archive(repository.url, "traefik", "1.2.3") == expected


def test_an_archive_put_there_by_hand_needs_no_network(library, tmp_path):
    file = library.folder / "charts.example.com" / "traefik-1.2.3.tgz"
    file.parent.mkdir(parents=True)
    file.write_bytes(ARCHIVE)
    assert library.archive("https://charts.example.com", "traefik", "1.2.3") == str(file)
    assert digest(ARCHIVE) in (tmp_path / "charts.lock.yaml").read_text()


def test_a_mirror_is_asked_instead(repository, tmp_path):
    repository.put()
    library = Library(tmp_path / "charts", tmp_path / "lock.yaml", repository.url, pause_s=0.001)
    assert Path(library.archive("https://charts.invalid", "traefik", "1.2.3")).read_bytes() == ARCHIVE


def test_a_chart_that_changed_under_its_version_is_refused(repository, library, tmp_path):
    repository.put()
    file = Path(library.archive(repository.url, "traefik", "1.2.3"))
    file.unlink()
    repository.files.clear()
    repository.put(OTHER)
    with pytest.raises(RefusedError, match="changed it under its version") as found:
        again(library, tmp_path).archive(repository.url, "traefik", "1.2.3")
    assert digest(ARCHIVE) in str(found.value)
    assert "charts.lock.yaml" in str(found.value)
    assert not file.exists()


def test_a_damaged_archive_is_fetched_again(repository, library, tmp_path):
    repository.put()
    file = Path(library.archive(repository.url, "traefik", "1.2.3"))
    file.write_bytes(ARCHIVE[:5])
    again(library, tmp_path).archive(repository.url, "traefik", "1.2.3")
    assert file.read_bytes() == ARCHIVE


def test_the_index_and_the_archive_must_agree(repository, library):
    repository.put(digest="0" * 64)
    with pytest.raises(ProtocolError, match="the repository says 0000"):
        library.archive(repository.url, "traefik", "1.2.3")


def test_a_login_page_is_no_chart(repository, library):
    page = b"<html>please log in</html>"
    repository.put(page)
    with pytest.raises(ProtocolError, match="is not the archive of a chart"):
        library.archive(repository.url, "traefik", "1.2.3")


@pytest.mark.parametrize("index", [b"<html></html>", b"just text", b"- a list", b"a: [", b"\xff\xfe\x00"])
def test_what_is_no_index(repository, library, index):
    repository.files["/charts/index.yaml"] = index
    with pytest.raises(ProtocolError, match="is not the index of a chart repository"):
        library.archive(repository.url, "traefik", "1.2.3")


def test_a_chart_that_is_not_there_names_those_that_are(repository, library):
    repository.put()
    with pytest.raises(UserError, match=r"no chart of that name \(it has traefik\)"):
        library.archive(repository.url, "longhorn", "1.2.3")


def test_a_version_that_is_not_there_names_some_that_are(repository, library):
    repository.put()
    with pytest.raises(UserError, match=r"has no version '9.9.9' of it, but 1.2.3"):
        library.archive(repository.url, "traefik", "9.9.9")


def test_a_mirror_without_the_chart_says_to_add_it(repository, tmp_path):
    repository.put()
    library = Library(tmp_path / "charts", tmp_path / "lock.yaml", repository.url)
    with pytest.raises(UserError, match="add it to the mirror"):
        library.archive("https://charts.invalid", "longhorn", "1.2.3")


def test_no_repository_at_that_url(repository, library):
    with pytest.raises(UserError, match=r"index.yaml: is not there \(HTTP status 404\)"):
        library.archive(repository.url, "traefik", "1.2.3")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_not_repeated(repository, library, status):
    repository.answers = [status]
    with pytest.raises(RefusedError, match=f"HTTP status {status}"):
        library.archive(repository.url, "traefik", "1.2.3")
    assert len(repository.asked) == 1


def test_a_server_that_is_busy_is_asked_again(repository, library):
    repository.put()
    repository.answers = [503, 429]
    library.archive(repository.url, "traefik", "1.2.3")
    assert repository.asked.count("/charts/index.yaml") == 3


def test_it_gives_up_after_some_tries_and_says_what_else_to_do(repository, library):
    repository.put()
    repository.answers = [503] * 10
    with pytest.raises(UnreachableError, match=r"set platform\.charts\.mirror, or put the archive at"):
        library.archive(repository.url, "traefik", "1.2.3")
    assert len(repository.asked) == TRIES


def test_nobody_listens(library):
    with pytest.raises(UnreachableError, match=r"chart traefik 1\.2\.3: .*no answer"):
        library.archive(f"http://{HOST}:9/charts", "traefik", "1.2.3")


def test_charts_made_on_this_machine_follow_their_repository(repository, tmp_path):
    """A twin's: no digest is noted, so that a chart which changes with the project is taken as it is."""
    repository.put()
    folder = tmp_path / "charts"
    file = Path(Library(folder, None, repository.url).archive("https://x.invalid", "traefik", "1.2.3"))
    repository.files.clear()
    repository.put(OTHER)
    Library(folder, None, repository.url).archive("https://x.invalid", "traefik", "1.2.3")
    assert file.read_bytes() == OTHER
    repository.answers = [503] * 10
    Library(folder, None, repository.url, pause_s=0.001).archive("https://x.invalid", "traefik", "1.2.3")
    assert [path.name for path in tmp_path.iterdir()] == ["charts"]


@pytest.mark.parametrize("text", ["- a list", "a: b", "a: {b: c}", "a: ["])
def test_a_broken_lock_says_how_to_mend_it(repository, library, tmp_path, text):
    repository.put()
    (tmp_path / "charts.lock.yaml").write_text(text)
    with pytest.raises(UserError, match="restore it from version control"):
        library.archive(repository.url, "traefik", "1.2.3")


def test_nothing_is_left_beside_the_archive(repository, library):
    repository.put()
    file = Path(library.archive(repository.url, "traefik", "1.2.3"))
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def in_registry(repository: Repository, data: bytes = ARCHIVE, **layer: str) -> str:
    """Put a chart there as a registry has it; gives the registry's URL."""
    known = {"mediaType": oci.CHART, "digest": f"sha256:{digest(data)}", **layer}
    manifest = {"layers": [{"mediaType": "application/other", "digest": "sha256:0"}, known]}
    repository.files["/v2/enix/exporter/manifests/4.2.0"] = json.dumps(manifest).encode()
    repository.files[f"/v2/enix/exporter/blobs/sha256:{digest(ARCHIVE)}"] = data
    repository.files["/token?service=here&scope=pull"] = json.dumps({"token": "let-me-in"}).encode()
    return repository.url.replace("http://", "oci+http://").replace("/charts", "/enix")


@pytest.mark.parametrize("token", ["", "let-me-in"])
def test_a_chart_out_of_a_registry(repository, library, token):
    repository.token = token
    source = in_registry(repository)
    assert Path(library.archive(source, "exporter", "4.2.0")).read_bytes() == ARCHIVE


def test_a_registry_that_lets_nobody_in(repository, library):
    source = in_registry(repository)
    repository.token = "another"
    with pytest.raises(RefusedError, match="the registry wants a login, or has no such chart"):
        library.archive(source, "exporter", "4.2.0")


def test_a_registry_without_the_version(repository, library):
    source = in_registry(repository)
    with pytest.raises(UserError, match=r"manifests/9.9.9: is not there"):
        library.archive(source, "exporter", "9.9.9")


def test_a_registry_that_gives_something_else(repository, library):
    source = in_registry(repository, mediaType="application/vnd.oci.image.layer.v1.tar+gzip")
    with pytest.raises(ProtocolError, match="holds no chart"):
        library.archive(source, "exporter", "4.2.0")


def test_what_a_registry_promises_must_come(repository, library):
    source = in_registry(repository)
    repository.files[f"/v2/enix/exporter/blobs/sha256:{digest(ARCHIVE)}"] = OTHER
    with pytest.raises(ProtocolError, match="the repository says"):
        library.archive(source, "exporter", "4.2.0")
