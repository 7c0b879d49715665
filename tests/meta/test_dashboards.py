"""The five dashboards: as their source has them, and in the shape that Grafana takes."""

from __future__ import annotations

import json
import re

import pytest
from prometheus_client import Counter, Gauge, Histogram

from app.observability import job_metrics, metrics, security_metrics, server_metrics
from devstack import dashboards
from devstack.product import ROOT
from tests.support import scrapes


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_a_dashboard_is_as_its_source_has_it(name: str):
    assert (dashboards.FOLDER / f"{name}.json").read_text() == dashboards.text_of(name), "run `make docs`"


def test_there_are_the_five_of_the_guide_and_no_file_beside_them():
    files = {path.stem for path in dashboards.FOLDER.iterdir()}
    assert files == {"application", "workers", "database-nats", "infrastructure", "health"}
    assert len({json.loads(dashboards.text_of(name))["uid"] for name in files}) == 5


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_panels_have_ids_titles_units_and_the_chosen_source(name: str):
    board = json.loads(dashboards.text_of(name))
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    for panel in panels:
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert target["legendFormat"]


@pytest.mark.parametrize(("where", "expression"), list(scrapes.expressions()))
def test_every_expression_can_be_read(where: str, expression: str):
    assert scrapes.parsed(expression), where


def test_the_page_for_operators_names_every_metric_that_rules_and_dashboards_ask_for():
    page = (ROOT / "docs" / "observability.md").read_text()
    names = {asked.metric for asked in scrapes.asked_for() if not asked.metric.startswith("process_")}
    plain = {_without_suffix(name) for name in names}
    assert {
        name
        for name in plain
        if name not in page and f"…{name.removeprefix('database_connection_pool')}" not in page
    } == set()


def _without_suffix(name: str) -> str:
    return re.sub("_(bucket|count)$", "", name)


def ours() -> set[str]:
    """Every metric of the product, by the name that a scrape has."""
    modules = (job_metrics, metrics, security_metrics, server_metrics)
    kinds = (Counter, Gauge, Histogram)
    made = (one for module in modules for one in vars(module).values() if isinstance(one, kinds))
    families = [family for one in made for family in one.describe()]
    return {f"{one.name}_total" if one.type == "counter" else one.name for one in families}


def test_every_metric_of_ours_is_in_a_dashboard_or_a_rule_and_on_the_page_for_operators():
    asked = {_without_suffix(one.metric) for one in scrapes.asked_for()}
    assert ours() - asked == set()
    page = (ROOT / "docs" / "observability.md").read_text()
    pool = "database_connection_pool"
    assert {n for n in ours() if n not in page and f"…{n.removeprefix(pool)}" not in page} == set()


def test_panels_that_need_other_exporters_say_so():
    for name in dashboards.DASHBOARDS:
        for panel in json.loads(dashboards.text_of(name))["panels"]:
            foreign = any("node_" in t["expr"] or "kube" in t["expr"] for t in panel["targets"])
            assert foreign == ("exporters of the cluster" in panel["description"]), panel["title"]
