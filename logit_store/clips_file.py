"""The file of a corpus's clips (N clips)."""

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
from logit_store.footer import ClipsHeader
from logit_store.paths import clips_path


@contextmanager
def open_clips(
    files: Files, corpus: str, *, end_only: bool = False, dictionaries: Sequence[str] = ()
) -> Generator[tuple[pq.ParquetFile, ClipsHeader]]:
    """Open a corpus's clips and read their header; arguments as in `parquet.open_parquet`.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableFile: it has another version, or is damaged.
    """
    name = clips_path(corpus)
    with parquet.open_parquet(files, name, end_only=end_only, dictionaries=dictionaries) as (
        _,
        file,
    ):
        metadata = file.metadata
        pairs, n = metadata.metadata, metadata.num_rows
        yield file, ClipsHeader.from_metadata(pairs, n, files.locate(name))


def find_rows(clip_ids: Sequence[str], clips: pa.Table, corpus: str) -> NDArray[np.int32]:
    """Return the rows of some clips, in the order of their ids.

    Raises:
        UnknownClips: the corpus does not have all of them.
    """
    wanted = pa.array(clip_ids, pa.string())
    rows = pc.index_in(wanted, value_set=clips["clip_id"])
    unknown = wanted.filter(rows.is_null())
    if len(unknown):
        raise UnknownClips(corpus, n=len(unknown), first=unknown[0].as_py())
    return rows.to_numpy()


def hold_same_clips(first: pa.Table, second: pa.Table) -> bool:
    """Tell whether two tables hold the same clips, in any order."""
    return _sort_by_clip_id(first).equals(_sort_by_clip_id(second))


def _sort_by_clip_id(clips: pa.Table) -> pa.Table:
    return clips.drop_columns(["row"]).sort_by("clip_id").combine_chunks()
