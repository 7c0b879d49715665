"""Each page of the operators' panel has a picture of its own in docs/admin (tests/browser makes them)."""

from __future__ import annotations

from pathlib import Path

from flask import Flask

from tests.support.panel_pictures import PICTURES, WITHOUT, file_names, shows

ROOT = Path(__file__).resolve().parents[2]
RENEW = "run `pytest tests/browser/test_admin_pictures.py --screenshots`"


def test_every_page_of_the_panel_has_a_picture_or_says_why_not(app: Flask):
    pages = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/admin") and "GET" in (rule.methods or ())
    }
    assert pages == set(PICTURES.values()) | set(WITHOUT)
    assert not set(PICTURES.values()) & set(WITHOUT)
    assert all(WITHOUT.values())


def test_every_picture_is_there_in_both_sizes_and_no_other():
    there = {path.name for path in (ROOT / "docs" / "admin").glob("*.png")}
    assert there == file_names(), RENEW


def test_a_picture_belongs_to_its_page_alone():
    assert shows("letter", "/admin/dead-letters/7")
    assert not shows("letter", "/admin/dead-letters/7/edit")
    assert not shows("letter", "/admin/dead-letters/")
