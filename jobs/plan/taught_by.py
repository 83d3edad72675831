"""Whom students learn from: each split's ensemble or member, found before any work."""

from math import inf

from jobs.plan.options import parse_splits
from jobs.plan.students import StudentsOptions
from logit_store import LogitStore, strip_fingerprint
from terminal.console import UserError, console

BEST = "best"
"""Stands for the ensemble of each split, as ASCDomain's --teacher=best does."""


def find_teachers(
    options: StudentsOptions, corpus: str, store: LogitStore
) -> dict[int, str | None]:
    """Return each split's teacher: `NAME@HASH` of an ensemble, a member's name, or None.

    Raises:
        UserError: there is no such teacher, there are several, or the options exclude each other.
    """
    choices = [bool(options.ensemble), bool(options.teacher), options.no_teacher]
    if sum(choices) > 1:
        raise UserError("--ensemble, --teacher and --no-teacher exclude each other: give one")
    if options.no_teacher:
        return dict.fromkeys(parse_splits(options.splits))
    if options.teacher == BEST:
        return dict(_find_best_ensembles(options, corpus, store))
    if options.teacher is None:
        return dict(find_ensembles(options, corpus, store))
    return {
        split: _find_member(store, corpus, split, options.teacher)
        for split in parse_splits(options.splits)
    }


def _find_member(store: LogitStore, corpus: str, split: int, name: str) -> str:
    """Return the member of a split that has this name, with or without its fingerprint."""
    stored = [key.member for key in store.keys(corpus, split)]
    found = [member for member in stored if name in (member, strip_fingerprint(member))]
    if len(found) != 1:
        listed = ", ".join(found or stored) or "none"
        raise UserError(
            f"--teacher {name}: split {split} has {len(found)} members of this name, expected one "
            f"(in the store: {listed})"
        )
    return found[0]


def find_ensembles(options: StudentsOptions, corpus: str, store: LogitStore) -> dict[int, str]:
    """Return the NAME@HASH of each split's ensemble: the named one, or the only one.

    Raises:
        UserError: there is none, or one must be chosen.
    """
    found = {}
    for split in parse_splits(options.splits):
        stored = store.ensembles.find_sound(corpus, split)
        names = sorted({reference.partition("@")[0] for reference in stored})
        wanted = options.ensemble or (names[0] if len(names) == 1 else None)
        if wanted is None or wanted not in (*names, *stored):
            which = f"no ensemble named {options.ensemble}" if options.ensemble else "no ensemble"
            if len(names) > 1 and options.ensemble is None:
                which = f"{len(names)} ensembles"
            raise UserError(
                f"split {split} has {which} (in the store: {', '.join(stored) or 'none'}): run python "
                "jobs/ensemble.py, name one with --ensemble, or use --no-teacher"
            )
        found[split] = store.ensembles.find(corpus, split, wanted)
    return found


def _find_best_ensembles(
    options: StudentsOptions, corpus: str, store: LogitStore
) -> dict[int, str]:
    """Return the NAME@HASH of each split's ensemble; of several, of the best on clips that it was not selected on.

    Of one name the newest is meant. Those that were selected on test count only if there are no others.

    Raises:
        UserError: there is none, or several of which none has such clips; or a member is called best.
    """
    found = {}
    for split in parse_splits(options.splits):
        if any(strip_fingerprint(key.member) == BEST for key in store.keys(corpus, split)):
            raise UserError(
                f"--teacher {BEST}: that is the ensemble of the split, and split {split} has a member of this "
                "name: give its fingerprint too, or name the ensemble with --ensemble"
            )
        stored = store.ensembles.find_sound(corpus, split)
        names = sorted({reference.partition("@")[0] for reference in stored})
        newest = [store.ensembles.find(corpus, split, name) for name in names]
        documents = {each: store.ensembles.read(corpus, split, each) for each in newest}
        honest = [each for each in newest if documents[each].get("fold") != "test"] or newest
        losses = {each: documents[each].get("optimism", {}).get("nested", inf) for each in honest}
        chosen = min(losses, key=lambda each: losses[each], default=None)
        if chosen is None or (len(losses) > 1 and losses[chosen] == inf):
            raise UserError(
                f"--teacher {BEST}: split {split} has {len(losses)} ensembles (in the store: "
                f"{', '.join(stored) or 'none'}), and nothing tells which is best: run python jobs/ensemble.py, or "
                "name one with --ensemble"
            )
        console.print(f"split {split}: {BEST} is {chosen}", markup=False)
        found[split] = chosen
    return found
