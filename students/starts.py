"""Takes the weights over that a student starts from, and says in its record where they come from."""

from typing import Any

from logit_store import LogitStore
from students.catalogue import build
from students.prune import narrow
from students.records import read_recipe_entry
from students.stages import Start
from students.stored import load_student
from students.student import Student


def take_over(start: Start, student: Student, store: LogitStore) -> None:
    """Put the weights of the member that a student starts from into it.

    Of another corpus all but those that belong to its classes are taken: their layers stay fresh.

    Args:
        start: the member, and how its weights are taken over.
        student: receives them.
        store: holds them.

    Raises:
        LogitStoreError: there is no such member, or its weights have changed.
        NoStudent: it was not trained here.
        ValueError: it is another network.
    """
    n_classes = len(store.read_footer(start.key).classes)
    wide = load_student(store, start.key, n_classes).student
    recipe = read_recipe_entry(store.read_record(start.key), start.key)
    if start.kind == "pruned":
        narrow(wide, recipe["model"], student)
        return
    weights = wide.state_dict()
    if start.kind == "corpus":
        of_classes = _find_names_of_classes(recipe["model"], recipe["arguments"], n_classes)
        fresh = student.state_dict()
        weights |= {name: fresh[name] for name in of_classes}
    student.load_state_dict(weights)


def _find_names_of_classes(model: str, arguments: dict[str, Any], n_classes: int) -> list[str]:
    """Return the names of the tensors whose shapes depend on the number of classes."""
    these, more = (
        build(model, n_classes=n, **arguments).state_dict() for n in (n_classes, n_classes + 1)
    )
    return [name for name, tensor in these.items() if tensor.shape != more[name].shape]


def describe_start(start: Start, store: LogitStore) -> dict[str, Any]:
    """Return what the record of a student says of the stages before its own."""
    before = store.read_record(start.key)
    described: dict[str, Any] = {"start": start.key.member}
    match start.kind:
        case "pool":
            described["first_pool"] = before["pool"]
        case "corpus":
            described["first_corpus"] = start.key.corpus
        case "pruned":
            described["pruned"] = {"arguments": before["recipe"]["arguments"]}
            described |= {name: before[name] for name in _KEPT if name in before}
    return described


_KEPT = ("first_pool", "first_corpus")
"""What a pruned student has of the one that it was pruned from: its stages before."""
