from __future__ import annotations

from typing import Any

import pytest

from app.errors import InvalidInputError
from app.pipeline.chunking.config import parse_chunking_config


def test_nothing_given_means_recursive_by_characters():
    config = parse_chunking_config(None)
    assert (config.strategy, config.unit) == ("recursive", "characters")
    assert (config.chunk_size, config.chunk_overlap, config.min_chunk_size) == (1000, 100, 100)


def test_tokens_have_defaults_of_their_own():
    config = parse_chunking_config({"strategy": "tokens"})
    assert (config.unit, config.chunk_size, config.chunk_overlap) == ("tokens", 200, 20)


def test_overlap_and_minimum_follow_a_small_size():
    config = parse_chunking_config({"chunk_size": 50})
    assert (config.chunk_overlap, config.min_chunk_size) == (5, 5)


@pytest.mark.parametrize(
    ("alias", "strategy"),
    [
        ("sentence", "sentences"),
        ("recursive_character", "recursive"),
        ("token_based", "tokens"),
        ("markdown_aware", "markdown"),
        ("fixed_size", "recursive"),
        ("code_aware", "code"),
        ("table_aware", "tables"),
    ],
)
def test_other_names_of_strategies_are_understood(alias, strategy):
    assert parse_chunking_config({"strategy": alias}).strategy == strategy


def test_fixed_size_has_no_separators():
    assert parse_chunking_config({"strategy": "fixed_size"}).separators == []


@pytest.mark.parametrize(
    ("size", "options", "least"),
    [
        (200, {"min_chunk_size": 50, "trim_whitespace": True}, 50),
        (80, {"min_chunk_size": 50, "preserve_sentence_boundaries": False}, 40),
        (200, {"trim_whitespace": None}, 20),
        (200, {}, 20),
    ],
)
def test_options_of_clients_of_the_original_are_understood(size: int, options: dict[str, object], least: int):
    raw = {"strategy": "sentence", "chunk_size": size, "chunk_overlap": 0, "options": options}
    config = parse_chunking_config(raw)
    assert (config.strategy, config.chunk_size, config.min_chunk_size) == ("sentences", size, least)


@pytest.mark.parametrize("place", [None, "its own name", "our name"])
@pytest.mark.parametrize(
    ("strategy", "ours", "options", "meant"),
    [
        (
            "recursive_character",
            "recursive",
            {"separators": ["\n"], "keep_separator": True},
            {"separators": ["\n"]},
        ),
        ("markdown_aware", "markdown", {"split_on_headers": True, "preserve_code_blocks": False}, {}),
        (
            "token_based",
            "tokens",
            {"max_tokens": 300, "overlap_tokens": 20, "split_on_sentences": True, "model": "cl100k_base"},
            {"chunk_size": 300, "chunk_overlap": 20},
        ),
    ],
)
def test_each_strategys_options_of_the_original_are_understood(
    strategy: str, ours: str, options: dict[str, Any], meant: dict[str, Any], place: str | None
):
    names = {"its own name": strategy, "our name": ours}
    said = options if place is None else {names[place]: options}
    config = parse_chunking_config({"strategy": strategy, "chunk_size": 200, "options": said})
    assert {name: getattr(config, name) for name in meant} == meant


CODE = {"language": "cpp", "include_imports": False, "preserve_comments": False}
TABLES = {"max_rows_per_chunk": 20, "min_rows_for_table": 5, "include_headers": False}


@pytest.mark.parametrize(("strategy", "options"), [("code_aware", CODE), ("table_aware", TABLES)])
def test_options_of_a_strategy_are_taken_beside_it_and_within_options(strategy: str, options: dict[str, Any]):
    sizes = {"max_chunk_size": 600, "min_chunk_size": 50}
    flat = parse_chunking_config({"strategy": strategy, "chunk_size": 200, **sizes, **options})
    inner = parse_chunking_config({"strategy": strategy, "chunk_size": 200, "options": {**sizes, **options}})
    assert flat == inner.model_copy(update={"options": None})
    assert (flat.chunk_size, flat.min_chunk_size) == (600, 50)
    assert options.items() <= flat.model_dump().items()


