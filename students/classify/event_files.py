"""A list of the events of a recording: start_s, end_s, class."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

COLUMNS = ("start_s", "end_s", "class")


class UnfitEvents(ValueError):
    """A list of events that cannot be used; the message names file, row, value and way out."""


class Event(NamedTuple):
    """Something that is heard for a while."""

    start_s: float
    end_s: float
    scene: str
    """Its class."""
    row: int = 0
    """Line of the file that it stands in."""


class EventList(NamedTuple):
    """The events of a recording."""

    file: Path
    """The file that lists them."""
    events: list[Event]

    def check_end(self, end_s: float) -> None:
        """Raise UnfitEvents if an event goes beyond the end of the recording, in seconds."""
        for event in self.events:
            if event.end_s > end_s:
                raise UnfitEvents(
                    f"{self.file}: row {event.row}: end_s is {event.end_s:g}, but the recording ends "
                    f"before {end_s:g} s: give the list of this recording"
                )


def read_events(file: Path, classes: Sequence[str]) -> EventList:
    """Read a CSV file with the columns start_s, end_s and class, in any order; others are passed over.

    Args:
        file: the file.
        classes: the classes that a student knows.

    Raises:
        UnfitEvents: no such columns, a time that is no number, an end that is not after its start, or a
            class that the student does not know; or the file cannot be read.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UnfitEvents(
                    f"{file}: the first row has no column {missing[0]}, expected {','.join(COLUMNS)}"
                )
            events = [_read_row(file, reader.line_num, row, classes) for row in reader]
    except OSError as error:
        raise UnfitEvents(f"{file}: {error.strerror}: name a list of events") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnfitEvents(f"{file}: is no CSV file in UTF-8 ({error}): save it as one") from error
    return EventList(file, events)


def _read_row(file: Path, number: int, row: dict[str, str | None], classes: Sequence[str]) -> Event:
    where = f"{file}: row {number}"
    start_s, end_s = (_read_time(where, name, row[name] or "") for name in COLUMNS[:2])
    if end_s <= start_s:
        raise UnfitEvents(f"{where}: end_s is {end_s:g}, expected more than start_s, {start_s:g}")
    scene = row["class"] or ""
    if scene not in classes:
        raise UnfitEvents(
            f"{where}: class is {scene!r}, expected one that the student knows ({', '.join(classes)}): "
            "leave the row out, if it is none of them"
        )
    return Event(start_s, end_s, scene, number)


def _read_time(where: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UnfitEvents(f"{where}: {column} is {text!r}, expected seconds from the beginning")
    return value
