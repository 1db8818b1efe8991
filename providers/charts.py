"""Helm charts as files on this machine: fetched once from a chart repository, and known by their digest ever after.

The wire is that of a classic chart repository: `index.yaml` and archives beside it,
https://helm.sh/docs/topics/chart_repository/. Upstreams that have none are read from their registry (`oci://`).
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import yaml

from providers import oci
from providers.deadline import Deadline
from providers.dynamic import lazily
from providers.errors import HomelabError, ProtocolError, RefusedError, UnreachableError, UserError

if TYPE_CHECKING:
    import httpx2
else:
    httpx2 = lazily("httpx2")  # most previews fetch nothing

CONNECT_S = 10.0
READ_S = 30.0
FETCH_S = 120.0  # one file with all of its tries
TRIES = 4
PAUSE_S = 0.5  # before the second try, doubled for each further one
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
LOCK_HEADER = (
    "# SHA-256 of every chart that was fetched: repository, chart, version. A chart that changes under its version is\n"
    "# refused. Belongs into version control. To take a changed chart after all, delete its line.\n"
)
_GZIP = b"\x1f\x8b"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the indexes of large repositories have megabytes


class Library:
    """The archives of charts below one folder.

    Args:
        folder: where archives are kept; relative, so that state holds no machine's paths.
        lock: file with the digests; None where the repository makes its charts on this machine and may change them at
            any time, so that they are fetched again and again.
        mirror: a repository that is asked instead of every chart's own.
        pause_s: seconds before the second try of a request.
    """

    def __init__(
        self, folder: Path, lock: Path | None = None, mirror: str | None = None, *, pause_s: float = PAUSE_S
    ) -> None:
        self.folder = folder
        self.mirror = mirror
        self._lock = lock
        self._pause_s = pause_s
        self._indexes: dict[str, Mapping[str, Any]] = {}

    def archive(self, repo: str, chart: str, version: str) -> str:
        """The path of a chart's archive, which is fetched only when it isn't there.

        Args:
            repo: URL of the chart's own repository.
            chart: name of the chart.
            version: exactly as the repository writes it.

        Raises:
            UserError: the repository has no such chart or version.
            RefusedError: the digest is another than when the chart was first fetched.
            ProtocolError: the repository answers with something that is no index or no chart.
            UnreachableError: the repository gives no answer.
        """
        source = (self.mirror or repo).rstrip("/")
        file = self.folder / _slug(source) / f"{chart}-{version}.tgz"
        if self._lock is None:
            self._renew(source, chart, version, file)
        elif not file.exists() or self._locked(source, chart, version) not in (None, _sha256(file.read_bytes())):
            self._fetch(source, chart, version, file)
        if self._lock is not None and self._locked(source, chart, version) is None:
            self._note(source, chart, version, _sha256(file.read_bytes()))
        return str(file)

    def _renew(self, source: str, chart: str, version: str, file: Path) -> None:
        try:
            self._fetch(source, chart, version, file)
        except UnreachableError:
            if not file.exists():
                raise

    def _fetch(self, source: str, chart: str, version: str, file: Path) -> None:
        try:
            data, promised, url = self._download(source, chart, version)
        except UnreachableError as error:
            raise UnreachableError(
                f"chart {chart} {version}: {error}; try again, set platform.charts.mirror, or put the archive at {file}"
            ) from error
        digest = _sha256(data)
        _expect(url, data, digest, promised)
        locked = self._locked(source, chart, version)
        if locked not in (None, digest):
            raise RefusedError(
                f"chart {chart} {version}: {url} has the SHA-256 {digest}, but it was {locked} when it was first "
                f"fetched; somebody changed it under its version. If that is meant, delete its line in {self._lock}"
            )
        write(file, data)

    def _download(self, source: str, chart: str, version: str) -> tuple[bytes, str, str]:
        """The archive, the digest that its source promises, and where it is from."""
        if source.startswith("oci"):
            data, promised = oci.pull(source, chart, version, self._answer)
            return data, promised, f"{source}/{chart}:{version}"
        entry = self._entry(source, chart, version)
        url = _archive_url(source, chart, entry)
        return self._get(url), str(entry.get("digest") or ""), url

    def _entry(self, source: str, chart: str, version: str) -> Mapping[str, Any]:
        entries = self._index(source)
        if chart not in entries:
            known = ", ".join(sorted(entries)[:12]) or "none at all"
            raise UserError(
                f"chart {chart}: the repository {source} has no chart of that name (it has {known}); {self._mend()}"
            )
        versions = {str(entry.get("version")): entry for entry in entries[chart] or ()}
        if version not in versions:
            raise UserError(
                f"chart {chart}: the repository {source} has no version {version!r} of it, "
                f"but {', '.join(list(versions)[:5]) or 'none at all'}; check the part's version, and {self._mend()}"
            )
        found: Mapping[str, Any] = versions[version]
        return found

    def _mend(self) -> str:
        if self.mirror:
            return "add it to the mirror, or check platform.charts.mirror"
        return "check components/versions.py"

    def _index(self, source: str) -> Mapping[str, Any]:
        if source not in self._indexes:
            url = f"{source}/index.yaml"
            try:
                self._indexes[source] = dict(yaml.load(self._get(url), _Loader)["entries"] or {})  # noqa: S506  # safe
            except (yaml.YAMLError, ValueError, TypeError, KeyError) as error:
                raise ProtocolError(f"{url}: is not the index of a chart repository; {self._mend()}") from error
        return self._indexes[source]

    def _get(self, url: str) -> bytes:
        answer = self._answer(url, {})
        if not answer.is_success:
            raise RefusedError(f"{url}: the server wants a login (HTTP status {answer.status_code}); {self._mend()}")
        return answer.content

    def _answer(self, url: str, headers: Mapping[str, str]) -> httpx2.Response:
        """Success, or 401, which a registry answers to everybody first."""
        deadline, pause = Deadline(FETCH_S), self._pause_s
        for _ in range(TRIES - 1):
            try:
                return _ask(url, headers, self._mend())
            except UnreachableError:
                if deadline.expired:
                    raise
                deadline.sleep(pause)
                pause *= 2
        return _ask(url, headers, self._mend())

    def _locked(self, source: str, chart: str, version: str) -> str | None:
        if self._lock is None:
            return None
        found = _read_lock(self._lock).get(source, {}).get(chart, {}).get(version)
        return None if found is None else str(found)

    def _note(self, source: str, chart: str, version: str, digest: str) -> None:
        if self._lock is None:
            return
        known = _read_lock(self._lock)
        known.setdefault(source, {}).setdefault(chart, {})[version] = digest
        write(self._lock, (LOCK_HEADER + yaml.safe_dump(known, width=200)).encode())


def _ask(url: str, headers: Mapping[str, str], mend: str) -> httpx2.Response:
    timeout = httpx2.Timeout(READ_S, connect=CONNECT_S)
    try:
        answer = httpx2.get(url, headers=dict(headers), timeout=timeout, follow_redirects=True)
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
        raise UserError(f"{url}: can't be followed ({error}); {mend}") from error
    except httpx2.HTTPError as error:
        raise UnreachableError(f"{url}: no answer ({str(error) or type(error).__name__})") from error
    if answer.status_code in PASSING:
        raise UnreachableError(f"{url}: the server can't serve now (HTTP status {answer.status_code})")
    if not answer.is_success and answer.status_code != httpx2.codes.UNAUTHORIZED:
        raise _refusal(url, answer.status_code, mend)
    return answer


def _refusal(url: str, status: int, mend: str) -> HomelabError:
    if status in (404, 410):
        return UserError(f"{url}: is not there (HTTP status {status}); {mend}")
    return RefusedError(f"{url}: the server refuses it (HTTP status {status}); {mend}")


def _archive_url(source: str, chart: str, entry: Mapping[str, Any]) -> str:
    urls = entry.get("urls") or ()
    if not urls:
        raise ProtocolError(f"chart {chart}: the index of {source} gives no URL for it")
    return urljoin(f"{source}/", str(urls[0]))


def _expect(url: str, data: bytes, digest: str, promised: str) -> None:
    promised = promised.removeprefix("sha256:")
    if promised and promised != digest:
        raise ProtocolError(f"{url}: has the SHA-256 {digest}, but the repository says {promised}")
    if not data.startswith(_GZIP):
        raise ProtocolError(f"{url}: is not the archive of a chart; a login page or a proxy answers there")


def _read_lock(lock: Path) -> dict[str, dict[str, dict[str, str]]]:
    try:
        known = yaml.safe_load(lock.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{lock}: is not YAML; restore it from version control") from error
    charts = list(known.values()) if isinstance(known, dict) else [None]
    if not all(isinstance(found, dict) and all(isinstance(item, dict) for item in found.values()) for found in charts):
        raise UserError(f"{lock}: is not a list of charts; restore it from version control")
    return dict(known)


def write(file: Path, data: bytes) -> None:
    """Put a file in place whole or not at all, readable for everybody, also beside another run."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as part:
        path = Path(part.name)
        try:
            part.write(data)
            part.close()
            path.chmod(0o644)
            path.replace(file)
        finally:
            path.unlink(missing_ok=True)


def _slug(source: str) -> str:
    """A repository's URL as a folder's name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", source.partition("://")[2]).strip("_")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
