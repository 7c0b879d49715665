"""Scrapes in pieces, and what rules and dashboards ask of them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser
import yaml
from prometheus_client.parser import text_string_to_metric_families

CHART = Path(__file__).resolve().parents[2] / "helm" / "semantic-explorer"
# Of Prometheus itself, and of exporters that a cluster may have; panels that ask for these say so.
_OF_THE_TARGET = frozenset({"instance", "job", "pod", "namespace"})
FOREIGN = re.compile(r"(node_|kube_|kubelet_|container_).*|up|ALERTS")


@dataclass
class Scrape:
    """Samples by name, as (labels, value); `families` are the names that have a TYPE line."""

    families: set[str] = field(default_factory=set)
    samples: dict[str, list[tuple[dict[str, str], float]]] = field(default_factory=lambda: defaultdict(list))

    def labels_of(self, name: str) -> set[str] | None:
        """Names of the labels of a metric, without a histogram's own; None without any sample."""
        for sample in (name, f"{name}_bucket"):
            if self.samples.get(sample):
                return set(self.samples[sample][0][0]) - {"le"}
        return None

    def answers(self, asked: Asked) -> bool:
        """Whether there is such a metric, with those labels where it has samples."""
        if asked.metric in self.samples:
            return asked.labels - _OF_THE_TARGET <= set(self.samples[asked.metric][0][0])
        return False


@dataclass(frozen=True)
class Asked:
    """A metric that an expression selects, with the labels that it names."""

    where: str
    metric: str
    labels: frozenset[str]


def read(text: str) -> Scrape:
    """A scrape's text in pieces."""
    scrape = Scrape()
    scrape.families = set(re.findall(r"(?m)^# TYPE (\S+) ", text))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            scrape.samples[sample.name].append((sample.labels, sample.value))
    return scrape


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every alert and recording rule, with its file."""
    for file in sorted((CHART / "rules").glob("*.yaml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                yield file.name, rule


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression, and where it stands."""
    for file, rule in rules():
        yield f"{file}: {rule.get('alert') or rule.get('record')}", rule["expr"]
    for path in sorted((CHART / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.name}: {panel['title']}", target["expr"]


def asked_for() -> list[Asked]:
    """What all expressions select, but for what is recorded here or comes from elsewhere."""
    recorded = {rule["record"] for _, rule in rules() if "record" in rule}
    return [
        asked
        for where, text in expressions()
        for asked in _selected(where, text)
        if asked.metric not in recorded and not FOREIGN.fullmatch(asked.metric)
    ]


def parsed(text: str) -> Any:
    """The tree of an expression, Grafana's variables taken as ten minutes. Raises ValueError."""
    return promql_parser.parse(re.sub(r"\$__\w+", "10m", text))


def _selected(where: str, text: str) -> Iterator[Asked]:
    for name, labels in _walk(parsed(text), frozenset()):
        yield Asked(where, name, labels)


def _walk(node: Any, grouped: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Selectors with the labels that their matchers name, and those that aggregations around them keep."""
    if isinstance(node, promql_parser.VectorSelector):
        assert node.name, "every selector names its metric"
        yield node.name, grouped | {each.name for each in node.matchers.matchers}
        return
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
        grouped |= set(node.modifier.labels)
    inner = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    for each in (*inner, *getattr(node, "args", ())):
        if each is not None:
            yield from _walk(each, grouped)
