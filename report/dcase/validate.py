"""The rules for a whole package: one ZIP with the systems of some authors."""

import io
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

from audio.clips import SPLITS
from audio.corpora.tau_evaluation import N_CLIPS
from report.dcase.challenge import LABEL_FORM, is_label, meta_name, output_name
from report.dcase.problems import Problem
from report.dcase.validate_meta import check_meta
from report.dcase.validate_output import check_output


def check(package: Path | bytes, n_clips: int = N_CLIPS) -> list[Problem]:
    """Every rule of the challenge that a package breaks; an empty list if none.

    Of rows that break the same rule the first is told, and how many there are.

    Args:
        package: The ZIP, as a file or as its bytes.
        n_clips: Clips of the evaluation set; another number than the challenge's for trying out.

    Raises:
        OSError: There is no such file, or it cannot be read.
    """
    name = package.name if isinstance(package, Path) else "package"
    content = package.read_bytes() if isinstance(package, Path) else package
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            return list(_check_archive(name, archive, n_clips))
    # What a damaged or a locked ZIP raises depends on which of its bytes are read first.
    except (BadZipFile, zlib.error, RuntimeError) as error:
        return [Problem(file=name, value=str(error), expected="a ZIP file that is whole")]


def _check_archive(name: str, archive: ZipFile, n_clips: int) -> Iterator[Problem]:
    paths = [PurePosixPath(each) for each in archive.namelist()]
    folders = {path.parts[1] for path in paths if len(path.parts) > 2 and path.parts[0] == "task1"}
    if not folders:
        found = ", ".join(map(str, paths[:3])) or "nothing"
        yield Problem(file=name, value=f"holds {found}", expected=f"folders task1/{LABEL_FORM}/")
    for label in sorted(folders):
        yield from _check_system(label, archive, n_clips)


def _check_system(label: str, archive: ZipFile, n_clips: int) -> Iterator[Problem]:
    if not is_label(label):
        yield Problem(file=f"task1/{label}", value=f"label {label!r}", expected=LABEL_FORM)
    present = set(archive.namelist())
    for split in SPLITS:
        output = output_name(label, split)
        if output in present:
            yield from check_output(output, archive.read(output), n_clips)
        else:
            yield _absent(output, label, present)
    meta = meta_name(label)
    if meta in present:
        yield from check_meta(meta, archive.read(meta), label)
    else:
        yield _absent(meta, label, present)


def _absent(file: str, label: str, present: set[str]) -> Problem:
    folder = f"task1/{label}/"
    there = sorted(each.removeprefix(folder) for each in present if each.startswith(folder))
    return Problem(
        file=file, value="missing", expected=f"it beside {', '.join(filter(None, there))}"
    )
