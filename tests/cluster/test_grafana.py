"""The dashboard queries metrics that exist, in a form that Grafana accepts."""

import inspect
import itertools
import json
import re
from pathlib import Path

import pytest
from ray.dashboard.modules.metrics.dashboards import default_dashboard_panels

from jobs.log import gauges

FOLDER = Path(__file__).resolve().parents[2] / "cluster" / "grafana"
DASHBOARD = json.loads((FOLDER / "tutti.json").read_text())
PANELS = DASHBOARD["panels"]
METRIC = re.compile(r"\b(?:ray|autoscaler)_\w+")
WIDTH = 24
"""Columns of Grafana's grid."""


def queries():
    return sorted({target["expr"] for panel in PANELS for target in panel["targets"]})


def asked_for(texts):
    return {name for text in texts for name in METRIC.findall(text)}


def test_all_our_metrics_are_shown_and_no_others_are_queried():
    ours = {name for name in asked_for(queries()) if name.startswith("ray_tutti_")}
    assert ours == {f"ray_{name}" for name in gauges.DESCRIPTIONS}


def test_rays_metrics_are_those_of_rays_own_dashboard():
    theirs = asked_for([inspect.getsource(default_dashboard_panels)])
    rays = {name for name in asked_for(queries()) if not name.startswith("ray_tutti_")}
    assert len(rays) >= 8
    assert rays - theirs == set()


def test_labels_are_ours_or_rays():
    used = {
        label
        for query in queries()
        for group in re.findall(r"\bby \(([^)]*)\)", query)
        for label in group.split(", ")
    }
    used |= {name for query in queries() for name in re.findall(r"(\w+)=~", query)}
    rays = {"instance", "GpuIndex", "GpuDeviceName", "NodeType"}
    assert used - rays == set(gauges.TAGS)


@pytest.mark.parametrize("query", queries())
def test_every_bracket_of_a_query_is_closed(query):
    for opening, closing in ("()", "{}", "[]"):
        assert query.count(opening) == query.count(closing)
    assert query.count('"') % 2 == 0


def test_every_variable_of_a_query_is_the_dashboards():
    there = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS)))
    assert used == there == {"datasource", "job"}
    (job,) = (each for each in DASHBOARD["templating"]["list"] if each["name"] == "job")
    assert asked_for([job["definition"]]) <= asked_for(queries())
    assert job["definition"] == job["query"]["query"]


def test_panels_have_what_grafana_needs_and_do_not_overlap():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["type"] in ("stat", "timeseries")
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert references == sorted(set(references))
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= WIDTH
    for one, other in itertools.combinations([panel["gridPos"] for panel in PANELS], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_the_notes_name_every_metric_and_label_of_ours():
    notes = (FOLDER / "README.md").read_text()
    named = {f"ray_{name}" for name in gauges.DESCRIPTIONS} | set(gauges.TAGS)
    assert {name for name in named if f"`{name}`" not in notes} == set()
