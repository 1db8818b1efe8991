"""One value of a file read on its own, so that a bad one hides no other."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError


def read(kind: Any, raw: object) -> Any:
    """The value as its kind reads it, or None where it is malformed."""
    try:
        return _adapter(kind).validate_python(raw)
    except ValidationError:
        return None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
