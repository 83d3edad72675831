"""Whether the challenge will take a package: python -m report.dcase check FILE.zip."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from audio.corpora.tau_evaluation import N_CLIPS
from report.dcase.validate import check

PROGRAM = "python -m report.dcase"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Test every rule of DCASE 2024 task 1 on a package; the exit code is 1 if one is broken.

    Example:
        python -m report.dcase check submission.zip
    """

    file: tyro.conf.Positional[Path]
    """The ZIP."""
    evaluation_clips: int = N_CLIPS
    """Clips that are to be predicted; another number than the challenge's for trying things out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each broken rule on a line of its own; how many there are is the last one."""
    command = tyro.extras.subcommand_cli_from_dict({"check": Check}, prog=PROGRAM, args=arguments)
    try:
        problems = check(command.file, command.evaluation_clips)
    except OSError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return 1
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    verdict = f"{len(problems)} broken rules" if problems else "follows the rules"
    sys.stdout.write(f"{command.file}: {verdict}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
