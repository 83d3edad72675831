"""What the figures rest on: which systems used test clips, seeds, intervals, versions, hashes."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from audio.micirp import UNSEEN_DEVICES
from audio.parts import OUT_OF_FOLD
from metrics import MIN_SEEDS
from report.microphones import describe_hearers, list_hearers
from report.origins import gather_from_origins
from report.page.render import render
from report.parts import Figure, Row, Section
from report.results import JudgedSystem, Results
from report.summary import name_groups
from students.pools import list_pool_parts
from terminal.tables import format_count

NOT_RECORDED = "not recorded"
MOST_NAMED = 12
"""At most this many systems that test clips chose are named; the leaderboard marks all."""


def build_honesty(results: Results) -> Section:
    """Build the section on what the figures rest on, in red where test clips chose something."""
    return Section(
        name="honesty",
        title="What is honest here",
        text="\n\n".join(_describe(results)),
        html=_render_notice(results),
        figures=(
            *_build_pool_figure(results.systems),
            *_build_microphones_figure(results),
            _make_figure(
                "protocols",
                "Which clips chose",
                "Honest: early stopping and the selection of ensembles used clips of the fold "
                "select, which are set apart from the training clips. Published: they used test "
                "clips, as in the publications.",
                _list_protocols(results.systems),
            ),
            _make_figure(
                "test-clips",
                "What everything here is judged on",
                "The test fold of each split. Unseen: of recording devices that recorded none of "
                "the split's training clips.",
                _list_test_clips(results),
            ),
            _make_figure(
                "made-with",
                "What the runs were made with",
                "The number of runs for each commit, library and machine. A commit with changes: "
                "the code differed from that of the commit.",
                _count_versions(results.systems),
            ),
            _make_figure(
                "members-of-ensembles",
                "Members of ensembles",
                "Each member is pinned by the hash of its logits: an ensemble whose members "
                "changed is refused.",
                _list_members(results.systems),
            ),
        ),
    )


def _build_pool_figure(systems: tuple[JudgedSystem, ...]) -> tuple[Figure, ...]:
    """Return the table of pools, if a system learnt from one."""
    rows = list(_list_pools(systems))
    if not rows:
        return ()
    caption = (
        "Clips that taught students without their labels. rest: training clips that the split leaves "
        "out. unlabelled: clips of the corpus without a label. Others are corpora. Share: of each "
        "batch; natural if all clips were shuffled together."
    )
    return (_make_figure("pools", "Clips without labels", caption, iter(rows)),)


def _build_microphones_figure(results: Results) -> tuple[Figure, ...]:
    """Return the table of systems that know unseen devices by their microphones, if there are some."""
    rows = list(describe_hearers(results))
    if not rows:
        return ()
    caption = (
        "Systems whose impulse responses, or those of their members or teachers, are of the microphones by "
        f"which TAU simulates {', '.join(UNSEEN_DEVICES)}. Their figures on unseen devices are on devices "
        "that they have heard."
    )
    return (_make_figure("microphones", "Not unseen to these", caption, iter(rows)),)


def _list_pools(systems: tuple[JudgedSystem, ...]) -> Iterator[Row]:
    for system in systems:
        for part in list_pool_parts(system.records[0]):
            share = "all" if part["alone"] else part["share"]
            yield {
                "student": system.name,
                "split": system.split,
                "stage": "first, pool alone" if part["alone"] else "with the corpus",
                "pool": ", ".join(f"{each['name']} ({each['clips']:,})" for each in part["pools"]),
                "clips": part["clips"],
                "hours": part["hours"],
                "share": "natural" if share is None else str(share),
            }


def _find_pools_behind(systems: Sequence[JudgedSystem]) -> list[set[str]]:
    """Return the names of the pools that taught each system, its members or its teachers."""
    names = [
        {
            pool["name"]
            for record in each.records
            for part in list_pool_parts(record)
            for pool in part["pools"]
        }
        for each in systems
    ]
    return gather_from_origins(systems, names)


def _make_figure(name: str, title: str, caption: str, rows: Iterator[Row]) -> Figure:
    return Figure(name=name, title=title, caption=caption, table=pa.Table.from_pylist(list(rows)))


def _describe(results: Results) -> list[str]:
    learners = [system for system in results.systems if not system.reference]
    n_without_commit = sum("commit" not in record for each in learners for record in each.records)
    n_seeds = _format_range([each.n_seeds for each in learners])
    groups = name_groups(has_sources=results.corpus.has_sources)
    paragraphs = [
        (
            "With the honest protocol, only this report and the tables at the end of commands read "
            "test labels. What people chose after they saw these, no program knows."
        ),
        (
            f"Intervals are the middle 95 % of 2,000 bootstrap draws of whole {groups}, as clips "
            f"of one of the {groups} are alike, and from {MIN_SEEDS} seeds on of what other seeds "
            "would give (Student's t). So they show how much a figure depends on the "
            f"{groups} that happen to be in the test fold, and on a model's initial weights. With "
            f"fewer seeds they are over {groups} alone, and say nothing of the second: no difference "
            "is called clear then."
        ),
        (
            f"Teachers and students were trained with {n_seeds} seed(s) each. Figures are means over "
            "seeds; differences of two systems are taken on the same clips and seeds. The best of "
            "many systems on these clips looks better than it is."
        ),
    ]
    n_with_pool = sum(bool(list_pool_parts(each.records[0])) for each in learners)
    if n_with_pool:
        paragraphs.append(
            f"{format_count(n_with_pool, 'student')} learnt from clips without their labels as well, by "
            "what teachers say of them: the table of pools says which. No clip or recording of a pool is "
            "in the folds select and test. A student that saw a pool is compared fairly with those that "
            "might have seen it too."
        )
    if n_without_commit:
        paragraphs.append(
            f"Without a commit in their records are {format_count(n_without_commit, 'run')}: imported, and "
            "their protocol is what was stated at the import."
        )
    return paragraphs


def _format_range(counts: list[int]) -> str:
    if not counts:
        return "no"
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _render_notice(results: Results) -> Markup:
    """Render what a reader has to know first."""
    systems, hearers = results.systems, list_hearers(results)
    published = [each for each in systems if each.protocol == "published"]
    names = _find_pools_behind(systems)
    pools, n_with_pool = sorted(set().union(*names)), sum(map(bool, names))
    return render(
        "notice.html",
        published=published,
        n_systems=len(systems),
        most_named=MOST_NAMED,
        pools=pools,
        n_with_pool=n_with_pool,
        n_hearers=len(hearers),
        microphones=sorted({name for _, heard in hearers for name in heard}),
        unseen_devices=UNSEEN_DEVICES,
    )


def _list_protocols(systems: tuple[JudgedSystem, ...]) -> Iterator[Row]:
    groups: dict[tuple[str, str], list[JudgedSystem]] = defaultdict(list)
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
            "chosen on": "test" if protocol == "published" else _name_judges(members),
        }


def _name_judges(systems: Sequence[JudgedSystem]) -> str:
    """Name the folds that chose: `fit` is among them if ensembles were selected on it, out of fold."""
    folds = {system.document["fold"] for system in systems if system.reference}
    return "select, some on fit out of fold too" if OUT_OF_FOLD in folds else "select"


def _list_test_clips(results: Results) -> Iterator[Row]:
    for split, clips in results.clips.items():
        unseen = np.unique(clips.recording_devices[~clips.seen])
        yield {
            "split": split,
            "clips": len(clips.rows),
            "recordings": len(np.unique(clips.recordings)),
            **({"sources": len(np.unique(clips.groups))} if clips.has_sources else {}),
            "of unseen devices": int((~clips.seen).sum()),
            "unseen devices": " ".join(map(str, unseen)) or "none",
            "cities": len(np.unique(clips.cities)),
        }


def _count_versions(systems: tuple[JudgedSystem, ...]) -> Iterator[Row]:
    counts: Counter[tuple[str, str]] = Counter()
    for system in systems:
        if not system.reference:
            for record in system.records:
                counts.update(_read_versions(record))
    for (what, value), n_runs in sorted(counts.items()):
        yield {"what": what, "which": value, "runs": n_runs}


def _read_versions(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    machine = record.get("machine", {})
    yield "commit", record.get("commit") or NOT_RECORDED
    yield "python", machine.get("python", NOT_RECORDED)
    yield "machine", name_machine(record) or NOT_RECORDED
    yield from record.get("versions", {}).items()


def name_machine(record: Mapping[str, Any]) -> str | None:
    """Return what a run computed on; None if its record does not contain it."""
    machine = record.get("machine")
    if machine is None:
        return None
    return (
        machine["accelerator"]
        or f"{machine['processor']} CPU, {format_count(machine['threads'], 'thread')}"
    )


def _list_members(systems: tuple[JudgedSystem, ...]) -> Iterator[Row]:
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
