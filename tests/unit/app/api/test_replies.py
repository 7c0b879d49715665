from __future__ import annotations

import pytest

from app.api.replies import attachment


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.pdf", "attachment; filename=\"a.pdf\"; filename*=UTF-8''a.pdf"),
        ("Größe 5.pdf", "attachment; filename=\"Groe 5.pdf\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%205.pdf"),
        ('x"; evil="1', "attachment; filename=\"x_; evil=_1\"; filename*=UTF-8''x%22%3B%20evil%3D%221"),
        ("論文", "attachment; filename=\"file\"; filename*=UTF-8''%E8%AB%96%E6%96%87"),
        ("a\r\nX: y", "attachment; filename=\"a__X: y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
    ],
)
def test_a_download_has_a_name_for_old_and_new_browsers_and_no_header_of_its_own(name: str, header: str):
    assert attachment(name) == header
