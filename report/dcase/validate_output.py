"""The rules for one file of predictions."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from report.dcase.challenge import CHALLENGE_SCENES, OUTPUT_COLUMNS
from report.dcase.problems import BrokenRule, report_first

_CLIP = re.compile(r"(?:.*/)?([0-9]+)\.wav")

NumberedRow = tuple[int, dict[str, str]]
"""A line number and the fields of the line by column."""


def check_output(file: str, content: bytes, n_clips: int | None) -> Iterator[BrokenRule]:
    """Find every rule that a file of predictions breaks.

    Args:
        file: Its name, for the messages.
        content: The bytes of the file.
        n_clips: The number of clips in the evaluation set, each of which has one row: 0.wav ...; None
            if it is not known.
    """
    try:
        header, *lines = _split_lines(content)
    except UnicodeDecodeError as error:
        yield BrokenRule(file=file, value=str(error), expected="a text in UTF-8")
        return
    columns = header.split("\t")
    if Counter(columns) != Counter(OUTPUT_COLUMNS):
        yield _report_header(file, columns)
        return
    split = [(number, text.split("\t")) for number, text in enumerate(lines, start=2)]
    misshapen = [(n, f"{len(each)} fields") for n, each in split if len(each) != len(columns)]
    yield from report_first(file, misshapen, f"{len(columns)}, with tabs between them")
    rows = [
        (number, dict(zip(columns, each, strict=True)))
        for number, each in split
        if len(each) == len(columns)
    ]
    if n_clips is not None and len(lines) != n_clips:
        yield BrokenRule(
            file=file, value=f"{len(lines):,} rows", expected=f"{n_clips:,}, one for each clip"
        )
    yield from _check_clips(file, rows, n_clips)
    unknown = [
        (n, repr(r["scene_label"])) for n, r in rows if r["scene_label"] not in CHALLENGE_SCENES
    ]
    yield from report_first(file, unknown, f"a scene_label among {', '.join(CHALLENGE_SCENES)}")
    yield from report_first(file, _find_not_finite(rows), "a finite number")


def _split_lines(content: bytes) -> list[str]:
    # Not str.splitlines, which would also end a line at a form feed or the like inside a field.
    lines = content.decode().replace("\r\n", "\n").split("\n")
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines


def _report_header(file: str, columns: Sequence[str]) -> BrokenRule:
    return BrokenRule(
        file=file,
        place="line 1",
        value=f"columns {', '.join(columns)}",
        expected=f"each of these once, with tabs between them: {', '.join(OUTPUT_COLUMNS)}",
    )


def _check_clips(
    file: str, rows: Sequence[NumberedRow], n_clips: int | None
) -> Iterator[BrokenRule]:
    last = "the last one" if n_clips is None else n_clips - 1
    unknown: list[tuple[int, str]] = []
    repeated: list[tuple[int, str]] = []
    line_of: dict[int, int] = {}
    for line, row in rows:
        name = row["filename"]
        found = _CLIP.fullmatch(name)
        if not found or (n_clips is not None and int(found[1]) >= n_clips):
            unknown.append((line, repr(name)))
            continue
        first = line_of.setdefault(int(found[1]), line)
        if first != line:
            repeated.append((line, f"{name!r} as in line {first}"))
    yield from report_first(file, unknown, f"<n>.wav with n = 0 ... {last}")
    yield from report_first(file, repeated, "each clip once")


def _find_not_finite(rows: Sequence[NumberedRow]) -> Iterator[tuple[int, str]]:
    for line, row in rows:
        wrong = next((scene for scene in CHALLENGE_SCENES if not _is_finite(row[scene])), None)
        if wrong is not None:
            yield line, f"{wrong} is {row[wrong]!r}"


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
