"""Which systems heard microphones of TAU's unseen devices, which are then not unseen to them."""

from collections.abc import Iterator, Mapping
from typing import Any

from audio.micirp import HEARD_UNSEEN, UNSEEN_DEVICES, UNSEEN_MICROPHONES, WHOLE
from report.origins import gather_from_origins
from report.parts import Row
from report.results import JudgedSystem, Results
from report.systems import read_recipe


def list_hearers(results: Results) -> list[tuple[JudgedSystem, list[str]]]:
    """Return the systems that heard some of these microphones, or come from one that did, and which.

    Of a corpus without these devices among the unseen ones of its test clips there are none.
    """
    if not _has_unseen_devices(results):
        return []
    own = [
        {name for record in each.records for name in _list_heard(record)}
        for each in results.systems
    ]
    gathered = gather_from_origins(results.systems, own)
    return [
        (system, sorted(heard))
        for system, heard in zip(results.systems, gathered, strict=True)
        if heard
    ]


def describe_hearers(results: Results) -> Iterator[Row]:
    """Yield a row for each of these systems."""
    for system, heard in list_hearers(results):
        yield {"system": system.name, "split": system.split, "heard": ", ".join(heard)}


def _has_unseen_devices(results: Results) -> bool:
    return results.corpus.name == "tau" and any(
        set(UNSEEN_DEVICES) & set(clips.recording_devices[~clips.seen])
        for clips in results.clips.values()
    )


def _list_heard(record: Mapping[str, Any]) -> list[str]:
    """Return which of the microphones that were there a run heard: none if it changed no clip so."""
    recipe = read_recipe(record)
    augmentation = recipe.get("augmentation")
    if isinstance(augmentation, Mapping):
        hears = augmentation.get("impulse_response_probability", 0) > 0
    else:
        # A probe hears none in the untouched clips, which are its first view.
        hears = recipe.get("n_views", 1) > 1
    if not hears:
        return []
    whole = UNSEEN_MICROPHONES if record.get("responses") == WHOLE else ()
    return list(record.get(HEARD_UNSEEN, whole))
