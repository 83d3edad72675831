"""The sections of the report in the order of the page."""

from collections.abc import Callable

from audio.clips import Corpus
from report.budgets import build_budgets
from report.classes import build_classes
from report.distillation import build_distillation
from report.ensembles import build_ensembles
from report.groups import build_groups
from report.honesty import build_honesty
from report.leaderboard import build_ranking
from report.listen import build_clips
from report.mistakes import build_mistakes
from report.parts import Section
from report.results import Results
from report.runs import build_runs
from report.split_sizes import build_split_sizes


def choose_contents(corpus: Corpus) -> tuple[Callable[[Results], Section], ...]:
    """Return the sections for a corpus; some need the one label of a clip."""
    return CONTENTS_OF_SEVERAL if corpus.has_several_labels else CONTENTS


CONTENTS: tuple[Callable[[Results], Section], ...] = (
    build_ranking,
    build_distillation,
    build_split_sizes,
    build_budgets,
    build_groups,
    build_mistakes,
    build_ensembles,
    build_runs,
    build_clips,
    build_honesty,
)
"""For corpora of one label a clip."""

CONTENTS_OF_SEVERAL: tuple[Callable[[Results], Section], ...] = (
    build_ranking,
    build_distillation,
    build_split_sizes,
    build_budgets,
    build_classes,
    build_ensembles,
    build_runs,
    build_honesty,
)
"""For corpora whose clips have several labels or none: confusions, groups and clips to listen to ask for one."""
