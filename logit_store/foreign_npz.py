"""Arrays in a .npz file of another program: each is checked by its head before it is unpacked."""

import io
import math
import zipfile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from logit_store.declared import Declared, Wanted, check_declared

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What numpy writes; others may need gigabytes to unpack a few bytes."""
_TEXTS = "SUiu"
"""Kinds of types whose values can be names: bytes, text, integers."""


def read_npz(data: bytes, names: tuple[str, ...], wanted: Wanted) -> dict[str, NDArray[Any]]:
    """Return the arrays of these names that a file has.

    Raises:
        ValueError, zipfile.BadZipFile: they cannot be those of the corpus, or are not as declared.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {each.filename.removesuffix(".npy"): each for each in archive.infolist()}
        found = {name: members[name] for name in names if name in members}
        declared = {name: _read_head(archive, each) for name, each in found.items()}
        check_declared(declared, list(members), wanted)
        return {name: _read_array(archive, each) for name, each in found.items()}


def _read_head(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Declared:
    name = member.filename
    if member.compress_type not in _METHODS:
        raise ValueError(f"{name}: packed by another method than numpy's")
    with archive.open(member) as opened:
        shape, _, dtype = _read_npy_head(opened, name)
        n_bytes = opened.tell() + math.prod(shape) * dtype.itemsize
    # Objects have no size in the file.
    if not dtype.hasobject and n_bytes != member.file_size:
        raise ValueError(
            f"{name}: {member.file_size:,} bytes, expected {n_bytes:,} for shape {shape} and type "
            f"{dtype}"
        )
    return Declared(shape, dtype, dtype.kind in _TEXTS)


def _read_npy_head(opened: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(opened)
    # Later versions are for structures; their heads may be gigabytes long.
    if version != (1, 0):
        raise ValueError(f"{name}: version {version} of numpy's format, expected (1, 0)")
    return np.lib.format.read_array_header_1_0(opened)


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as opened:
        return np.lib.format.read_array(opened, allow_pickle=False)
