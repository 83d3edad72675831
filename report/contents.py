"""The sections of the report in the order of the page."""

from collections.abc import Callable

from report.budgets import build_budgets
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
