"""When the ensembles of a name were made: the last is what the name alone stands for.

The time of an ensemble's file does not tell, because a copy of a store may have other times, clocks are
set back, and two files may have the same time. It cannot stand in that file either, whose bytes give it
its name. So it is a file of its own, `ensemble_times/v1/corpus=C/split=S/NAME@HASH.json`. Ensembles of
earlier versions have none; for them the time of their file counts.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from logit_store.errors import DamagedFile
from logit_store.files import Entry, Files
from logit_store.json_objects import decode_json, encode_json


def write_time(files: Files, path: str, others: Sequence[Entry]) -> None:
    """Note that the ensemble at a path is made now: later than the others, whatever the clock says.

    The times of others that have none are noted too: a copy of the store would have other times of
    files, which cannot be compared with noted ones.

    Raises:
        DamagedFile: a time cannot be read.
    """
    times, noted = read_times(files, others), _find_noted(files, others)
    for other, made in zip(others, times, strict=True):
        if _locate(other.name) not in noted:
            _put_time(files, other.name, made)
    now = datetime.fromtimestamp(time.time(), UTC)
    _put_time(files, path, max([now, *(each + timedelta(microseconds=1) for each in times)]))


def read_times(files: Files, entries: Sequence[Entry]) -> list[datetime]:
    """Return when each of some ensembles of one split was made.

    Raises:
        DamagedFile: a time cannot be read.
    """
    noted = _find_noted(files, entries)
    return [
        _read_time(files, _locate(entry.name)) if _locate(entry.name) in noted else entry.written
        for entry in entries
    ]


def _find_noted(files: Files, entries: Sequence[Entry]) -> set[str]:
    folders = {_locate(entry.name).rpartition("/")[0] for entry in entries}
    return {each.name for folder in folders for each in files.find(f"{folder}/*.json")}


def _put_time(files: Files, path: str, made: datetime) -> None:
    files.put(_locate(path), encode_json({"made": made.isoformat()}))


def _locate(path: str) -> str:
    return path.replace("ensembles/", "ensemble_times/", 1)


def _read_time(files: Files, name: str) -> datetime:
    path = files.locate(name)
    try:
        made = datetime.fromisoformat(decode_json(files.get(name), path)["made"])
        if made.tzinfo is None:
            raise ValueError(f"time {made} without a time zone")
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedFile(path, f"no time of an ensemble: {error!r}") from error
    return made
