"""The sections of the report in the order of the page."""

from collections.abc import Callable

from report.budgets import budgets
from report.distillation import distillation
from report.ensembles import ensembles
from report.groups import groups
from report.honesty import honesty
from report.leaderboard import leaderboard
from report.listen import listen
from report.mistakes import mistakes
from report.parts import Section
from report.results import Results
from report.runs import runs
from report.split_sizes import split_sizes

CONTENTS: tuple[Callable[[Results], Section], ...] = (
    leaderboard,
    distillation,
    split_sizes,
    budgets,
    groups,
    mistakes,
    ensembles,
    runs,
    listen,
    honesty,
)
