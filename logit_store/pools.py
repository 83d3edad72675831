"""Classes of logits of a pool of its own: a corpus whose clips nobody labelled, which has none itself."""

from collections.abc import Sequence
from dataclasses import replace

from logit_store import logits_file
from logit_store.clips_table import check_scenes
from logit_store.files import Files
from logit_store.footer import ClipsHeader
from logit_store.keys import LogitKey
from logit_store.paths import logits_path


def choose_classes(key: LogitKey, header: ClipsHeader, given: Sequence[str] | None) -> ClipsHeader:
    """Return the header of a corpus's clips, for a pool with the classes of logits that are to be written.

    Args:
        key: of the logits.
        header: of the corpus's clips.
        given: the classes that the member learnt; None: those of the corpus's clips.

    Raises:
        ValueError: they are missing for a pool, are not sorted names, or are not the corpus's own.
    """
    own = header.classes
    if own and given is not None and tuple(given) != own:
        raise ValueError(
            f"{key}: classes {list(given)}, expected {list(own)} as in the corpus's clips"
        )
    if own:
        return header
    if not given or list(given) != sorted(set(given)):
        raise ValueError(
            f"{key}: classes {given and list(given)}, expected those that the member learnt, sorted: no "
            f"clip of corpus {key.corpus} has a label"
        )
    check_scenes(f"classes of {key}", given)
    return replace(header, classes=tuple(given))


def find_classes(files: Files, keys: Sequence[LogitKey]) -> tuple[str, ...]:
    """Return the classes of logits of a pool.

    Raises:
        ValueError: those of some keys have others.
        UnreadableFile: a file has another version, or is damaged.
    """
    found = dict[tuple[str, ...], LogitKey]()
    for key in keys:
        with logits_file.open_logits(files, logits_path(key), end_only=True) as file:
            found.setdefault(file.footer.classes, key)
    if len(found) > 1:
        (first, one), (second, other), *_ = found.items()
        raise ValueError(
            f"{one} has classes {list(first)}, {other} has {list(second)}, expected equal ones: read "
            "members that learnt different corpora apart"
        )
    return next(iter(found))
