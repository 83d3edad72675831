"""The rules for a whole package: one ZIP file with the systems of some authors."""

import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

from audio.clips import SPLITS
from audio.corpora.tau_evaluation import N_CLIPS
from report.dcase.challenge import (
    LABEL_FORM,
    Year,
    is_label,
    name_meta,
    name_only_output,
    name_output,
)
from report.dcase.problems import BrokenRule
from report.dcase.unpack import DAMAGED, LONGEST_FILE, describe_damage
from report.dcase.validate_meta import check_meta
from report.dcase.validate_output import check_output

LONGEST_TEXT = 2**20
LONGEST_ROW = 2**10
"""Bytes of a line of predictions."""


def check_package(
    package: Path | bytes, n_clips: int | None = N_CLIPS, year: Year = 2024
) -> list[BrokenRule]:
    """Find every rule of the challenge that a package breaks.

    If several rows break the same rule, the first one is reported, with their number.

    Args:
        package: The ZIP file, or its bytes.
        n_clips: The number of clips in the evaluation set; use another than the challenge's to try
            things out. None if it is not known, as of 2025.
        year: Of the challenge.

    Raises:
        OSError: The file does not exist or cannot be read.
    """
    name = package.name if isinstance(package, Path) else "package"
    content = package.read_bytes() if isinstance(package, Path) else package
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            return list(_check_archive(name, archive, n_clips, year))
    except DAMAGED as error:
        return [describe_damage(name, error)]


def list_outputs(label: str, year: Year) -> list[str]:
    """Return the paths of a system's predictions in a package."""
    if year == 2025:
        return [name_only_output(label)]
    return [name_output(label, split) for split in SPLITS]


def _check_archive(
    name: str, archive: ZipFile, n_clips: int | None, year: Year
) -> Iterator[BrokenRule]:
    paths = [PurePosixPath(each) for each in archive.namelist()]
    folders = {path.parts[1] for path in paths if len(path.parts) > 2 and path.parts[0] == "task1"}
    if not folders:
        present = ", ".join(map(str, paths[:3])) or "nothing"
        yield BrokenRule(
            file=name, value=f"contains {present}", expected=f"folders task1/{LABEL_FORM}/"
        )
    for label in sorted(folders):
        yield from _check_system(label, archive, n_clips, year)


def _check_system(
    label: str, archive: ZipFile, n_clips: int | None, year: Year
) -> Iterator[BrokenRule]:
    if not is_label(label):
        yield BrokenRule(file=f"task1/{label}", value=f"label {label!r}", expected=LABEL_FORM)
    present = set(archive.namelist())
    # Of 2025 the number of clips is not known.
    most = LONGEST_FILE if n_clips is None else max(LONGEST_TEXT, LONGEST_ROW * n_clips)
    for output in list_outputs(label, year):
        if output not in present:
            yield _report_missing(output, label, present)
        elif too_long := _find_too_long(archive, output, most):
            yield too_long
        else:
            yield from check_output(output, archive.read(output), n_clips)
    meta = name_meta(label)
    if meta not in present:
        yield _report_missing(meta, label, present)
    elif too_long := _find_too_long(archive, meta, LONGEST_TEXT):
        yield too_long
    else:
        yield from check_meta(meta, archive.read(meta), label, year)


def _find_too_long(archive: ZipFile, file: str, most_bytes: int) -> BrokenRule | None:
    """Return what is wrong with a file that unpacks to more than its kind needs."""
    n_bytes = archive.getinfo(file).file_size
    if n_bytes <= most_bytes:
        return None
    return BrokenRule(file=file, value=f"{n_bytes:,} bytes", expected=f"at most {most_bytes:,}")


def _report_missing(file: str, label: str, present: set[str]) -> BrokenRule:
    folder = f"task1/{label}/"
    others = sorted(each.removeprefix(folder) for each in present if each.startswith(folder))
    return BrokenRule(
        file=file, value="missing", expected=f"it beside {', '.join(filter(None, others))}"
    )
