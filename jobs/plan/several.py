"""What is not done for corpora whose clips have several labels or none: refused before anything runs."""

from audio.clips import Corpus
from teachers.probes import WantedTeachers
from terminal.console import UserError


def refuse_several(corpus: Corpus, what: str, why: str) -> None:
    """Refuse what needs one label a clip.

    Args:
        corpus: that it would be done for.
        what: the option or the command.
        why: the reason, and the way out.

    Raises:
        UserError: a clip of the corpus may have several labels, or none.
    """
    if corpus.has_several_labels:
        raise UserError(
            f"{what}: clips of corpus {corpus.name} have several labels or none, and {why}"
        )


def refuse_teachers_of_several(
    corpus: Corpus, cross_fit: int | None, wanted: WantedTeachers
) -> None:
    """Refuse teachers that need one label a clip.

    Raises:
        UserError: they are to be cross-fitted, or some are probes, and clips may have several labels.
    """
    if cross_fit is not None:
        why = "a part of the recordings may lack a class: leave it out"
        refuse_several(corpus, f"--cross-fit {cross_fit}", why)
    for names in wanted.probes:
        why = "a probe chooses one of the classes: fine-tune a teacher instead"
        refuse_several(corpus, f"--recipes probe:{'+'.join(names)}", why)
