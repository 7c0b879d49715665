from __future__ import annotations

from typing import Any

import pytest

from app.errors import InvalidInputError
from app.pipeline.extraction.assemble import finish, from_elements
from app.pipeline.extraction.config import parse_extraction_config
from app.pipeline.extraction.context import ExtractionLimits
from app.pipeline.extraction.elements import Element

ELEMENTS = [
    Element("heading", "Title", level=2),
    Element("paragraph", "Some words."),
    Element("list_item", "one"),
    Element("list_item", "two", level=1),
    Element("table", rows=(("a", "b"), ("1", "x|y"))),
    Element("code", "if x:\n    y"),
]


def written(strategy: str = "structure_preserving", /, **options: Any) -> tuple[str, list[str]]:
    config = parse_extraction_config({"strategy": strategy, "options": options})
    document = from_elements(ELEMENTS, config.rendering(), media_type="x", metadata={"author": "Ada"})
    document = finish(document, config, ExtractionLimits(), "file")
    return document.text, [block.kind for block in document.blocks]


def test_structure_lies_over_plain_words_by_default():
    text, kinds = written()
    assert text == "Title\n\nSome words.\n\n- one\n  - two\n\na\tb\n1\tx|y\n\nif x:\n    y"
    assert kinds == ["heading", "paragraph", "list_item", "list_item", "table", "code"]


def test_plain_text_has_words_only():
    text, kinds = written("plain_text")
    assert text == "Title\n\nSome words.\n\none\n\ntwo\n\na\tb\n1\tx|y\n\nif x:\n    y"
    assert set(kinds) == {"paragraph"}


def test_markdown_writes_markdown():
    text, kinds = written("markdown")
    assert text.startswith(
        "## Title\n\nSome words.\n\n- one\n  - two\n\n| a | b |\n| --- | --- |\n| 1 | x\\|y |"
    )
    assert text.endswith("```\nif x:\n    y\n```")
    assert kinds == ["heading", "paragraph", "list_item", "list_item", "table", "code"]


@pytest.mark.parametrize(
    ("options", "present", "absent"),
    [
        ({"table_format": "csv"}, "a,b\n1,x|y", "\t"),
        ({"table_format": "markdown"}, "| a | b |", "\t"),
        ({"heading_format": "markdown"}, "## Title", "| a"),
        ({"preserve_lists": False}, "one\n\ntwo", "- one"),
        ({"append_metadata_to_text": True}, "Document metadata\n\n- author: Ada", "¤"),
    ],
)
def test_options_change_the_text(options, present, absent):
    text, _ = written(**options)
    assert present in text
    assert absent not in text


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ("preserve_headings", "heading"),
        ("extract_tables", "table"),
        ("preserve_lists", "list_item"),
        ("preserve_code_blocks", "code"),
    ],
)
def test_options_decide_which_blocks_there_are(option, kind):
    assert kind not in written("structure_preserving", **{option: False})[1]
    assert kind in written("plain_text", **{option: True})[1]


def test_metadata_can_be_left_out():
    for wanted in (True, False):
        config = parse_extraction_config({"options": {"include_metadata": wanted}})
        document = from_elements(ELEMENTS, config.rendering(), media_type="x", metadata={"author": "Ada"})
        document = finish(document, config, ExtractionLimits(), "file")
        assert document.metadata == ({"author": "Ada"} if wanted else {})


@pytest.mark.parametrize(
    ("raw", "field", "rule"),
    [
        ({"strategy": "magic"}, "extraction.strategy", "'plain_text', 'structure_preserving' or 'markdown'"),
        (
            {"options": {"preserve_format": True}},
            "extraction.options.preserve_format",
            "no such option",
        ),
        ({"options": {"extract_tables": "yes"}}, "extraction.options.extract_tables", "valid boolean"),
        ({"options": []}, "extraction.options", "valid dictionary"),
        ({"ocr": True}, "extraction.ocr", "no such option"),
    ],
)
def test_a_broken_rule_names_the_field_and_the_rule(raw, field, rule):
    with pytest.raises(InvalidInputError) as caught:
        parse_extraction_config(raw)
    assert caught.value.field == field
    assert rule in caught.value.message


def test_an_option_without_effect_in_the_original_has_none_here():
    assert written(preserve_formatting=True) == written()
