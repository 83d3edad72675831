"""The RAM that students will take on a device, for records and dry runs.

Planning a student's memory takes seconds, once for each architecture and machine, and so it is done
here, in the process of the command, and not in the workers, whose memory and time are counted.
"""

from collections.abc import Iterable

from audio.clips import Corpus
from students import StudentRecipe
from students.errors import NoPlan
from terminal.console import console


def find_ram(recipe: StudentRecipe, corpus: Corpus) -> int | None:
    """Return the bytes of RAM of a recipe's student in int8; None if C has no form of it."""
    # It builds the student, and so needs torch, which takes seconds to import.
    from students.ram import measure_recipe_ram

    try:
        return measure_recipe_ram(recipe, corpus)
    except NoPlan:
        return None


def show_ram(students: Iterable[tuple[StudentRecipe, Corpus]]) -> None:
    """Print what each student takes on a device, or why nobody knows; equal lines once."""
    for line in dict.fromkeys(_describe_ram(*each) for each in students):
        console.print(line, markup=False)


def _describe_ram(recipe: StudentRecipe, corpus: Corpus) -> str:
    from students.ram import measure_recipe_ram

    try:
        ram = measure_recipe_ram(recipe, corpus)
    except NoPlan as error:
        return f"RAM on a device: {recipe.name}: {error}"
    return f"RAM on a device: {recipe.name} takes {ram:,} bytes in int8, by its memory plan"
