"""The operators' panel at /admin: Flask-Admin's views with templates of ours, for whoever is signed in.

`register` hangs it on the application. Views read; whatever changes something is a verb of a service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Flask
from flask_admin import Admin
from flask_admin.theme import Bootstrap4Theme

from app.admin import frame, wording
from app.admin.bulks import BulksView
from app.admin.home import Home, Parts
from app.admin.jobs import JobsView
from app.admin.letter_list import LetterList
from app.admin.letters import LettersView
from app.admin.links import trace_links
from app.admin.queues import QueuesView
from app.admin.reading import ReadSession
from app.admin.runbooks import RunbooksView

if TYPE_CHECKING:
    from app.container import Container


def register(app: Flask, container: Container, on_error: frame.OnError) -> None:
    """Add the panel to `app`; `on_error` makes the page that says what failed."""
    app.extensions[frame.EXTENSION] = on_error
    services, reading = container.services, ReadSession(lambda: container.database)
    app.teardown_request(reading.close)
    app.register_blueprint(_assets(container.settings.trace_url_template))
    admin = Admin(
        app,
        name="Operations",
        url="/admin",
        endpoint="admin",
        index_view=Home("panel_letters.index"),
        theme=Bootstrap4Theme(base_template="panel/base.html"),
        csp_nonce_generator=frame.nonce,
    )
    letters, bulks = LettersView(services), BulksView(services)
    queues, jobs = QueuesView(services), JobsView(services, reading)
    parts = Parts(queues, jobs, letters, bulks)
    admin.add_views(letters, LetterList(reading), bulks, queues, jobs, parts, RunbooksView())


def _assets(trace_url_template: str | None) -> Blueprint:
    assets = Blueprint(
        "panel",
        __name__,
        template_folder="templates",
        static_folder="static",
        static_url_path="/admin/static",
    )
    frame.protect(assets)
    for name, say in wording.FILTERS.items():
        assets.add_app_template_filter(say, name)
    assets.add_app_template_filter(trace_links(trace_url_template), "trace_url")
    return assets
