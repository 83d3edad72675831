"""Submissions to DCASE 2024 task 1: made, and checked before the challenge does."""

from report.dcase.development import development_results
from report.dcase.entrant import Entrant, development_logits, evaluation_logits, load
from report.dcase.meta import SubmissionError, filled, read_texts
from report.dcase.package import packed
from report.dcase.problems import Problem
from report.dcase.validate import check
from report.dcase.validate_meta import check_meta

__all__ = [
    "Entrant",
    "Problem",
    "SubmissionError",
    "check",
    "check_meta",
    "development_logits",
    "development_results",
    "evaluation_logits",
    "filled",
    "load",
    "packed",
    "read_texts",
]
