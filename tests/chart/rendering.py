"""Renders the chart with Helm's own library; each set of values once."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import helm_python
import yaml

from devstack.chart import CHART

Object = dict[str, Any]
VALUES = Path(__file__).parent / "values"
# Every set lies on the quick start's values, as the guide's second file lies on its first.
CASES = ("quickstart", "production", "everything", "trial", "existing")
WORKLOADS = {
    "api": "api",
    "workerCollections": "worker-collections",
    "workerDatasets": "worker-datasets",
    "workerVisualizationsPy": "worker-visualizations-py",
}
RELEASE = "semantic-explorer"
_LOADER: Any = yaml.CSafeLoader


def overlay(base: Any, *others: Any) -> Any:
    """Mappings laid over each other as Helm does; nothing given is changed."""
    result = copy.deepcopy(base)
    for other in others:
        for key, value in other.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = overlay(result[key], value) if both else copy.deepcopy(value)
    return result


def at(path: str, value: Any) -> Any:
    """{"a": {"b": value}} for "a.b"."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


@functools.cache
def read(name: str) -> Any:
    return yaml.load((VALUES / f"{name}.yaml").read_text(), _LOADER)


def values(case: str = "quickstart", *others: Any) -> Any:
    return overlay(read("quickstart"), read(case), *others)


@functools.cache
def chart() -> helm_python.Chart:
    """One for all: it is immutable, and the chart has no dependencies that a render could drop."""
    return helm_python.Chart.load(CHART)


def texts(given: Any, *, release: str = RELEASE, revision: int = 1) -> dict[str, str]:
    """Template to rendered text; raises HelmError with what Helm says."""
    return dict(chart().render(given, name=release, namespace="semantic-explorer", revision=revision))


class Rendered:
    """What one set of values makes, in all templates or in `only` those of that name."""

    def __init__(self, given: Any, *, only: str = "") -> None:
        self.values = chart().merge_values(given)
        self.texts = texts(given)
        self.notes = next(text for name, text in self.texts.items() if name.endswith("NOTES.txt"))
        self.objects: list[Object] = [
            one
            for name, text in sorted(self.texts.items())
            if name.endswith(".yaml") and only in name
            for one in yaml.load_all(text, _LOADER)
            if one
        ]

    def all(self, kind: str) -> list[Object]:
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        (found,) = [one for one in self.all(kind) if one["metadata"]["name"] == name]
        return found

    @functools.cached_property
    def pods(self) -> dict[str, Object]:
        """Pod templates (metadata and spec) by the name label."""
        owners = [one for one in self.objects if "template" in one.get("spec", {})]
        templates = [one["spec"]["template"] for one in owners if one["kind"] != "ExternalSecret"]
        return {
            pod["metadata"]["labels"]["app.kubernetes.io/name"]: pod for pod in templates + self.all("Pod")
        }

    def workload(self, key: str) -> Object:
        return self.one(self.values[key]["kind"], f"{RELEASE}-{WORKLOADS[key]}")

    def container(self, name: str) -> Object:
        (found,) = self.pods[name]["spec"]["containers"]
        return dict(found)

    def env(self, name: str) -> dict[str, str]:
        """Variables of a container, secrets as their values inline or as "secret/key"."""
        return {one["name"]: self._value(one) for one in self.container(name)["env"]}

    def _value(self, one: Object) -> str:
        if "value" in one:
            return str(one["value"])
        ref = one["valueFrom"]["secretKeyRef"]
        return f"{ref['name']}/{ref['key']}"


@functools.cache
def rendered(case: str) -> Rendered:
    return Rendered(values(case))
