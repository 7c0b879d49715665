from __future__ import annotations

from devstack import corpus


def test_office_documents_show_no_markdown():
    sections = corpus._sections(
        "# Title\n\n**Why.** See [the page](adr/1.md) of `app/api`.\n\nMore.\n\n## Part\n"
    )
    assert [(one.heading, one.paragraphs) for one in sections] == [
        ("Title", ["Why. See the page of app/api.", "More."]),
        ("Part", []),
    ]
