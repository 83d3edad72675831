"""Whether the challenge will accept a package: `python -m report.dcase check FILE.zip`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from audio.corpora.tau_evaluation import N_CLIPS
from report.dcase.validate import check_package
from terminal import parse_command, run_program
from terminal.tables import format_count
from terminal.values import Count, File

PROGRAM = "python -m report.dcase"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Check all rules of DCASE 2024 task 1 on a package; the exit code is 1 if one is broken.

    Example:
        python -m report.dcase check submission.zip
    """

    file: tyro.conf.Positional[File]
    """The ZIP file."""
    evaluation_clips: Count = N_CLIPS
    """The number of clips to be predicted; use another than the challenge's to try things out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each broken rule on a line, and their number on the last line."""
    command = parse_command((Check,), PROGRAM, arguments)
    problems = check_package(command.file, command.evaluation_clips)
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    verdict = format_count(len(problems), "broken rule") if problems else "follows the rules"
    sys.stdout.write(f"{command.file}: {verdict}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    run_program(PROGRAM, main)