@pytest.mark.parametrize(
    ("strategy", "defaults"),
    [
        ("code", {"include_imports": True, "preserve_comments": True}),
        ("tables", {"max_rows_per_chunk": 50, "min_rows_for_table": 3, "include_headers": True}),
        ("recursive", {}),
    ],
)
def test_a_strategy_shows_its_own_options_alone_and_is_read_again(strategy: str, defaults: dict[str, Any]):
    common = {"strategy", "unit", "chunk_size", "chunk_overlap", "min_chunk_size", "separators"}
    shown = parse_chunking_config({"strategy": strategy}).model_dump()
    assert {name: value for name, value in shown.items() if name not in common} == defaults
    assert parse_chunking_config(shown).model_dump() == shown


@pytest.mark.parametrize(("said", "meant"), [("Rust", "rust"), ("c++", "cpp"), ("golang", "go")])
def test_other_names_of_languages_are_understood(said: str, meant: str):
    assert parse_chunking_config({"strategy": "code", "language": said}).language == meant


@pytest.mark.parametrize(
    ("raw", "field", "rule"),
    [
        ({"chunk_size": 100, "chunk_overlap": 100}, "chunk_overlap", "must be less than chunk_size"),
        ({"chunk_size": 100, "chunk_overlap": -1}, "chunk_overlap", "greater than or equal to 0"),
        ({"chunk_size": 0}, "chunk_size", "must be from 1 to 100000 characters, not 0"),
        ({"chunk_size": 1_000_000}, "chunk_size", "must be from 1 to 100000 characters"),
        ({"chunk_size": 4, "unit": "tokens"}, "chunk_size", "from 8 to 8192 tokens"),
        ({"chunk_size": "500"}, "chunk_size", "valid integer"),
        ({"chunk_size": True}, "chunk_size", "valid integer"),
        ({"chunk_size": 100, "min_chunk_size": 60}, "min_chunk_size", "at most half of chunk_size"),
        ({"strategy": "magic"}, "strategy", "'recursive', 'tokens', 'sentences'"),
        ({"strategy": 7}, "strategy", "'recursive', 'tokens', 'sentences'"),
        ({"strategy": "tokens", "unit": "characters"}, "unit", 'counts in "tokens"'),
        (
            {"strategy": "sentence", "options": {"max_tokens": 9}},
            "options.max_tokens",
            "only the strategy tokens has this option, not sentences",
        ),
        (
            {"strategy": "token_based", "options": {"keep_separator": True}},
            "options.keep_separator",
            "only the strategy recursive has this option, not tokens",
        ),
        (
            {"strategy": "token_based", "options": {"max_tokens": 0}},
            "chunk_size",
            "must be from 8 to 8192 tokens",
        ),
        ({"strategy": "sentences", "separators": ["a"]}, "separators", "only the strategy recursive"),
        ({"separators": ["x" * 101]}, "separators", "at most 100 characters"),
        ({"separators": "ab"}, "separators", "valid list"),
        ({"trim_whitespace": True}, "trim_whitespace", "there is no such option"),
        ({"options": {"trim": True}}, "options.trim", "there is no such option"),
        ({"options": "all"}, "options", "valid dictionary"),
        ({"options": {"min_chunk_size": "50"}}, "min_chunk_size", "valid integer"),
        ({"include_imports": True}, "include_imports", "only the strategy code has this option"),
        (
            {"strategy": "markdown_aware", "options": {"include_headers": True}},
            "options.include_headers",
            "only the strategy tables has this option, not markdown",
        ),
        ({"strategy": "code", "max_rows_per_chunk": 5}, "max_rows_per_chunk", "only the strategy tables"),
        ({"max_chunk_size": 500}, "max_chunk_size", "have this option, not recursive"),
        ({"strategy": "code", "max_chunk_size": 0}, "chunk_size", "must be from 1 to 100000"),
        ({"strategy": "code", "options": {"language": "cobol"}}, "language", "must be one of rust, python,"),
        ({"strategy": "code", "language": 7}, "language", "valid string"),
        ({"strategy": "code", "include_imports": "no"}, "include_imports", "valid boolean"),
        ({"strategy": "tables", "max_rows_per_chunk": 0}, "max_rows_per_chunk", "equal to 1"),
        ({"strategy": "tables", "min_rows_for_table": 2.5}, "min_rows_for_table", "valid integer"),
    ],
)
def test_a_broken_rule_names_the_field_and_the_rule(raw, field, rule):
    with pytest.raises(InvalidInputError) as caught:
        parse_chunking_config(raw)
    assert caught.value.field == f"chunking.{field}"
    assert rule in caught.value.message


def test_a_configuration_that_is_no_object_is_refused():
    with pytest.raises(InvalidInputError, match="must be an object, not list"):
        parse_chunking_config([1])  # type: ignore[arg-type]  # what a client may send
