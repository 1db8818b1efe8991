"""Which StorageClass the platform's own data goes to."""

from __future__ import annotations

from settings import Settings

LONGHORN = "longhorn"


def nfs_class(lab: Settings) -> str | None:
    """The class on NFS; Longhorn's where there is no NFS; None (the cluster's default) where there is neither."""
    nfs = lab.platform.nfs
    if nfs is not None and lab.platform.on("nfs"):
        return nfs.storage_class
    return LONGHORN if lab.platform.on(LONGHORN) else None


def block_class(lab: Settings) -> str | None:
    """The class for databases, which must not be on NFS: Longhorn's, or None where it is off."""
    return LONGHORN if lab.platform.on(LONGHORN) else None


def is_shared(lab: Settings, storage_class: str | None) -> bool:
    """Whether pods on several nodes can write to a volume of a class at once."""
    nfs = lab.platform.nfs
    if nfs is None or not lab.platform.on("nfs"):
        return False
    return storage_class == nfs.storage_class or (storage_class is None and nfs.default_class)
