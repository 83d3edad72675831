"""Reading logits from files of other programs (R rows, K classes).

| ending | content | clip of a row |
|---|---|---|
| .pt | one tensor [R, K] | by position, in the order of the corpus |
| .csv | columns `filename` and one per scene, tabs or commas between them | `filename` |
| .h5, .hdf5, .npz | arrays `filenames` [R], `logits` [R, K] and, if given, `classes` [K] | `filenames` |
"""

import codecs
import csv
import io
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from logit_store.declared import Wanted, check_logits_shape, find_packed_record, list_some
from logit_store.errors import UnfitImport
from logit_store.foreign_hdf5 import read_hdf5
from logit_store.foreign_npz import read_npz


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ForeignLogits:
    """The content of a file."""

    logits_RK: NDArray[np.floating]
    names: pa.StringArray | None = None
    """File name of each row's clip; None: the corpus's clips, in its order."""
    classes: tuple[str, ...] | None = None
    """The class of each column; None: the sorted scenes."""
    unused: tuple[str, ...] = ()
    """Columns of the file that are not classes."""


LONGEST_HEADER = 2**16
"""Bytes of the first line of a table."""


def read_foreign(path: Path, data: bytes, wanted: Wanted) -> ForeignLogits:
    """Read logits from the bytes of a file.

    Args:
        path: its ending says the format.
        data: its bytes.
        wanted: clips and scenes of the corpus: what does not fit them is not unpacked.

    Raises:
        UnfitImport: the bytes do not have this format, or declare other shapes.
    """
    try:
        return _READERS[path.suffix.lower()](data, wanted)
    except _READING_ERRORS as error:
        raise UnfitImport(path, " ".join(str(error).split()) or type(error).__name__) from error


# What torch, h5py, numpy and pyarrow raise for bytes in another format.
_READING_ERRORS = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    pa.ArrowException,
    zlib.error,
    csv.Error,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def _read_tensor(data: bytes, wanted: Wanted) -> ForeignLogits:
    # Imported here: it takes seconds, and only this format needs it.
    import torch

    packed = find_packed_record(io.BytesIO(data))
    if packed is not None:
        raise ValueError(packed)
    try:
        # Without weights_only, a pickle may run any code of its author.
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("no plain tensor (what a pickle would run is not run)") from error
    if not isinstance(loaded, torch.Tensor):
        raise TypeError(f"holds a {type(loaded).__name__}, expected one tensor (clips, classes)")
    # A tensor may declare a shape that its data lacks.
    check_logits_shape(tuple(loaded.shape), wanted)
    return ForeignLogits(logits_RK=loaded.detach().float().numpy())


def _read_table(data: bytes, wanted: Wanted) -> ForeignLogits:
    scenes = wanted.scenes
    form, header = _read_header(data)
    missing = [name for name in ("filename", *scenes) if header.count(name) != 1]
    if missing:
        raise ValueError(
            f"columns {list_some(header)}; expected filename and one per scene, each once, "
            f"but not so {', '.join(missing)}"
        )
    # Only with one thread does pyarrow name the row that it cannot read.
    options = pyarrow.csv.ReadOptions(use_threads=False)
    types = {"filename": pa.string(), **dict.fromkeys(scenes, pa.float64())}
    # A file may have any number of other columns.
    convert = pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(types))
    table = pyarrow.csv.read_csv(io.BytesIO(data), options, form, convert)
    check_logits_shape((table.num_rows, len(scenes)), wanted)
    return ForeignLogits(
        logits_RK=np.stack([table[scene].to_numpy() for scene in scenes], axis=1),
        names=table["filename"].combine_chunks(),
        classes=tuple(scenes),
        # scene_label of DCASE is the predicted class, which follows from the logits.
        unused=tuple(name for name in header if name not in {*types, "scene_label"}),
    )


def _read_header(data: bytes) -> tuple[pyarrow.csv.ParseOptions, list[str]]:
    """Return how the columns of a table are separated, and their names.

    Raises:
        ValueError: the first line is none of column names.
    """
    if (
        data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        or b"\0" in data[:LONGEST_HEADER]
    ):
        raise ValueError("no text in UTF-8, perhaps in UTF-16; save it as UTF-8")
    # Empty lines before it are none, for pyarrow too.
    line = re.split(rb"[\r\n]", data[: LONGEST_HEADER + 1].lstrip(b"\r\n"), maxsplit=1)[0]
    if len(line) > LONGEST_HEADER:
        raise ValueError(
            f"its first line is longer than {LONGEST_HEADER:,} bytes, expected columns"
        )
    delimiter = "\t" if b"\t" in line else ","
    header = next(csv.reader([line.decode("utf-8-sig")], delimiter=delimiter), [])
    return pyarrow.csv.ParseOptions(delimiter=delimiter), header


def _read_hdf5(data: bytes, wanted: Wanted) -> ForeignLogits:
    return _name_arrays(read_hdf5(data, _ARRAYS, wanted))


def _read_npz(data: bytes, wanted: Wanted) -> ForeignLogits:
    return _name_arrays(read_npz(data, _ARRAYS, wanted))


_READERS: dict[str, Callable[[bytes, Wanted], ForeignLogits]] = {
    ".pt": _read_tensor,
    ".csv": _read_table,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".npz": _read_npz,
}
ENDINGS = tuple(_READERS)
_ARRAYS = ("filenames", "logits", "classes")


def _name_arrays(arrays: Mapping[str, NDArray[Any]]) -> ForeignLogits:
    classes = _convert_to_text(arrays["classes"]).to_pylist() if "classes" in arrays else None
    names = _convert_to_text(arrays["filenames"])
    if names.null_count:
        row = pc.index(names.is_null(), True).as_py()
        raise ValueError(f"row {row} (from 0) has no file name")
    return ForeignLogits(
        logits_RK=arrays["logits"],
        names=names,
        classes=None if classes is None else tuple(classes),
    )


def _convert_to_text(values: NDArray[Any]) -> pa.StringArray:
    # Bytes must be UTF-8; the cast raises if they are not.
    return pa.array(values).cast(pa.string())
