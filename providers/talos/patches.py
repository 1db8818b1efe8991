"""Config patches, merged the way Talos merges them ("strategic merge").

Maps merge, lists grow, single values are replaced unless the patch's is empty. The exceptions are those of the
node's own types: https://github.com/siderolabs/talos/blob/main/pkg/machinery/config/merge/merge.go and the tags in
config/types. One difference: deleting what is not there is an error in Talos, and nothing here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from providers.errors import UserError
from providers.talos import documents
from providers.talos.documents import Document

Path = tuple[str, ...]

_DELETE = ("$patch", "delete")
_NAMES = {"apiVersion", "kind", "name"}
# A path begins with the document's kind, "" for the v1alpha1 document; "[]" is any item of a list.
_REPLACED: frozenset[Path] = frozenset(
    {
        ("", "cluster", "apiServer", "auditPolicy"),
        ("", "cluster", "network", "podSubnets"),
        ("", "cluster", "network", "serviceSubnets"),
        ("NetworkRuleConfig", "ingress"),
        ("NetworkRuleConfig", "portSelector", "ports"),
    }
)
_INTERFACES: Path = ("", "machine", "network", "interfaces")
# Lists whose items merge with the item of the same key; the first key that the patch's item has decides.
_KEYED: dict[Path, tuple[str, ...]] = {
    _INTERFACES: ("interface", "deviceSelector"),
    (*_INTERFACES, "[]", "vlans"): ("vlanId",),
    ("", "cluster", "apiServer", "admissionControl"): ("name",),
    ("ExtensionServiceConfig", "configFiles"): ("mountPath",),
}


def apply(config: Iterable[Document], patches: Iterable[Mapping[str, Any] | str]) -> list[Document]:
    """The config with the patches applied, one after the other; the arguments stay as they are.

    Args:
        config: the documents of a machine config.
        patches: each a partial document, or a YAML text of one or more.

    Raises:
        UserError: a patch is not a map, or deletes what Talos doesn't let it delete.
    """
    result = copy.deepcopy(list(config))
    for number, patch in enumerate(patches):
        for part in _parts(patch, number):
            _apply_one(result, part)
    return result


def _parts(patch: Mapping[str, Any] | str, number: int) -> list[Document]:
    if isinstance(patch, str):
        return documents.load(patch)
    if not isinstance(patch, Mapping):
        raise UserError(f"patches[{number}]: Talos refuses lists of operations (JSON 6902); write a partial config")
    return [copy.deepcopy(dict(patch))]


def _apply_one(result: list[Document], patch: Document) -> None:
    """Deletions first, then the rest: so an item can be taken out and put in anew by one patch."""
    index = next((i for i, document in enumerate(result) if _identity(document) == _identity(patch)), None)
    if _deletes(patch):
        if documents.is_main(patch):
            raise UserError("patch: the v1alpha1 document can't be deleted")
        if index is not None:
            del result[index]
        return
    kind = patch.get("kind", "")
    target = {} if index is None else result[index]
    rest = _delete(target, patch, inside_list=False)
    merged = _merge((kind,), target, rest)
    if index is not None:
        result[index] = merged
    elif rest == patch or set(rest) - _NAMES:
        result.append(merged)


def _identity(document: Mapping[str, Any]) -> tuple[str, str, str]:
    kind = document.get("kind", "")
    return ("", "", "") if not kind else (document.get("apiVersion", ""), kind, document.get("name", ""))


def _deletes(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get(_DELETE[0]) == _DELETE[1]


def _delete(target: Any, patch: Any, *, inside_list: bool) -> Any:
    """Carry out the deletions that the patch holds; what remains of the patch."""
    if isinstance(patch, dict):
        return _delete_keys(target, patch, inside_list=inside_list)
    if isinstance(patch, list):
        return _delete_items(target, patch)
    return patch


def _delete_keys(target: Any, patch: Document, *, inside_list: bool) -> Document:
    rest: Document = {}
    found = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if _deletes(value):
            if inside_list:
                raise UserError(f"patch: `$patch: delete` of {key!r} in a list's item; Talos deletes only whole items")
            found.pop(key, None)
            continue
        left = _delete(found.get(key), value, inside_list=inside_list)
        if left or not value:
            rest[key] = left
    return rest


def _delete_items(target: Any, patch: list[Any]) -> list[Any]:
    for item in patch:
        if _deletes(item) and isinstance(target, list):
            _delete_item(target, item)
    return [_delete(None, item, inside_list=True) for item in patch if not _deletes(item)]


def _delete_item(target: list[Any], item: Mapping[str, Any]) -> None:
    """Talos looks only at the first key besides `$patch`, and removes the first item that has the same value there."""
    key = next((key for key in item if key != _DELETE[0]), None)
    if key is None:
        raise UserError("patch: `$patch: delete` in a list needs a key that names the item")
    for index, found in enumerate(target):
        if isinstance(found, dict) and str(found.get(key)) == str(item[key]):
            del target[index]
            return


def _merge(path: Path, left: Any, right: Any) -> Any:
    if right is None:
        return left
    if left is None or _is_argument(path):
        return right
    if isinstance(left, dict) and isinstance(right, dict):
        return _merge_maps(path, left, right)
    if isinstance(left, list) and isinstance(right, list):
        return _merge_lists(path, left, right)
    if isinstance(left, (dict, list)) or isinstance(right, (dict, list)):
        raise UserError(f"patch: {'.'.join(path[1:])} is of another type than in the config")
    if isinstance(right, bool):
        return right
    # The node's types can't tell an empty value from an absent one.
    return right if right not in ("", 0) else left


def _merge_maps(path: Path, left: Document, right: Document) -> Document:
    if path in _REPLACED:
        return right or left
    merged = dict(left)
    for key, value in right.items():
        merged[key] = _merge((*path, str(key)), left[key], value) if key in left else value
    return merged


def _merge_lists(path: Path, left: list[Any], right: list[Any]) -> list[Any]:
    if path in _REPLACED:
        return right or left
    keys = _KEYED.get(path)
    if keys is None:
        return [*left, *right]
    merged = list(left)
    for item in right:
        _merge_item(path, merged, item, keys)
    return merged


def _merge_item(path: Path, merged: list[Any], item: Any, keys: tuple[str, ...]) -> None:
    key = next((key for key in keys if isinstance(item, dict) and item.get(key)), None)
    for index, found in enumerate(merged):
        if key is not None and isinstance(found, dict) and found.get(key) == item[key]:
            merged[index] = _merge((*path, "[]"), found, item)
            return
    merged.append(item)


def _is_argument(path: Path) -> bool:
    """Flags of Kubernetes' components: each is replaced as a whole, also when it is a list."""
    return len(path) > 1 and path[-2] == "extraArgs"
