"""Data sets in an HDF5 file of another program: plain ones only, checked before they are read.

HDF5 can do much more than hold arrays: data sets may lie in other files, be assembled from others, or
be unpacked by any program of this machine.
"""

import io
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from logit_store.declared import LARGEST_NAMES_BYTES, LONGEST_NAME, Declared, Wanted, check_declared

if TYPE_CHECKING:
    import h5py

LARGEST_CHUNK_BYTES = 2**25
"""A chunk is unpacked as a whole, however little of it is read."""
_CHECKSUM_BYTES = 4
_REFERENCE_BYTES = 16
"""What a chunk holds of a text of any length: where it is in the file, and how long."""


def read_hdf5(data: bytes, names: tuple[str, ...], wanted: Wanted) -> dict[str, NDArray[Any]]:
    """Return the data sets of these names that a file has; text as str.

    Raises:
        TypeError, ValueError: they are not plain, or cannot be those of the corpus.
        OSError, RuntimeError: not an HDF5 file, or a damaged one.
    """
    # Imported here: only this format needs it.
    import h5py

    with h5py.File(io.BytesIO(data), "r") as file:
        held = list(file)
        sets = {name: _open_plain(file, name) for name in names if name in held}
        check_declared({name: _declare(each) for name, each in sets.items()}, held, wanted)
        for each in sets.values():
            _check_chunks(each, len(data))
        return {name: _read(each, len(data)) for name, each in sets.items()}


def _open_plain(file: "h5py.File", name: str) -> "h5py.Dataset":
    """Open a data set whose data lies in this file.

    Raises:
        TypeError, ValueError: it does not; nothing but its description was read.
    """
    import h5py

    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise TypeError(f"{name} is a {type(link).__name__} to another place, expected a data set")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise TypeError(f"{name} is a {type(found).__name__}, expected a data set")
    if found.is_virtual:
        raise ValueError(f"{name} is a virtual data set, expected one with its data in the file")
    if found.external:
        raise ValueError(
            f"{name} has its data in another file ({found.external[0][0]!r}), expected it in this one"
        )
    _check_filters(found, name)
    return found


def _check_filters(found: "h5py.Dataset", name: str) -> None:
    import h5py

    codes = _list_filters(found)
    known = {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
    packing = [code for code in codes if code not in known]
    if len(packing) > 1 or not set(packing) <= {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF}:
        raise ValueError(
            f"{name} is packed by HDF5's filters {codes}, expected gzip or lzf: write it with "
            'compression="gzip"'
        )


def _list_filters(found: "h5py.Dataset") -> list[int]:
    """Return the codes of the filters of a data set, in the order of writing."""
    settings = found.id.get_create_plist()
    return [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]


def _declare(found: "h5py.Dataset") -> Declared:
    import h5py

    if found.shape is None:
        raise ValueError(f"{found.name} is empty, without a shape")
    return Declared(found.shape, found.dtype, h5py.check_string_dtype(found.dtype) is not None)


def _check_chunks(found: "h5py.Dataset", file_bytes: int) -> None:
    """Make sure that no chunk takes more memory than it declares.

    Raises:
        ValueError: one does.
    """
    if found.chunks is None:
        return
    item_bytes = _REFERENCE_BYTES if found.dtype.hasobject else found.dtype.itemsize
    chunk_bytes = math.prod(found.chunks) * item_bytes
    if chunk_bytes > LARGEST_CHUNK_BYTES:
        raise ValueError(
            f"{found.name} is in chunks of shape {found.chunks}, {chunk_bytes:,} bytes, expected at "
            f"most {LARGEST_CHUNK_BYTES:,}"
        )
    stored: list[Any] = []
    found.id.chunk_iter(stored.append)
    for chunk in stored:
        if chunk.size > file_bytes or not _fits(found, chunk, chunk_bytes):
            raise ValueError(
                f"{found.name}: the chunk at {chunk.chunk_offset} unpacks to more than its "
                f"{chunk_bytes:,} bytes"
            )


def _fits(found: "h5py.Dataset", chunk: Any, chunk_bytes: int) -> bool:
    """Return whether a chunk unpacks to no more than its bytes, without unpacking more of it."""
    import h5py

    codes = _list_filters(found)
    # A filter that would not make a chunk smaller is left out for this chunk: a bit says so.
    used = [code for bit, code in enumerate(codes) if not chunk.filter_mask >> bit & 1]
    _, packed = found.id.read_direct_chunk(chunk.chunk_offset)
    if used[-1:] == [h5py.h5z.FILTER_FLETCHER32]:
        packed = packed[:-_CHECKSUM_BYTES]
    most_bytes = chunk_bytes + _CHECKSUM_BYTES
    if h5py.h5z.FILTER_DEFLATE in used:
        unpack = zlib.decompressobj()
        return len(unpack.decompress(packed, most_bytes + 1)) <= most_bytes and unpack.eof
    return _count_lzf_bytes(packed) <= most_bytes if h5py.h5z.FILTER_LZF in used else True


def _count_lzf_bytes(packed: bytes) -> int:
    """Return how many bytes LZF unpacks to: each step copies bytes, packed or unpacked before."""
    at, n_bytes = 0, 0
    while at < len(packed) - 1:
        control = packed[at]
        if control < 32:
            n_bytes += control + 1
            at += control + 2
            continue
        is_long = control >> 5 == 7
        n_bytes += (control >> 5) + 2 + (packed[at + 1] if is_long else 0)
        at += 3 if is_long else 2
    return n_bytes


def _read(found: "h5py.Dataset", file_bytes: int) -> NDArray[Any]:
    import h5py

    text = h5py.check_string_dtype(found.dtype)
    if text is None:
        return found[:]
    if text.length is not None:
        return found.asstr()[:]
    return _read_long_texts(found, file_bytes)


def _read_long_texts(found: "h5py.Dataset", file_bytes: int) -> NDArray[Any]:
    """Read texts of any length: all may be the same long one, which the file has once."""
    names: list[str] = []
    n_bytes, n_at_once = 0, max(1, LARGEST_NAMES_BYTES // max(1, file_bytes))
    for first in range(0, len(found), n_at_once):
        block = found.asstr()[first : first + n_at_once].tolist()
        n_bytes += sum(map(len, block))
        if max(map(len, block)) > LONGEST_NAME or n_bytes > LARGEST_NAMES_BYTES:
            raise ValueError(
                f"{found.name} from row {first} (from 0) on: longer than the names of files, expected at "
                f"most {LONGEST_NAME:,} characters"
            )
        names += block
    return np.array(names, dtype=object)
