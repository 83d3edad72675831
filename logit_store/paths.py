"""The path of each file of a store, from the store's root."""

import fnmatch
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from logit_store.errors import StrayFile
from logit_store.keys import EmbeddingKey, LogitKey, check_name, check_split

CLIPS_PATTERN = "clips/v1/corpus=*/clips.parquet"
"""Matches the clips of all corpora."""


def clips_path(corpus: str) -> str:
    """Return the path of a corpus's clips."""
    check_name("corpus", corpus)
    return f"clips/v1/corpus={corpus}/clips.parquet"


def logits_path(key: LogitKey) -> str:
    """Return the path of some logits."""
    return logits_pattern(key.corpus, key.split, key.member, key.view)


def logits_pattern(
    corpus: str | None = None,
    split: int | None = None,
    member: str | None = None,
    view: int | None = None,
) -> str:
    """Return a glob pattern for logits; None matches any."""
    parts = {"corpus": corpus, "split": split, "member": member, "view": view}
    folders = [f"{name}={'*' if value is None else value}" for name, value in parts.items()]
    return "/".join(["logits/v1", *folders, "logits.parquet"])


def parse_corpus(path: str) -> str:
    """Return the corpus of a path with a folder `corpus=C`."""
    return path.split("/")[2].partition("=")[2]


