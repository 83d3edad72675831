"""Reading logits from files of other programs (R rows, K classes).

| ending | content | clip of a row |
|---|---|---|
| .pt | one tensor [R, K] | by position, in the order of the corpus |
| .csv | columns `filename` and one per scene, tabs or commas between them | `filename` |
| .h5, .hdf5, .npz | arrays `filenames` [R], `logits` [R, K] and, if given, `classes` [K] | `filenames` |
"""

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from logit_store.errors import UnfitImport


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


def read_foreign(path: Path, data: bytes, scenes: Sequence[str]) -> ForeignLogits:
    """Read logits from the bytes of a file.

    Args:
        path: its ending says the format.
        data: its bytes.
        scenes: of the corpus, to find the classes among the columns of a table.

    Raises:
        UnfitImport: the bytes do not have this format.
    """
    try:
        foreign = _READERS[path.suffix.lower()](data, scenes)
        _check_shapes(foreign)
    except _READING_ERRORS as error:
        raise UnfitImport(path, " ".join(str(error).split()) or type(error).__name__) from error
    return foreign


# What torch, h5py, numpy and pyarrow raise for bytes in another format.
_READING_ERRORS = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    pa.ArrowException,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def _read_tensor(data: bytes, _: Sequence[str]) -> ForeignLogits:
    # Imported here: it takes seconds, and only this format needs it.
    import torch

    try:
        # Without weights_only, a pickle may run any code of its author.
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("no plain tensor (what a pickle would run is not run)") from error
    if not isinstance(loaded, torch.Tensor):
        raise TypeError(f"holds a {type(loaded).__name__}, expected one tensor (clips, classes)")
    return ForeignLogits(logits_RK=loaded.detach().float().numpy())


def _read_table(data: bytes, scenes: Sequence[str]) -> ForeignLogits:
    header_line = io.BytesIO(data).readline()
    form = pyarrow.csv.ParseOptions(delimiter="\t" if b"\t" in header_line else ",")
    # Only with one thread does pyarrow name the row that it cannot read.
    options = pyarrow.csv.ReadOptions(use_threads=False)
    types = {"filename": pa.string(), **dict.fromkeys(scenes, pa.float64())}
    convert = pyarrow.csv.ConvertOptions(column_types=types)
    table = pyarrow.csv.read_csv(io.BytesIO(data), options, form, convert)
    header = table.column_names
    missing = [name for name in ("filename", *scenes) if header.count(name) != 1]
    if missing:
        raise ValueError(
            f"columns {', '.join(header)}; expected filename and one per scene, each once, "
            f"but not so {', '.join(missing)}"
        )
    return ForeignLogits(
        logits_RK=np.stack([table[scene].to_numpy() for scene in scenes], axis=1),
        names=table["filename"].combine_chunks(),
        classes=tuple(scenes),
        # scene_label of DCASE is the predicted class, which follows from the logits.
        unused=tuple(name for name in header if name not in {*types, "scene_label"}),
    )


def _read_hdf5(data: bytes, _: Sequence[str]) -> ForeignLogits:
    # Imported here: only this format needs it.
    import h5py

    with h5py.File(io.BytesIO(data), "r") as file:
        arrays = {name: each for name, each in file.items() if isinstance(each, h5py.Dataset)}
        texts = {name: arrays[name].asstr()[:] for name in _TEXTS if name in arrays}
        logits = {name: arrays[name][:] for name in ("logits",) if name in arrays}
        return _read_arrays({**dict.fromkeys(arrays), **texts, **logits})


def _read_npz(data: bytes, _: Sequence[str]) -> ForeignLogits:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return _read_arrays(arrays)


_READERS: dict[str, Callable[[bytes, Sequence[str]], ForeignLogits]] = {
    ".pt": _read_tensor,
    ".csv": _read_table,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".npz": _read_npz,
}
ENDINGS = tuple(_READERS)
_TEXTS = ("filenames", "classes")


def _read_arrays(arrays: Mapping[str, Any]) -> ForeignLogits:
    absent = [name for name in ("filenames", "logits") if name not in arrays]
    if absent:
        held = ", ".join(arrays) or "none"
        raise ValueError(f"no array {' and '.join(absent)}; its arrays are: {held}")
    classes = _convert_to_text(arrays["classes"]).to_pylist() if "classes" in arrays else None
    return ForeignLogits(
        logits_RK=np.asarray(arrays["logits"]),
        names=_convert_to_text(arrays["filenames"]),
        classes=None if classes is None else tuple(classes),
    )


def _convert_to_text(values: NDArray[Any]) -> pa.StringArray:
    # Bytes must be UTF-8; the cast raises if they are not.
    return pa.array(np.asarray(values)).cast(pa.string())


def _check_shapes(foreign: ForeignLogits) -> None:
    logits_RK = foreign.logits_RK
    if logits_RK.ndim != 2 or not np.issubdtype(logits_RK.dtype, np.floating):
        raise ValueError(
            f"logits of shape {logits_RK.shape} and type {logits_RK.dtype}, expected floats "
            "(clips, classes)"
        )
    n_rows, n_classes = logits_RK.shape
    if foreign.classes is not None and len(foreign.classes) != n_classes:
        raise ValueError(f"{len(foreign.classes)} classes for {n_classes} columns of logits")
    if foreign.names is None:
        return
    if len(foreign.names) != n_rows:
        raise ValueError(f"{len(foreign.names)} file names for {n_rows} rows of logits")
    if foreign.names.null_count:
        row = pc.index(foreign.names.is_null(), True).as_py()
        raise ValueError(f"row {row} (from 0) has no file name")
