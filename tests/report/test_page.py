import io
from html.parser import HTMLParser

import altair as alt
import pyarrow as pa
import pyarrow.csv
import pytest

from report.page import render_page, write_csv
from report.parts import Figure, Section

HOSTILE = '</script><script>alert("x")</script><img src="https://example.org/x.png">'


def figure(name="numbers", *, texts=("one", 'two, "quoted"', None), chart=False, title="Numbers"):
    table = pa.table({"what": list(texts), "n": [1.5, None, 3.0], "whole": [1, 2, 3]})
    drawn = alt.Chart(table).mark_point().encode(x="n:Q", y="what:N") if chart else None
    return Figure(name=name, title=title, caption="How many.", table=table, chart=drawn)


def html(*figures, **more):
    section = Section(name="part", title="A part", figures=figures, **more)
    return render_page("Report", "What it is about", [section], "How it was made")


class Elements(HTMLParser):
    """Collects the elements that a browser would find in a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.templates = [], [], {}
        self._inside = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag == "template":
            self._inside = dict(attrs)["id"]
            self.templates[self._inside] = ""

    def handle_endtag(self, tag):
        if tag == "template":
            self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.templates[self._inside] += data

    def count(self, tag):
        return [name for name, _ in self.tags].count(tag)


def test_a_page_requests_nothing_from_outside():
    found = Elements(html(figure(chart=True), figure("others")))
    assert all(address.startswith("#") for address in found.addresses)
    policy = next(attrs["content"] for _, attrs in found.tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")


def test_text_from_a_store_is_escaped_everywhere():
    plain = Elements(html(figure(chart=True), figure("others"), text="text"))
    hostile = Elements(
        html(
            figure(chart=True, texts=[HOSTILE] * 3, title=HOSTILE),
            figure("others", texts=[HOSTILE] * 3, title=HOSTILE),
            text=HOSTILE,
        )
    )
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]


def test_the_csv_files_are_those_of_the_page_and_are_read_back_unchanged(tmp_path):
    shown = figure(texts=[HOSTILE, 'two, "quoted"\nlines', None], chart=True)
    section = Section(name="part", title="A part", figures=(shown,))
    (place,) = write_csv([section], tmp_path / "tables")
    assert place.name == "numbers.csv"
    assert Elements(html(shown)).templates["csv-numbers"] == place.read_text()
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    lines = pyarrow.csv.ParseOptions(newlines_in_values=True)
    data = io.BytesIO(place.read_bytes())
    assert pyarrow.csv.read_csv(data, parse_options=lines, convert_options=options) == shown.table


def test_the_numbers_of_a_chart_are_in_the_page_once():
    table = pa.table({"n": [0.123456789, 2.0], "what": ["a", "b"]})
    chart = alt.Chart(table).mark_bar().encode(x="n:Q", y="what:N")
    both = alt.layer(chart, chart.mark_text().encode(text="n:Q"))
    made = Figure(name="numbers", title="Numbers", caption="How many.", table=table, chart=both)
    assert html(made).count("0.123456789") == 1


def test_data_of_a_chart_that_are_not_its_table_stay_with_the_chart():
    table = pa.table({"n": [1.0]})
    other = alt.Chart(pa.table({"m": [0.987654321]})).mark_rule().encode(x="m:Q")
    chart = alt.Chart(table).mark_point().encode(x="n:Q") + other
    made = Figure(name="numbers", title="Numbers", caption="How many.", table=table, chart=chart)
    assert "0.987654321" in Elements(html(made)).templates["spec-numbers"]


def test_a_figure_without_a_chart_is_a_table_with_headers_that_sort():
    found = Elements(html(figure()))
    assert found.count("caption") == 1
    headers = [attrs for tag, attrs in found.tags if tag == "th"]
    assert [attrs["scope"] for attrs in headers] == ["col"] * 3
    assert found.count("tr") == 4


def test_sections_and_figures_of_the_same_name_are_refused():
    with pytest.raises(ValueError, match="figures of the same name: numbers"):
        html(figure(), figure())
    part = Section(name="part", title="A part")
    with pytest.raises(ValueError, match="sections of the same name: part"):
        render_page("Report", "", [part, part], "")
