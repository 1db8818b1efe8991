"""Whether a live Kubernetes object still says all that was applied. What others added to it is theirs.

Only the places of differences are told, never values: what somebody wrote into an object by hand may be a secret.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from providers.deployment import HIDDEN

# What tells the items of a list of maps from each other, by Kubernetes' own merge keys; the first that fits is taken.
KEYS: tuple[tuple[str, ...], ...] = (
    ("name",),
    ("containerPort", "protocol"),
    ("port", "protocol"),
    ("mountPath",),
    ("topologyKey", "whenUnsatisfiable"),
    ("ip",),
    ("uid",),
)
SETS = frozenset({"finalizers"})  # lists that others add to
SERVERS = frozenset({"status"})  # what charts write of it means nothing to the API server
_AMOUNT = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)(m|u|n|[kMGTPE]i?|Ki|[eE][+-]?[0-9]+)?\Z")
_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)}
_DECIMAL = {letter: 1000**power for power, letter in enumerate("kMGTPE", 1)}
_SMALL = {"m": Decimal("1e-3"), "u": Decimal("1e-6"), "n": Decimal("1e-9"), "": Decimal(1)}

Place = tuple[str, ...]


def differences(applied: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[str, ...]:
    """The places where a live object lacks what was applied, such as `spec.template.spec.containers[web].image`."""
    wished = {key: value for key, value in _in_data(applied).items() if key not in SERVERS}
    if _is_aggregated(wished):
        wished.pop("rules", None)  # a controller of Kubernetes fills them in
    return tuple(dict.fromkeys(shown(place) for place in _missing(wished, live, ())))


def shown(place: Place) -> str:
    """A place as people read it."""
    text = ""
    for part in place:
        text += part if part.startswith("[") or not text else f".{part}"
    return text or "the object"


def _in_data(applied: Mapping[str, Any]) -> dict[str, Any]:
    """A Secret's `stringData` where the API server puts it: in `data`, as base64."""
    kept = {key: value for key, value in applied.items() if key != "stringData"}
    texts = applied.get("stringData")
    if not isinstance(texts, Mapping):
        return kept
    coded = {key: _coded(text) for key, text in texts.items()}
    return {**kept, "data": {**(applied.get("data") or {}), **coded}}


def _coded(text: Any) -> Any:
    return text if text is HIDDEN else base64.b64encode(str(text).encode()).decode()


def _is_aggregated(applied: Mapping[str, Any]) -> bool:
    return applied.get("kind") == "ClusterRole" and bool(applied.get("aggregationRule"))


def _missing(applied: Any, live: Any, place: Place) -> Iterator[Place]:
    if applied is HIDDEN or _says_nothing(applied, live):
        return
    if isinstance(applied, Mapping):
        yield from _in_map(applied, live, place)
    elif isinstance(applied, list):
        yield from _in_list(applied, live, place)
    elif not _equal(applied, live, place):
        yield place


def _says_nothing(applied: Any, live: Any) -> bool:
    """Empty values are left out by the API server, and are as good as absent."""
    if live is None:
        return applied in (None, "", {}, []) or applied is False or (applied == 0 and not isinstance(applied, str))
    return applied is None or applied == {}


def _in_map(applied: Mapping[str, Any], live: Any, place: Place) -> Iterator[Place]:
    if not isinstance(live, Mapping):
        yield place
        return
    for key, value in applied.items():
        name = _spelled(str(key))
        yield from _missing(value, live.get(name), (*place, name))


def _spelled(key: str) -> str:
    """The engine writes `x_kubernetes_...` for the extensions of a schema."""
    return key.replace("_", "-") if key.startswith("x_kubernetes_") else key


def _in_list(applied: Sequence[Any], live: Any, place: Place) -> Iterator[Place]:
    if not isinstance(live, list):
        yield place
    elif place and place[-1] in SETS:
        yield from (place for item in applied if item not in live)
    elif (keys := _keys_of(applied, live)) is not None:
        found = {_identity(item, keys): item for item in live}
        for item in applied:
            name = _identity(item, keys)
            yield from _missing(item, found.get(name), (*place, f"[{'/'.join(name)}]"))
    elif len(applied) != len(live):
        yield place
    else:
        for index, (one, other) in enumerate(zip(applied, live, strict=True)):
            yield from _missing(one, other, (*place, f"[{index}]"))


def _keys_of(applied: Sequence[Any], live: Sequence[Any]) -> tuple[str, ...] | None:
    """The keys that tell all items of both lists apart; None where the order has to."""
    return next((keys for keys in KEYS if applied and _tells_apart(keys, applied) and _tells_apart(keys, live)), None)


def _tells_apart(keys: tuple[str, ...], items: Sequence[Any]) -> bool:
    if not all(isinstance(item, Mapping) and keys[0] in item for item in items):
        return False
    return len({_identity(item, keys) for item in items}) == len(items)


def _identity(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[str, ...]:
    """The values of the keys; a port without a protocol is TCP's."""
    return tuple(str(item.get(key, "TCP")) for key in keys)


def _equal(applied: Any, live: Any, place: Place) -> bool:
    if isinstance(applied, bool) or isinstance(live, bool):
        return applied is live
    if applied == live:
        return True
    return _is_amount_there(place) and _amount(applied) is not None and _amount(applied) == _amount(live)


def _is_amount_there(place: Place) -> bool:
    """Labels and annotations are texts, whatever they look like."""
    return not {"metadata", "data", "annotations", "labels"} & set(place)


def _amount(value: Any) -> Decimal | None:
    """A quantity of Kubernetes: `1000m` is `1`, and `1Gi` is 1073741824."""
    found = _AMOUNT.match(str(value)) if isinstance(value, (str, int, float)) else None
    if found is None:
        return None
    number, unit = found[1], found[2] or ""
    try:
        if unit[:1] in ("e", "E") and len(unit) > 1 and unit != "Ei":
            return Decimal(number + unit)
        factor = _SMALL.get(unit) or Decimal(_BINARY.get(unit) or _DECIMAL[unit])
        return Decimal(number) * factor
    except (InvalidOperation, KeyError):
        return None
