"""What every piece of the settings is made with."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def key(meaning: str, example: Any = None, unit: str = "", derived: str = "", **rest: Any) -> Any:
    """A field with what the reference says of it: meaning, unit, an example for a key that has no default.

    `derived` says what a key is that `load` fills in from others when the file leaves it out.
    """
    extra: dict[str, Any] = {key: text for key, text in (("unit", unit), ("derived", derived)) if text}
    return Field(description=meaning, examples=None if example is None else [example], json_schema_extra=extra, **rest)


class Part(BaseModel):
    """A frozen piece of the settings that knows all of its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=False)
