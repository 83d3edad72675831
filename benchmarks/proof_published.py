"""What others have published, beside what a proof came to: the bars on TAU."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from audio.clips import SPLITS
from benchmarks.results import format_table
from report.published import JudgingClips, has_published, read_published

if TYPE_CHECKING:
    from benchmarks.proof_page import Proved


def describe_published(proved: Sequence["Proved"]) -> str:
    """Return a section with a table for each set of clips, and our systems in that of the same clips."""
    ours = [each for each in proved if has_published(each.corpus)]
    beside = (
        "Systems of this proof on TAU itself stand below the published ones."
        if ours
        else "No corpus above is TAU itself, so no figure above can be held against these: its clips, classes and "
        "devices are others. They say what is to be reached on TAU."
    )
    return (
        f"## Published figures\n\nMacro accuracy in %, for each split of TAU 2022 Mobile. {beside}\n\n"
        "There are two bars. Those who publish figures on the test clips of the development set mostly chose on "
        "them too; this project does not. The evaluation set of a challenge has cities and devices of its own, and "
        "whoever compares figures on the one with figures on the other compares nothing: CP-Mobile has 65.8 on the "
        "first, with more multiply-accumulates than the limit, and 62.7 on the second.\n\n"
        f"On the test clips of the development set:\n\n{_format('development', ours)}\n\n"
        f"On the evaluation sets, whose labels are not published:\n\n{_format('evaluation', [])}"
    )


def _format(clips: JudgingClips, ours: Sequence["Proved"]) -> str:
    figures: dict[tuple[str, str], dict[int, float]] = {}
    for each in read_published(clips):
        figures.setdefault((each.system, each.source), {})[each.split] = each.accuracy
    for one in ours:
        for judged in one.judged:
            of_system = figures.setdefault((judged.system.name, "this proof"), {})
            of_system[judged.system.split] = 100 * judged.summary.accuracy.value
    header = ["system", *(f"{split} %" for split in SPLITS), "source"]
    rows = [
        [system, *(f"{by_split[s]:.4g}" if s in by_split else "-" for s in SPLITS), source]
        for (system, source), by_split in figures.items()
    ]
    return format_table(header, rows)
