"""Other programs' ways of reading the same logits, as rivals of `LogitStore.read` (M members, N clips, K classes).

None of them compares a checksum, or whether a file belongs to the clips.
"""

import importlib
import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import numpy as np

READERS_NOTE = (
    "Polars and DuckDB read the store's files, into arrays and without the project. TabArena keeps the "
    "predictions of all members of a task in one float32 file, which it maps into memory "
    "(TabularPredictionsMemmap); the rows of the members are copied. AutoGluon keeps those of each model in a "
    "pickle of float32 (oof.pkl). None of the four compares a checksum."
)


def make_rivals(
    root: Path, files: Sequence[Path], logits_NK: np.ndarray, classes: Sequence[str]
) -> dict[str, Callable[[], object]]:
    """Return a side for each rival, after writing what it reads into a folder.

    Args:
        root: the folder.
        files: of the store, one a member.
        logits_NK: float32, of every member alike.
        classes: names of the columns.
    """
    what = f"{len(files)} x {len(logits_NK):,} clips"
    shape = (len(files), *logits_NK.shape)
    mapped = np.memmap(root / "members.dat", np.float32, "w+", shape=shape)
    mapped[:] = logits_NK
    mapped.flush()
    pickles = [root / f"{place}.pkl" for place in range(len(files))]
    for file in pickles:
        file.write_bytes(pickle.dumps(logits_NK, pickle.HIGHEST_PROTOCOL))
    return {
        f"Polars: {what}": _make_polars_side(files, classes),
        f"DuckDB: {what}": _make_duckdb_side(files, classes),
        f"TabArena's memory map: {what}": lambda: np.array(
            np.memmap(root / "members.dat", np.float32, "r", shape=shape)
        ),
        f"AutoGluon's pickles: {what}": lambda: [pickle.loads(p.read_bytes()) for p in pickles],
    }


def _make_polars_side(files: Sequence[Path], classes: Sequence[str]) -> Callable[[], object]:
    # Read when it is imported.
    os.environ["POLARS_MAX_THREADS"] = "1"
    polars = importlib.import_module("polars")
    return lambda: [
        [column.to_numpy() for column in polars.read_parquet(file, columns=[*classes])]
        for file in files
    ]


def _make_duckdb_side(files: Sequence[Path], classes: Sequence[str]) -> Callable[[], object]:
    connection = duckdb.connect(":memory:", config={"threads": 1})
    columns = ", ".join(f'"{name}"' for name in classes)
    return lambda: [
        connection.execute(f"select {columns} from read_parquet($1)", [str(file)]).fetchnumpy()
        for file in files
    ]
