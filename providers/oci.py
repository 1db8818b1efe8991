"""Charts out of a container registry, where some upstreams publish nowhere else.

The wire is the OCI distribution API, https://github.com/opencontainers/distribution-spec/blob/main/spec.md, with the
token that registries ask anonymous readers to fetch, https://distribution.github.io/distribution/spec/auth/token/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from providers.dynamic import lazily
from providers.errors import HomelabError, ProtocolError, RefusedError

if TYPE_CHECKING:
    import httpx2
else:
    httpx2 = lazily("httpx2")  # most previews fetch nothing

CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SCHEME = "oci://"

Get = Callable[[str, Mapping[str, str]], "httpx2.Response"]


def pull(repo: str, chart: str, version: str, get: Get) -> tuple[bytes, str]:
    """A chart's archive, and the SHA-256 that its manifest promises.

    Args:
        repo: such as `oci://quay.io/enix/charts`; `oci+http://` for a registry without TLS.
        chart: name of the chart.
        version: its tag; a registry writes `+` as `_`.
        get: sends one request; it gives success or 401 back and raises for all else.

    Raises:
        RefusedError: the registry wants a login.
        ProtocolError: it answers with something that is no chart.
    """
    base = _base(repo, chart)
    manifest = f"{base}/manifests/{version.replace('+', '_')}"
    answer = get(manifest, {"Accept": MANIFEST})
    headers: dict[str, str] = {}
    if answer.status_code == httpx2.codes.UNAUTHORIZED:
        headers = {"Authorization": f"Bearer {_token(answer, get)}"}
        answer = _let_in(get(manifest, {"Accept": MANIFEST, **headers}))
    digest = _digest(_parsed(answer), manifest)
    return _let_in(get(f"{base}/blobs/{digest}", headers)).content, digest


def _base(repo: str, chart: str) -> str:
    scheme, _, rest = repo.partition("://")
    host, _, path = rest.partition("/")
    parts = "/".join(part for part in (path.strip("/"), chart) if part)
    return f"{'http' if scheme == 'oci+http' else 'https'}://{host}/v2/{parts}"


def _token(answer: httpx2.Response, get: Get) -> str:
    """Ask where the registry says that readers get their token."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', answer.headers.get("www-authenticate", "")))
    if "realm" not in asked:
        raise _login(answer)
    query = urlencode({key: asked[key] for key in ("service", "scope") if key in asked})
    given = _parsed(_let_in(get(f"{asked['realm']}?{query}", {})))
    token = given.get("token") or given.get("access_token")
    if not token:
        raise ProtocolError(f"{asked['realm']}: gives no token")
    return str(token)


def _let_in(answer: httpx2.Response) -> httpx2.Response:
    if answer.status_code == httpx2.codes.UNAUTHORIZED:
        raise _login(answer)
    return answer


def _login(answer: httpx2.Response) -> HomelabError:
    return RefusedError(f"{answer.url}: the registry wants a login, or has no such chart")


def _parsed(answer: httpx2.Response) -> Mapping[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ProtocolError(f"{answer.url}: is not an OCI registry")
    return found


def _digest(manifest: Mapping[str, Any], url: str) -> str:
    for layer in manifest.get("layers") or ():
        if isinstance(layer, dict) and layer.get("mediaType") == CHART:
            return str(layer.get("digest"))
    raise ProtocolError(f"{url}: holds no chart")
