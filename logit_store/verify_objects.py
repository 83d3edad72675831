"""Checks of a store's files but clips and logits: embeddings, records, weights, checkpoints, plans..."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from disk.tail import has_right_tail
from logit_store import logits_file
from logit_store.embeddings_file import open_embeddings, summarise
from logit_store.errors import DamagedFile, UnreadableFile
from logit_store.files import Entry, Files
from logit_store.footer import ClipsHeader
from logit_store.json_objects import decode_json
from logit_store.paths import logits_pattern
from logit_store.seal import find_damage

OBJECT_PATTERNS = (
    *(f"{kind}/v1/*/*" for kind in ("teachers", "students", "weights", "search", "jobs")),
    "teachers/v1/*/part_*/*",
    "search/v1/*/checkpoints/*",
    "units/v1/*/*/*",
    "ensemble_times/v1/*/*/*",
)
"""Match all objects but the notes that Ray leaves."""
_BEGIN_ANEW = "delete it, and the run begins from its start"
_MAKE_AGAIN = "delete it, and it is made again"


def check_object(files: Files, entry: Entry) -> Iterator[str]:
    """Yield the problems of an object as text.

    Raises:
        DamagedFile: it is not what was written.
        FileNotFoundError: it was deleted since it was listed.
    """
    path, name = files.locate(entry.name), entry.name.rpartition("/")[2]
    if name.endswith(".json"):
        decode_json(files.get(entry.name), path)
    elif name.endswith(".pt"):
        damage = find_damage(files.get(entry.name))
        if damage is not None:
            raise DamagedFile(path, damage, way_out=_BEGIN_ANEW)
    elif name.endswith(".npy"):
        if has_right_tail(files.get(entry.name)) is False:
            raise DamagedFile(path, "its digest does not match", way_out=_MAKE_AGAIN)
    elif name.endswith(".safetensors"):
        yield from _check_weights(files, entry)
    elif name.startswith("events.out.tfevents"):
        _check_events(files, entry)


def check_embeddings(files: Files, entry: Entry, header: ClipsHeader, rows: range) -> Iterator[str]:
    """Yield the problems of a file of embeddings, or of a shard, as text.

    Args:
        files: of the store.
        entry: the file.
        header: of the clips that it must belong to.
        rows: of these clips that it must hold.

    Raises:
        UnreadableFile: it is not what was written, or belongs to other clips.
        FileNotFoundError: it was deleted since it was listed.
    """
    with open_embeddings(files, entry.name) as file:
        file.check_belongs(header, rows)
        file.check_pages()
        computed, largest = summarise(file.read_groups())
        footer = file.footer
    if footer.embeddings_hash != computed:
        yield f"embeddings_hash {footer.embeddings_hash} in the footer, {computed} computed again"
    # NaN differs from all.
    if footer.largest_value != largest:
        yield f"largest_value {footer.largest_value} in the footer, {largest} computed again"


def _check_weights(files: Files, entry: Entry) -> Iterator[str]:
    """Compare weights with the hash in the record of their member's logits."""
    found = hashlib.sha256(files.get(entry.name)).hexdigest()
    _, _, member, *part, _ = entry.name.split("/")
    for logits in files.find(logits_pattern(member=member, view=0)):
        try:
            with logits_file.open_logits(files, logits.name, end_only=True) as opened:
                expected = _find_hash(opened.footer.record, *part) or found
        except UnreadableFile:
            continue  # A problem of its own.
        if found != expected:
            yield (
                f"SHA-256 {found}, expected {expected} as in the record: delete it and the member's "
                f"logits, {opened.path}, and run its job again"
            )


def _find_hash(record: Mapping[str, Any], part: str | None = None) -> str | None:
    """Return the hash that a record has of weights: of its member's, or of `part_1`...; None: it has none."""
    if part is None:
        return record.get("weights_sha256")
    number, parts = part.removeprefix("part_"), record.get("parts", [])
    known = number.isdigit() and 1 <= int(number) <= len(parts)
    return parts[int(number) - 1]["weights_sha256"] if known else None


def _check_events(files: Files, entry: Entry) -> None:
    """Compare the events of TensorBoard with the checksums that their format has."""
    # Takes a third of a second to import, and only stores with such files need it.
    from tensorboard.compat.tensorflow_stub import errors, pywrap_tensorflow

    events = pywrap_tensorflow.PyRecordReader_New(str(files.fetch(entry.name)))
    try:
        while True:
            events.GetNext()
    except errors.OutOfRangeError:
        return
    except errors.DataLossError as error:
        path = files.locate(entry.name)
        raise DamagedFile(
            path, str(error), way_out="delete it: only TensorBoard reads it"
        ) from error
