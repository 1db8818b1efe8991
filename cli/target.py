"""Where a file goes that a verb writes."""

from __future__ import annotations

from pathlib import Path

from providers.errors import UserError


def target(folder: Path, name: str, to: Path | None = None) -> Path:
    """The file: in the verb's own folder, which is made, or where its user says.

    Args:
        folder: the verb's own, for its owner's eyes only.
        name: of the file, unless `to` names one.
        to: a file, or a folder that exists.

    Raises:
        UserError: the folder can't be made, or is none.
    """
    if to is None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UserError(f"{folder}: can't be made: {error.strerror}") from None
        return folder / name
    path = to.expanduser().absolute()
    if path.is_dir():
        return path / name
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")
    return path
