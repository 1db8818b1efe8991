"""The Image Factory's API (github.com/siderolabs/image-factory): it makes images of what it was told of once."""

from __future__ import annotations

import httpx2

from providers.errors import RefusedError, UnreachableError


def register(factory: str, recipe: str, timeout_s: float = 30.0) -> None:
    """Tell the factory of a schematic, without which it makes no image; repeating it is harmless.

    Args:
        factory: its base URL.
        recipe: the schematic's YAML.
        timeout_s: seconds for the call.

    Raises:
        UnreachableError: no answer.
        RefusedError: the factory does not take it; in its own words.
    """
    url = f"{factory.rstrip('/')}/schematics"
    try:
        answer = httpx2.post(url, content=recipe.encode(), timeout=timeout_s)
    except httpx2.HTTPError as error:
        raise UnreachableError(
            f"{url}: no answer ({error}); is cluster.talos.factory right, and is it reachable?"
        ) from error
    if answer.status_code not in (httpx2.codes.OK, httpx2.codes.CREATED):
        raise RefusedError(f"{url}: {answer.status_code} {answer.text.strip()[:200]}; check cluster.talos.extensions")
