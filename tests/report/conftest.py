from collections import Counter
from xml.etree import ElementTree

import pytest
import vl_convert
from report_store import report_store

from report.results import Results

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Return a store with teachers, an ensemble and students on two splits."""
    return report_store(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def results(made):
    return Results.of(made.store, made.corpus)


@pytest.fixture(scope="session")
def marks():
    """Return a function that draws a figure's chart and counts the marks of each kind."""

    def count(figure):
        root = ElementTree.fromstring(vl_convert.vegalite_to_svg(figure.chart.to_dict()))
        found = Counter()
        for group in root.iter(f"{SVG}g"):
            classes = group.get("class", "").split()
            if "role-mark" in classes:
                found[classes[0].removeprefix("mark-")] += sum(
                    child.tag != f"{SVG}g" for child in group
                )
        return found

    return count


@pytest.fixture(scope="session")
def figure():
    """Return a function that finds a section's figure by its name."""
    return lambda section, name: next(each for each in section.figures if each.name == name)
