"""The edge between the engine's property bags and our typed code: one base class for all dynamic providers.

Module path and class name of every provider are part of the state's format: state holds a reference to them, no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pulumi.dynamic import CheckFailure, CheckResult, DiffResult, ResourceProvider
from pulumi.output import Unknown

from providers import engine

engine.adapt_process()

Props = dict[str, Any]  # a property bag as it comes from the wire


def is_known(value: object) -> bool:
    """Whether a property has its final value; in a preview it may not, on any level."""
    if isinstance(value, Unknown):
        return False
    if isinstance(value, Mapping):
        return all(is_known(item) for item in value.values())
    if isinstance(value, list):
        return all(is_known(item) for item in value)
    return True


def changed_keys(olds: Mapping[str, Any], news: Mapping[str, Any], keys: tuple[str, ...]) -> list[str]:
    """The keys whose values differ; an unknown value counts as different, a missing one equals None."""
    return [key for key in keys if not is_known(news.get(key)) or olds.get(key) != news.get(key)]


class Provider(ResourceProvider):
    """A dynamic provider over declared inputs.

    `inputs` are the keys that a change of which updates the resource; `memos` are stored with it but never cause
    an update on their own. Nothing is ever replaced: what is physical is changed in place or refused.
    """

    serialize_as_secret_always = False  # the reference to a class is no secret
    inputs: ClassVar[tuple[str, ...]] = ()
    memos: ClassVar[tuple[str, ...]] = ()

    def check(self, olds: Props, news: Props) -> CheckResult:
        """Refuse, before anything is touched, what `problems` finds."""
        return CheckResult(news, [CheckFailure(key, reason) for key, reason in self.problems(olds, news)])

    def problems(self, olds: Props, news: Props) -> list[tuple[str, str]]:  # for subclasses
        """Pairs of property and reason, read without dialling anything."""
        return []

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Say plainly whether declared inputs changed; the engine's own comparison would include the code."""
        return DiffResult(changes=bool(changed_keys(olds, news, self.inputs)))

    def stored(self, props: Mapping[str, Any], **observed: object) -> Props:
        """What goes to state: the declared inputs, the memos, and what was observed."""
        kept = {key: props[key] for key in (*self.inputs, *self.memos) if key in props}
        return {**kept, **observed}
