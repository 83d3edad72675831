"""What is said of a system's members and teachers, and of their teachers, is said of the system too."""

from collections.abc import Sequence

from report.results import JudgedSystem


def gather_from_origins(systems: Sequence[JudgedSystem], own: Sequence[set[str]]) -> list[set[str]]:
    """Return for each system its own words and those of all systems that it comes from.

    Args:
        systems: the systems; an ensemble comes from its members, a student from what taught it.
        own: the words of each system itself.
    """
    names = [set(each) for each in own]
    number_of = {
        (each.split, key.member): number
        for number, each in enumerate(systems)
        if not each.reference
        for key in each.keys
    }
    number_of |= {
        (each.split, each.reference): n for n, each in enumerate(systems) if each.reference
    }
    changed = True
    while changed:
        changed = False
        for each, found in zip(systems, names, strict=True):
            origins = [key.member for key in each.keys] if each.reference else [each.taught_by]
            known = [number_of.get((each.split, origin)) for origin in origins if origin]
            more = set().union(*(names[number] for number in known if number is not None)) - found
            found |= more
            changed = changed or bool(more)
    return names
