"""Logits by name: the one place where packages meet (N clips, M members, K classes).

A name is imported when it is first used: most programs need only a few, and some are heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logit_store.clips_table import CLIPS_SCHEMA
    from logit_store.errors import (
        ClassOrderMismatch,
        ClipsMismatch,
        DamagedFile,
        EnsembleChanged,
        ImportRefused,
        LogitStoreError,
        MissingClips,
        MissingEmbeddings,
        MissingEnsemble,
        MissingLogits,
        MissingMember,
        MissingObject,
        MissingStore,
        QueryFailed,
        RowOrderMismatch,
        StoreFull,
        StrayFile,
        TiedEnsembles,
        UnfitExport,
        UnfitImport,
        UnknownClips,
        UnreachableStore,
        UnreadableFile,
        UnstorableEmbeddings,
        UnstorableLogits,
        UnsupportedAddress,
        UnsupportedVersion,
        UnusableCache,
        WrongRowOrder,
    )
    from logit_store.footer import FoldScores, Footer
    from logit_store.keys import (
        EmbeddingKey,
        LogitKey,
        Protocol,
        fingerprint,
        hash_row_order,
        name_member,
        strip_fingerprint,
    )
    from logit_store.store import LogitStore

__all__ = [
    "CLIPS_SCHEMA",
    "ClassOrderMismatch",
    "ClipsMismatch",
    "DamagedFile",
    "EmbeddingKey",
    "EnsembleChanged",
    "FoldScores",
    "Footer",
    "ImportRefused",
    "LogitKey",
    "LogitStore",
    "LogitStoreError",
    "MissingClips",
    "MissingEmbeddings",
    "MissingEnsemble",
    "MissingLogits",
    "MissingMember",
    "MissingObject",
    "MissingStore",
    "Protocol",
    "QueryFailed",
    "RowOrderMismatch",
    "StoreFull",
    "StrayFile",
    "TiedEnsembles",
    "UnfitExport",
    "UnfitImport",
    "UnknownClips",
    "UnreachableStore",
    "UnreadableFile",
    "UnstorableEmbeddings",
    "UnstorableLogits",
    "UnsupportedAddress",
    "UnsupportedVersion",
    "UnusableCache",
    "WrongRowOrder",
    "fingerprint",
    "hash_row_order",
    "name_member",
    "strip_fingerprint",
]

_MODULES = {
    "CLIPS_SCHEMA": "clips_table",
    "EmbeddingKey": "keys",
    "FoldScores": "footer",
    "Footer": "footer",
    "LogitKey": "keys",
    "LogitStore": "store",
    "Protocol": "keys",
    "fingerprint": "keys",
    "hash_row_order": "keys",
    "name_member": "keys",
    "strip_fingerprint": "keys",
}
"""Where each name is defined; all others are errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'logit_store' has no attribute {name!r}")
    return getattr(import_module(f"logit_store.{_MODULES.get(name, 'errors')}"), name)
