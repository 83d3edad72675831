"""Whether the challenge will accept a package: `python -m report.dcase check FILE.zip`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from audio.corpora.tau_evaluation import N_CLIPS
from report.dcase.challenge import Year
from report.dcase.problems import BrokenRule
from report.dcase.validate import check_package
from terminal import parse_command, run_program
from terminal.tables import format_count
from terminal.values import Count, File

PROGRAM = "python -m report.dcase"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Check all rules of DCASE 2024 or 2025 task 1 on a package; the exit code is 1 if one is broken.

    Example:
        python -m report.dcase check submission.zip
    """

    file: tyro.conf.Positional[File]
    """The ZIP file."""
    challenge: Year = 2024
    """The year of the challenge."""
    evaluation_clips: Count | None = None
    """The number of clips to be predicted; if not given, 135,730 in 2024 and any number in 2025."""

    def find_problems(self) -> list[BrokenRule]:
        """Return the rules that are broken."""
        n_clips = self.evaluation_clips or (N_CLIPS if self.challenge == 2024 else None)
        return check_package(self.file, n_clips, self.challenge)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Run an inference package of DCASE 2025 task 1 and check all its rules: only one that you trust.

    Example:
        python -m report.dcase run submission_inference.zip
    """

    file: tyro.conf.Positional[File]
    """The ZIP file."""

    def find_problems(self) -> list[BrokenRule]:
        """Return the rules that are broken."""
        # It needs pydantic and counts networks, which take long to import.
        from report.dcase.validate_inference import check_inference_package

        return check_inference_package(self.file)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each broken rule on a line, and their number on the last line."""
    command = parse_command((Check, Run), PROGRAM, arguments)
    problems = command.find_problems()
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    verdict = format_count(len(problems), "broken rule") if problems else "follows the rules"
    sys.stdout.write(f"{command.file}: {verdict}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    run_program(PROGRAM, main)
