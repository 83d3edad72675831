"""The file of a corpus's clips: reading, and telling a new order from new clips (N clips)."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from logit_store import parquet
from logit_store.errors import UnknownClips
from logit_store.files import Files
from logit_store.layout import ClipsHeader, clips_path


@contextmanager
def opened(
    files: Files, corpus: str, *, end_only: bool = False, dictionaries: Sequence[str] = ()
) -> Generator[tuple[pq.ParquetFile, ClipsHeader]]:
    """The clips of a corpus, and what their file says of itself; arguments as `parquet.opened`.

    Raises:
        FileNotFoundError: not there.
        UnreadableFile: of another version, or damaged.
    """
    name = clips_path(corpus)
    with parquet.opened(files, name, end_only=end_only, dictionaries=dictionaries) as (_, file):
        metadata = file.metadata
        pairs, n = metadata.metadata, metadata.num_rows
        yield file, ClipsHeader.from_metadata(pairs, n, files.where(name))


def rows_of(clip_ids: Sequence[str], clips: pa.Table, corpus: str) -> NDArray[np.int32]:
    """The rows of some clips, in the order of their ids.

    Raises:
        UnknownClips: the corpus does not have them all.
    """
    wanted = pa.array(clip_ids, pa.string())
    rows = pc.index_in(wanted, value_set=clips["clip_id"])
    unknown = wanted.filter(rows.is_null())
    if len(unknown):
        raise UnknownClips(corpus, n=len(unknown), first=unknown[0].as_py())
    return rows.to_numpy()


def same_but_for_order(first: pa.Table, second: pa.Table) -> bool:
    """Whether two tables of clips hold the same clips, whatever their order."""
    return _by_clip_id(first).equals(_by_clip_id(second))


def _by_clip_id(clips: pa.Table) -> pa.Table:
    return clips.drop_columns(["row"]).sort_by("clip_id").combine_chunks()
