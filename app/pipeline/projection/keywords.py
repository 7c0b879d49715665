"""Topic keywords by c-TF-IDF: what the texts of a topic say more often than those of the others.

The weight of term t in topic c is tf(t, c) · log(1 + A / f(t)): tf normalised within the topic, f the
frequency over all topics, A the mean number of terms per topic (M. Grootendorst, "BERTopic: Neural topic
modeling with a class-based TF-IDF procedure", 2022).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInputError
from app.pipeline.projection.vectors import read_texts
from app.pipeline.projection.words import terms

# A pair replaces its word when it is nearly as frequent: "coin flip" says more than "coin".
_PAIR_SHARE = 0.5
# What is read: enough for steady counts, bounded for any corpus.
_TEXT_CHARACTERS = 2_000
_ALL_CHARACTERS = 8_000_000
_LEAST_TEXTS_PER_TOPIC = 20
# A topic keeps this many of its most frequent terms while the others are counted.
_TERMS_PER_TOPIC = 4_000
# Words in the texts of so many topics are the corpus's own function words (from this many topics on).
_EVERYWHERE_SHARE = 0.7
_EVERYWHERE_TOPICS = 8
_NAME_KEYWORDS = 3
_MOST_KEYWORDS = 30


def topic_keywords(texts_path: Path, labels: NDArray[np.int32], count: int) -> list[tuple[str, ...]]:
    """For each topic 0..count-1 its terms, best first, none repeating another's word (at most 30).

    Raises InvalidInputError: the file does not hold one text per label.
    """
    counts = _count_terms(texts_path, labels, count)
    totals: Counter[str] = Counter()
    spread: Counter[str] = Counter()
    for topic in counts:
        totals.update(topic)
        spread.update(topic.keys())
    mean_terms = sum(sum(topic.values()) for topic in counts) / max(1, count)
    limit = count * _EVERYWHERE_SHARE if count >= _EVERYWHERE_TOPICS else count + 1
    return [
        tuple(_varied(_ranked(topic, totals, mean_terms, {t for t in topic if spread[t] > limit}), topic))
        for topic in counts
    ]


def unique_names(keywords: Iterable[tuple[str, ...]]) -> list[str]:
    """A name of three keywords per topic; where two would agree, the later one shows further keywords."""
    names: list[str] = []
    taken: set[str] = set()
    for number, words in enumerate(keywords, start=1):
        name = next((n for n in _candidates(words) if n not in taken), f"Topic {number}")
        taken.add(name)
        names.append(name)
    return names


def _candidates(words: tuple[str, ...]) -> Iterator[str]:
    if not words:
        return
    yield ", ".join(words[:_NAME_KEYWORDS])
    for length in range(_NAME_KEYWORDS + 1, len(words) + 1):
        yield ", ".join((*words[: _NAME_KEYWORDS - 1], words[length - 1]))
    number = 2
    while True:
        yield f"{', '.join(words[:_NAME_KEYWORDS])} ({number})"
        number += 1


def _count_terms(texts_path: Path, labels: NDArray[np.int32], count: int) -> list[Counter[str]]:
    chosen = _chosen_rows(labels, count)
    counts: list[Counter[str]] = [Counter() for _ in range(count)]
    row = -1
    for row, text in enumerate(read_texts(texts_path)):
        if row < len(labels) and chosen[row]:
            counts[labels[row]].update(terms(text[:_TEXT_CHARACTERS]))
    if row + 1 != len(labels):
        raise InvalidInputError(f"texts: {row + 1} texts for {len(labels)} vectors")
    return [Counter(dict(topic.most_common(_TERMS_PER_TOPIC))) for topic in counts]


def _chosen_rows(labels: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """Evenly spaced members of every topic, so many that all of them stay within the budget."""
    chosen = np.zeros(len(labels), dtype=np.bool_)
    per_topic = max(_LEAST_TEXTS_PER_TOPIC, _ALL_CHARACTERS // (_TEXT_CHARACTERS * max(1, count)))
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(count + 1))
    for topic in range(count):
        members = order[bounds[topic] : bounds[topic + 1]]
        chosen[members[:: max(1, math.ceil(len(members) / per_topic))]] = True
    return chosen


def _ranked(topic: Counter[str], totals: Counter[str], mean_terms: float, common: set[str]) -> list[str]:
    """Terms by weight; equal weights in alphabetical order, so that names repeat."""
    weights = {
        term: number * math.log(1 + mean_terms / totals[term])
        for term, number in topic.items()
        if term not in common and not common.intersection(term.split())
    }
    return sorted(weights, key=lambda term: (-weights[term], term))[:200]


def _varied(ranked: list[str], topic: Counter[str]) -> list[str]:
    """The ranking without terms that repeat a word (or a form of it) of a better one."""
    pairs = _best_pairs(ranked, topic)
    kept: list[str] = []
    words: list[str] = []
    for term in ranked:
        for form in (pairs.get(term, term), term):
            if not any(_same_word(part, word) for part in form.split() for word in words):
                kept.append(form)
                words.extend(form.split())
                break
        if len(kept) == _MOST_KEYWORDS:
            break
    return kept


def _best_pairs(ranked: list[str], topic: Counter[str]) -> dict[str, str]:
    """For single words the pair that nearly always holds them in this topic, where there is one."""
    best: dict[str, str] = {}
    for pair in ranked:
        for word in pair.split() if " " in pair else ():
            frequent = topic[pair] >= _PAIR_SHARE * topic[word]
            if frequent and (word not in best or topic[pair] > topic[best[word]]):
                best[word] = pair
    return best


def _same_word(one: str, other: str) -> bool:
    """Equal, or one continues the other by at most three letters ("account", "accounts")."""
    short, long = sorted((one, other), key=len)
    return long.startswith(short) and len(long) - len(short) <= (3 if len(short) > 3 else 1)  # noqa: PLR2004
