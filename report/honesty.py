"""What the figures rest on: who looked at test clips, seeds, intervals, versions, hashes."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa

from report.parts import Figure, Section
from report.results import Judged, Results

UNKNOWN = "not recorded"
MOST_NAMED = 12
"""Of systems that test clips chose, so many are named; the leaderboard marks all."""

Row = dict[str, Any]


def honesty(results: Results) -> Section:
    """The fine print, in red where test clips chose something."""
    return Section(
        name="honesty",
        title="What is honest here",
        text="\n\n".join(_said(results)),
        html=_box(results.systems),
        figures=(
            _figure(
                "protocols",
                "Who chose on what",
                "Honest: early stopping and the choice of ensembles saw clips of the fold select, cut "
                "from the training clips. Published: they saw test clips, as in the publications.",
                _protocols(results.systems),
            ),
            _figure(
                "test-clips",
                "What everything here is judged on",
                "The test fold of each split. Unseen: of recording devices that the training clips "
                "of the split lack.",
                _test_clips(results),
            ),
            _figure(
                "made-with",
                "What the runs were made with",
                "How many runs are of each commit, library and machine. Changes: the code was not "
                "quite that of the commit.",
                _made_with(results.systems),
            ),
            _figure(
                "members-of-ensembles",
                "What ensembles are made of",
                "Each member is pinned by the hash of its logits: an ensemble whose members changed "
                "is refused.",
                _members(results.systems),
            ),
        ),
    )


def _figure(name: str, title: str, caption: str, rows: Iterator[Row]) -> Figure:
    return Figure(name=name, title=title, caption=caption, table=pa.Table.from_pylist(list(rows)))


def _said(results: Results) -> list[str]:
    learners = [system for system in results.systems if not system.reference]
    strangers = sum("commit" not in record for each in learners for record in each.records)
    said = [
        (
            "Of the honest protocol no program reads test labels but this report and the tables "
            "that commands end with. What people chose after they saw those, no program knows."
        ),
        (
            "Intervals hold the middle 95 % of 2,000 bootstrap draws of whole recordings, as clips "
            "of a recording are alike. They tell how much a figure depends on the recordings that "
            "happen to be in the test fold, not on how a model began: seeds are for that."
        ),
        (
            f"Teachers and students learnt with {_range([each.n_seeds for each in learners])} "
            "seed(s) each; figures are means over seeds, differences of two systems are taken on "
            "the same clips and seeds. The best of many, looked for here, is flattered."
        ),
    ]
    if strangers:
        said.append(
            f"{strangers:,} run(s) tell no commit: others made them, and their protocol is what "
            "whoever imported them said."
        )
    return said


def _range(counts: list[int]) -> str:
    if not counts:
        return "no"
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _box(systems: tuple[Judged, ...]) -> str:
    """What to know first, as HTML."""
    published = [each for each in systems if each.protocol == "published"]
    if not published:
        return (
            '<p class="notice">No test clip chose anything: no epoch, no member of an ensemble, no '
            "weight.</p>"
        )
    names = ", ".join(f"{each.name} (split {each.split})" for each in published[:MOST_NAMED])
    more = f" and {len(published) - MOST_NAMED} more" if len(published) > MOST_NAMED else ""
    return (
        f'<p class="notice alarm"><strong>Test clips chose something in {len(published)} of '
        f"{len(systems)} systems</strong>, so that their figures are too good: "
        f"{escape(names)}{more}.</p>"
    )


def _protocols(systems: tuple[Judged, ...]) -> Iterator[Row]:
    groups: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for system in systems:
        groups[system.kind, system.protocol].append(system)
    for (kind, protocol), members in groups.items():
        seeds = {str(seed) for each in members for seed in each.seeds if seed is not None}
        yield {
            "kind": kind,
            "protocol": protocol,
            "systems": len(members),
            "runs": sum(each.n_seeds for each in members),
            "seeds": " ".join(sorted(seeds, key=int)) or "none",
            "chosen on": "test" if protocol == "published" else "select",
        }


def _test_clips(results: Results) -> Iterator[Row]:
    for split, clips in results.clips.items():
        unseen = np.unique(clips.recording_devices[~clips.seen])
        yield {
            "split": split,
            "clips": len(clips.rows),
            "recordings": len(np.unique(clips.recordings)),
            "of unseen devices": int((~clips.seen).sum()),
            "unseen devices": " ".join(map(str, unseen)) or "none",
            "cities": len(np.unique(clips.cities)),
        }


def _made_with(systems: tuple[Judged, ...]) -> Iterator[Row]:
    counts: Counter[tuple[str, str]] = Counter()
    for system in systems:
        if not system.reference:
            for record in system.records:
                counts.update(_of_record(record))
    for (what, value), n_runs in sorted(counts.items()):
        yield {"what": what, "which": value, "runs": n_runs}


def _of_record(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    machine = record.get("machine", {})
    yield "commit", record.get("commit") or UNKNOWN
    yield "python", machine.get("python", UNKNOWN)
    yield "machine", machine_of(record) or UNKNOWN
    yield from record.get("versions", {}).items()


def machine_of(record: Mapping[str, Any]) -> str | None:
    """What a run computed on; None where its record does not tell."""
    machine = record.get("machine")
    if machine is None:
        return None
    return machine["accelerator"] or f"{machine['processor']} CPU, {machine['threads']} thread(s)"


def _members(systems: tuple[Judged, ...]) -> Iterator[Row]:
    for system in systems:
        if system.reference:
            for member in system.document["members"]:
                yield {
                    "ensemble": system.reference,
                    "split": system.split,
                    "member": member["member"],
                    "weight": member["weight"],
                    "hash of its logits": member["hash"],
                }
