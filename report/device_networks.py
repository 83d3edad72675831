"""What a network per recording device gains over the general student, on the test clips (A seeds, P clips, K classes)."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from metrics import main_score
from report.parts import Figure, Row
from report.results import JudgedSystem, Results
from report.summary import compare_logits, describe_score


def build_device_figures(results: Results) -> tuple[Figure, ...]:
    """Return a table of the students with a network per recording device; nothing without any."""
    rows = list(_list_students(results))
    if not rows:
        return ()
    return (
        Figure(
            name="network-per-recording-device",
            title="A network per recording device",
            caption=f"{describe_score(results.corpus)} in percent, as a mean over seeds: of the general student on all test clips, "
            "and of each clip's network: that of its recording device, or the general student for devices that "
            "it does not know. The gain is on the same clips and seeds, with its 95 % interval. Of known "
            "devices: on the clips whose network is another one.",
            table=pa.Table.from_pylist(rows),
        ),
    )


def _list_students(results: Results) -> Iterator[Row]:
    for system in results.list_systems("student"):
        if "per_device" in system.records[0] and system.keys:
            yield from _describe(results, system)


def _describe(results: Results, system: JudgedSystem) -> Iterator[Row]:
    """Yield the row of a student, unless its general student is no longer in the store."""
    general = [
        replace(key, member=record["start"])
        for key, record in zip(system.keys, system.records, strict=True)
    ]
    if any(key not in results.store for key in general):
        return
    test = results.clips[system.split]
    before_APK = [results.store.read([key], test.rows)[0] for key in general]
    after_APK = list(results.read_logits(system))
    gain = compare_logits(test, before_APK, after_APK).difference
    known_P = np.isin(test.recording_devices, system.records[0]["per_device"]["devices"])

    def score(logits_APK: list[np.ndarray], some_P: np.ndarray) -> float | None:
        if not some_P.any() or (test.labels.ndim == 2 and not test.labels[some_P].any()):
            return None
        found = [main_score(each[some_P], test.labels[some_P]) for each in logits_APK]
        return round(100 * float(np.mean(found)), 2)

    everything_P = np.ones_like(known_P)
    yield {
        "student": system.name,
        "split": system.split,
        "seeds": system.n_seeds,
        "networks": 1 + len(system.records[0]["per_device"]["devices"]),
        "general": score(before_APK, everything_P),
        "device-specific": score(after_APK, everything_P),
        "gain": round(100 * gain.value, 2),
        "from": round(100 * gain.low, 2),
        "to": round(100 * gain.high, 2),
        "general, known devices": score(before_APK, known_P),
        "device-specific, known devices": score(after_APK, known_P),
    }
