"""What is kept outlives a short absence of its source, and the source is left in peace meanwhile."""

from __future__ import annotations

import time

import pytest

from app.errors import ProviderUnavailableError
from app.security.kept import Kept


class Source:
    """Counts how often it is asked; `away` makes it fail. `now` is the clock of all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.away, self.now = 0, False, 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def read(self) -> int:
        self.asked += 1
        if self.away:
            raise ProviderUnavailableError("away")
        return self.asked


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    return Source(monkeypatch)


def test_a_value_is_read_once_and_again_when_it_is_old(source: Source):
    value = Kept(source.read, seconds=300)
    assert [value.value(), value.value()] == [1, 1]
    source.now += 301
    assert value.value() == 2


def test_asking_for_a_newer_one_again_and_again_reads_it_at_our_pace(source: Source):
    value = Kept(source.read, seconds=300)
    assert [value.newer() for _ in range(100)] == [1] * 100
    source.now += 11
    assert [value.newer() for _ in range(100)] == [2] * 100


def test_an_old_value_bridges_an_outage_that_is_not_long(source: Source):
    value = Kept(source.read, seconds=300)
    value.value()
    source.away = True
    source.now += 600
    assert [value.value() for _ in range(100)] == [1] * 100
    assert source.asked == 2, "every request would wait for a source that is away"
    source.now += 3600
    with pytest.raises(ProviderUnavailableError, match="away"):
        value.value()
    source.away = False
    source.now += 11
    assert value.value() == 4


def test_a_source_that_is_away_from_the_first_is_asked_at_our_pace(source: Source):
    source.away = True
    value = Kept(source.read, seconds=300)
    for _ in range(100):
        with pytest.raises(ProviderUnavailableError, match="away"):
            value.value()
    assert source.asked == 1
