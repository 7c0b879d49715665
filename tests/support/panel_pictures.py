"""Which page of the operators' panel each picture in docs/admin shows, and which addresses have none."""

from __future__ import annotations

import re

ENDINGS = {"desk": "", "phone": "-phone"}
PICTURES = {
    "causes": "/admin/dead-letters/",
    "letters": "/admin/dead-letters/list/",
    "letter": "/admin/dead-letters/<int:dead_letter_id>",
    "edit": "/admin/dead-letters/<int:dead_letter_id>/edit",
    "edit-changes": "/admin/dead-letters/<int:dead_letter_id>/edit",
    "bulk-jobs": "/admin/dead-letters/bulks/",
    "bulk-job": "/admin/dead-letters/bulks/<int:bulk_id>",
    "bulk-preview": "/admin/dead-letters/bulks/<int:bulk_id>",
    "queues": "/admin/queues/",
    "queue-paused": "/admin/queues/",
    "jobs": "/admin/jobs/",
    "job": "/admin/jobs/<uuid:job_id>",
    "runbooks": "/admin/runbooks/",
    "runbook": "/admin/runbooks/<runbook>",
}
WITHOUT = {
    "/admin/": "leads on to the causes",
    "/admin/static/<path:filename>": "styles and scripts",
    "/admin/dead-letters/list/export/<export_type>/": "a download",
    "/admin/jobs/export/<export_type>/": "a download",
    "/admin/parts/": "leads on to the causes",
    "/admin/parts/queues": "part of a page",
    "/admin/parts/jobs/<uuid:job_id>": "part of a page",
    "/admin/parts/dead-letters": "part of a page",
    "/admin/parts/bulks": "part of a page",
    "/admin/parts/bulks/<int:bulk_id>": "part of a page",
}


def file_names() -> set[str]:
    """All pictures, of both sizes."""
    return {f"{name}{ending}.png" for name in PICTURES for ending in ENDINGS.values()}


def shows(name: str, path: str) -> bool:
    """Whether the page at `path` is the one that the picture is to show."""
    return re.fullmatch(re.sub(r"<[^>]+>", "[^/]+", PICTURES[name]), path) is not None