@contextmanager
def _name_stray(address: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise StrayFile(address, str(error)) from error


def parse_clips(path: str, address: str) -> str:
    """Return the corpus of the clips at a path.

    Args:
        path: of the file.
        address: its full address, for the error message.

    Raises:
        StrayFile: no corpus has this path.
    """
    corpus = parse_corpus(path)
    with _name_stray(address):
        check_name("corpus", corpus)
    return corpus


def parse_key(path: str, address: str) -> LogitKey:
    """Return the key of the logits at a path.

    Args:
        path: of the file.
        address: its full address, for the error message.

    Raises:
        StrayFile: no key has this path.
    """
    values = [part.partition("=")[2] for part in path.split("/")[2:-1]]
    with _name_stray(address):
        corpus, split, member, view = values
        key = LogitKey(corpus, int(split), member, int(view))
    if logits_path(key) != path:
        raise StrayFile(address, f"the logits of {key} lie at {logits_path(key)}")
    return key


def embeddings_path(key: EmbeddingKey) -> str:
    """Return the path of some embeddings."""
    return embeddings_pattern(key.corpus, key.backbone, key.view)


def embeddings_pattern(
    corpus: str | None = None, backbone: str | None = None, view: int | None = None
) -> str:
    """Return a glob pattern for embeddings; None matches any."""
    return f"embeddings/v1/{_embedding_folders(corpus, backbone, view)}/embeddings.parquet"


def parse_embedding_key(path: str, address: str) -> EmbeddingKey:
    """Return the key of the embeddings at a path.

    Args:
        path: of the file.
        address: its full address, for the error message.

    Raises:
        StrayFile: no key has this path.
    """
    with _name_stray(address):
        corpus, backbone, view = (part.partition("=")[2] for part in path.split("/")[2:-1])
        key = EmbeddingKey(corpus, backbone, int(view))
    if embeddings_path(key) != path:
        raise StrayFile(address, f"the embeddings of {key} lie at {embeddings_path(key)}")
    return key


def shard_path(key: EmbeddingKey, rows: range) -> str:
    """Return the path of the embeddings of some rows, which are to be joined with others."""
    folders = _embedding_folders(key.corpus, key.backbone, key.view)
    return f"embedding_shards/v1/{folders}/{rows.start:08}-{rows.stop:08}.parquet"


def shards_pattern(key: EmbeddingKey | None = None) -> str:
    """Return a glob pattern for the shards of some embeddings; None: of any."""
    values = (None, None, None) if key is None else (key.corpus, key.backbone, key.view)
    return f"embedding_shards/v1/{_embedding_folders(*values)}/*-*.parquet"


def parse_shard(path: str, address: str) -> tuple[EmbeddingKey, range]:
    """Return which rows of which embeddings are in the shard at a path.

    Args:
        path: of the file.
        address: its full address, for the error message.

    Raises:
        StrayFile: no shard has this path.
    """
    with _name_stray(address):
        corpus, backbone, view = (part.partition("=")[2] for part in path.split("/")[2:-1])
        start, _, stop = PurePosixPath(path).stem.partition("-")
        key, rows = EmbeddingKey(corpus, backbone, int(view)), range(int(start), int(stop))
        if not rows:
            raise ValueError("no row")
    if shard_path(key, rows) != path:
        raise StrayFile(address, f"this shard lies at {shard_path(key, rows)}")
    return key, rows


def _embedding_folders(corpus: str | None, backbone: str | None, view: int | None) -> str:
    parts = {"corpus": corpus, "backbone": backbone, "view": view}
    return "/".join(f"{name}={'*' if value is None else value}" for name, value in parts.items())


CATALOGUE_PATTERN = "catalogue/v1/corpus=*/catalogue.parquet"
"""Matches the catalogues of all corpora."""


def catalogue_path(corpus: str) -> str:
    """Return the path of the catalogue of a corpus's logits."""
    check_name("corpus", corpus)
    return f"catalogue/v1/corpus={corpus}/catalogue.parquet"


ENSEMBLES_PATTERN = "ensembles/v1/corpus=*/split=*/*.json"
"""Matches all ensembles."""


def ensembles_pattern(corpus: str, split: int, name: str = "*") -> str:
    """Return a glob pattern for the ensembles of a split; `name` may be a pattern."""
    check_name("corpus", corpus)
    check_split(split)
    return f"ensembles/v1/corpus={corpus}/split={split}/{name}.json"


def ensemble_path(corpus: str, split: int, reference: str) -> str:
    """Return the path of an ensemble; `reference` is `NAME` or `NAME@HASH`."""
    for part in reference.split("@", 1):
        check_name(f"ensemble {reference!r}: part", part)
    _check_visible("ensemble", reference)
    return ensembles_pattern(corpus, split, reference)


@dataclass(frozen=True, slots=True)
class EnsemblePlace:
    """Which ensemble a file holds."""

    corpus: str
    split: int
    reference: str
    """`NAME@HASH`, or `NAME` in old stores."""


def parse_ensemble(path: str, address: str) -> EnsemblePlace:
    """Return the place of the ensemble at a path.

    Args:
        path: of the file.
        address: its full address, for the error message.

    Raises:
        StrayFile: no ensemble has this path.
    """
    with _name_stray(address):
        corpus, split, file = PurePosixPath(path).parts[2:]
        place = EnsemblePlace(
            corpus.partition("=")[2], int(split.partition("=")[2]), file.removesuffix(".json")
        )
        expected = ensemble_path(place.corpus, place.split, place.reference)
    if expected != path:
        raise StrayFile(address, f"this ensemble lies at {expected}")
    return place


_OBJECTS = ("teachers", "students", "weights", "search", "jobs", "units")


def check_object_name(name: str) -> str:
    """Check an object's name, which is also its path, and return it.

    Raises:
        ValueError: it is not `teachers/v1/MEMBER/...`, `students/v1/MEMBER/...`,
            `weights/v1/FILE/...`, `search/v1/NAME/...`, `jobs/v1/JOB/...` or `units/v1/JOB/...`.
    """
    parts = name.split("/")
    if len(parts) < 4 or parts[0] not in _OBJECTS or parts[1] != "v1":
        raise ValueError(
            f"object {name!r}, expected teachers/v1/MEMBER/FILE, students/v1/MEMBER/FILE, "
            "weights/v1/FILE/RECORD, search/v1/NAME/FILE, jobs/v1/JOB/FILE or units/v1/JOB/.../FILE"
        )
    for part in parts:
        check_name(f"object {name!r}: part", part)
        _check_visible(f"object {name!r}: part", part)
    return name


def _check_visible(what: str, name: str) -> None:
    # A leading dot marks files that are being written. This also keeps ".." out of paths.
    if name.startswith("."):
        raise ValueError(f"{what} {name!r} must not begin with a dot")


def matches(name: str, pattern: str) -> bool:
    """Tell whether a listing by a glob pattern shows a file; `*` does not match a slash."""
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(
        not part.startswith(".") and fnmatch.fnmatchcase(part, each)
        for part, each in zip(parts, patterns, strict=True)
    )
