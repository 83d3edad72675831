"""Small files that declare, hide or unpack to far more are refused in words, and take no memory."""

import io
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from foreign_files import Case, make_case, write_text_table

from logit_store import ImportRefused
from logit_store.importers import import_logits

MIB = 2**20
BOMB_BYTES = 128 * MIB
MOST_BYTES = 48 * MIB
"""What a refusal may take; each of these files would take more than BOMB_BYTES, or crash."""

Write = Callable[[Path, Case], object]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module", autouse=True)
def read_once(case: Case, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import what readers need, which takes memory of its own."""
    folder = tmp_path_factory.mktemp("warm")
    torch.save(torch.zeros(2, 2), folder / "a_25.pt")
    write_h5(folder / "b_25.h5", case, lambda file: file.create_dataset("logits", (2, 2), "f4"))
    np.savez(folder / "c_25.npz", logits=np.zeros(2))
    (folder / "d_25.csv").write_text("filename\n")
    with pytest.raises(ImportRefused):
        import_logits(case.store, "tau", [folder])


def write_h5(path: Path, case: Case, add: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "w") as file:
        file["filenames"] = list(case.names)
        add(file)


def of_h5(add: Callable[[h5py.File], object]) -> Write:
    return lambda path, case: write_h5(path, case, add)


def elsewhere(path: Path, case: Case) -> None:
    path.with_name("secret.bin").write_bytes(case.logits_NK.tobytes())
    external = [(str(path.with_name("secret.bin")), 0, case.logits_NK.nbytes)]
    shape = case.logits_NK.shape
    write_h5(path, case, lambda file: file.create_dataset("logits", shape, "f4", external=external))


def virtual(path: Path, case: Case) -> None:
    layout = h5py.VirtualLayout(case.logits_NK.shape, "f4")
    layout[:] = h5py.VirtualSource("other.h5", "logits", case.logits_NK.shape)
    write_h5(path, case, lambda file: file.create_virtual_dataset("logits", layout))


def other_file(path: Path, case: Case) -> None:
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["logits"] = case.logits_NK
    link = h5py.ExternalLink("other.h5", "/logits")
    write_h5(path, case, lambda file: file.__setitem__("logits", link))


def packed_chunk(compression: str, packed: bytes) -> Write:
    def add(file: h5py.File) -> None:
        made = file.create_dataset("logits", (57, 3), "f4", chunks=(57, 3), compression=compression)
        made.id.write_direct_chunk((0, 0), packed)

    return of_h5(add)


def write_npz(path: Path, case: Case, **members: bytes) -> None:
    names = io.BytesIO()
    np.save(names, np.array(case.names))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in ({"filenames": names.getvalue()} | members).items():
            archive.writestr(f"{name}.npy", data)


def npy_head(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    head = io.BytesIO()
    form = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, form)
    return head.getvalue()


def npz_of_zeros(shape: tuple[int, ...], n_bytes: int) -> Write:
    return lambda path, case: write_npz(path, case, logits=npy_head(shape) + bytes(n_bytes))


def npz_with_long_head(path: Path, case: Case) -> None:
    head = b"\x93NUMPY\x02\x00" + (BOMB_BYTES).to_bytes(4, "little")
    write_npz(path, case, logits=head + b" " * BOMB_BYTES)


def npz_with_long_names(path: Path, case: Case) -> None:
    names = npy_head((57,), "<U600000") + bytes(57 * 2_400_000)
    write_npz(path, case, filenames=names, logits=npy_head((57, 3)) + bytes(57 * 12))


def npz_that_lies(path: Path, case: Case) -> None:
    """Write an archive whose directory gives its logits a smaller size than they have."""
    whole = npy_head((57, 3)) + bytes(BOMB_BYTES)
    write_npz(path, case, logits=whole)
    sizes = len(whole).to_bytes(4, "little"), (len(npy_head((57, 3))) + 684).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(*sizes))


def packed_tensor(path: Path, case: Case) -> None:
    file = io.BytesIO()
    torch.save(torch.zeros(57, MIB * 3 // 5), file)
    with (
        zipfile.ZipFile(file) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for each in plain.namelist():
            archive.writestr(each, plain.read(each))


def wide_tensor(path: Path, case: Case) -> None:
    torch.save(torch.zeros(1, 1, dtype=torch.float64).expand(57, 50_000_000), path)


def huge_file(path: Path, case: Case) -> None:
    with path.open("wb") as file:
        file.truncate(10**11)


SHAPE = re.escape("expected (57, 3)")
BOMBS: dict[str, tuple[str, Write, str]] = {
    "other storage": ("h5", elsewhere, "logits has its data in another file"),
    "virtual": ("h5", virtual, "logits is a virtual data set, expected one with its data in"),
    "other file": ("h5", other_file, "logits is a ExternalLink to another place"),
    "soft link": (
        "h5",
        of_h5(lambda file: file.__setitem__("logits", h5py.SoftLink("/filenames"))),
        "logits is a SoftLink",
    ),
    "group": ("h5", of_h5(lambda file: file.create_group("logits")), "logits is a Group"),
    "wide": (
        "h5",
        of_h5(lambda file: file.create_dataset("logits", (57, 50_000_000), "f4", chunks=True)),
        rf"logits of shape \(57, 50000000\), {SHAPE}",
    ),
    "long": (
        "h5",
        of_h5(lambda file: file.create_dataset("logits", (10**9, 3), "f4", chunks=(57, 3))),
        rf"logits of shape \(1000000000, 3\), {SHAPE}",
    ),
    "large chunks": (
        "h5",
        of_h5(
            lambda file: file.create_dataset(
                "logits", (57, 3), "f4", maxshape=(None, None), chunks=(MIB, 64), compression="gzip"
            )
        ),
        r"/logits is in chunks of shape \(1048576, 64\), 268,435,456 bytes",
    ),
    "gzip": (
        "h5",
        packed_chunk("gzip", zlib.compress(bytes(BOMB_BYTES), 1)),
        r"/logits: the chunk at \(0, 0\) unpacks to more than its 684 bytes",
    ),
    "lzf": (
        "h5",
        # A byte, and half a million times 264 bytes.
        packed_chunk("lzf", b"\x00\x00" + b"\xe0\xff\x00" * (MIB // 2)),
        "unpacks to more than its 684 bytes",
    ),
    "filter": (
        "h5",
        of_h5(lambda file: file.create_dataset("logits", (57, 3), "f4", scaleoffset=2)),
        r"logits is packed by HDF5's filters \[6\], expected gzip or lzf",
    ),
    "long names in HDF5": (
        "h5",
        lambda path, case: h5py.File(path, "w").update(
            {"filenames": ["x" * 5000] * 57, "logits": case.logits_NK}
        ),
        "/filenames from row 0 .* at most 4,096 characters",
    ),
    "wide npz": ("npz", npz_of_zeros((57, 600_000), 57 * 2_400_000), rf"\(57, 600000\), {SHAPE}"),
    "longer npz": (
        "npz",
        npz_of_zeros((57, 3), BOMB_BYTES),
        "logits.npy: 134,217,856 bytes, expected 812 for shape",
    ),
    "shorter npz": ("npz", npz_of_zeros((57, 3), 3), "logits.npy: 131 bytes, expected 812"),
    "npz that lies": ("npz", npz_that_lies, "Bad CRC-32 for file 'logits.npy'|Overlapped"),
    "long head": ("npz", npz_with_long_head, r"version \(2, 0\) of numpy's format"),
    "long names": ("npz", npz_with_long_names, "57 texts of 2,400,000 bytes, expected at most"),
    "packed tensor": ("pt", packed_tensor, "compressed records .*, which torch.save never writes"),
    "wide tensor": ("pt", wide_tensor, rf"\(57, 50000000\), {SHAPE}"),
    "long line": (
        "csv",
        lambda path, case: path.write_bytes(b"filename," * MIB),
        "its first line is longer than 65,536 bytes",
    ),
    "long field": (
        "csv",
        lambda path, case: write_text_table(
            path, ["x" * 4 * MIB], {scene: [0.5] for scene in case.scenes}
        ),
        "straddling",
    ),
    "huge file": ("csv", huge_file, "100,000,000,000 bytes, expected at most .* for 57 clips"),
}


@pytest.mark.parametrize(("ending", "write", "words"), BOMBS.values(), ids=BOMBS)
def test_a_file_that_would_take_more_memory_than_its_corpus_is_refused_by_its_head(
    case: Case, tmp_path: Path, ending: str, write: Write, words: str
) -> None:
    path = tmp_path / f"passt_25.{ending}"
    write(path, case)
    before = reset_peak()
    with pytest.raises(ImportRefused, match=rf"passt_25\.{ending}: .*(?:{words})"):
        import_logits(case.store, "tau", [path])
    assert read_peak() - before < MOST_BYTES
    assert case.store.keys() == []


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
@pytest.mark.parametrize("fletcher32", [False, True])
def test_packed_data_sets_are_imported_if_they_are_plain(
    case: Case, tmp_path: Path, compression: str, fletcher32: bool
) -> None:
    # Some chunks are packed well; noise is stored as it is.
    noise_NK = case.logits_NK.copy()
    noise_NK[10:40] = np.round(noise_NK[10:40])
    names = {"data": list(case.names)} if not fletcher32 else {"data": np.array(case.names, "S")}
    path = tmp_path / f"{compression}_{fletcher32}_25.h5"
    options = {"compression": compression, "fletcher32": fletcher32, "chunks": (20, 3)}
    with h5py.File(path, "w") as file:
        file.create_dataset("logits", data=noise_NK, shuffle=True, **options)
        file.create_dataset("filenames", **names, **options | {"chunks": (20,)})
    (found,) = import_logits(case.store, "tau", [path])
    (stored_NK,) = case.store.read([found.key])
    np.testing.assert_array_equal(stored_NK, noise_NK)


def reset_peak() -> int:
    """Return the memory of this process, which the next peak is compared with."""
    Path("/proc/self/clear_refs").write_text("5")
    return read_peak()


def read_peak() -> int:
    """Return the largest memory of this process since the last reset, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status)[1])
