"""Talos' YAML: several documents in one text, read as Talos (YAML 1.2) reads it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from providers.errors import UserError

Document = dict[str, Any]


class _Loader(yaml.CSafeLoader):
    """PyYAML without YAML 1.1's surprises: `off` is a word, 12:30:45:11:22:33 is a MAC address, dates are texts."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's way to say it


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^(?:<<)$"), ["<"])


class _Dumper(yaml.CSafeDumper):
    """PyYAML without anchors: Talos reads them, people don't."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def load(text: str) -> list[Document]:
    """All documents of a text; empty ones are left out.

    Raises:
        UserError: it is not YAML, or a document is not a map.
    """
    try:
        found = [document for document in yaml.load_all(text, _Loader) if document is not None]
    except yaml.YAMLError as error:
        # The error's own text quotes the line, which may hold a secret.
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise UserError(f"not YAML{where}: {getattr(error, 'problem', None) or 'unreadable'}") from None
    if not all(isinstance(document, dict) for document in found):
        raise UserError("a YAML document is not a map of keys to values")
    return found


def dump(documents: Iterable[Mapping[str, Any]]) -> str:
    """The documents as one text; the same documents always give the same text."""
    return yaml.dump_all(
        [dict(document) for document in documents],
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        allow_unicode=True,
        width=2**16,
    )


def is_main(document: Mapping[str, Any]) -> bool:
    """Whether this is the v1alpha1 document, the one with `machine` and `cluster` and without a kind."""
    return "kind" not in document


def decoded(coded: str) -> str:
    """The PEM of a certificate or key as it stands in a machine config: base64.

    Raises:
        UserError: it is something else.
    """
    try:
        return base64.b64decode(coded, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, TypeError):
        raise UserError("machine config: a certificate in it is not base64 of PEM") from None


def main(documents: Iterable[Document]) -> Document:
    """The v1alpha1 document.

    Raises:
        UserError: there is none.
    """
    for document in documents:
        if is_main(document):
            return document
    raise UserError("machine config: no v1alpha1 document (the one with `machine:` and `cluster:`)")
