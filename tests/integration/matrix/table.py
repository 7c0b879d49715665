"""The table of who may do what at which route: what test_matrix.py proves against the running application.

A new route fails the tests until it stands here. To add one:

1. Put its endpoint into ROUTES under the kind that it is (each kind says what it promises).
2. If it takes JSON (or a form), give a body in app/api/schemas/examples.py (FORMS) that is good.
   `"<collection_id>"` stands for the id of the asker's own thing; every field that names a thing must be
   given so, because each is then tried with another's.
3. If it needs parameters, give them in QUERIES. If its address holds an id of a new kind, make one in
   tenants.py (`Things.ids`; `blueprint.name` where two blueprints call different things the same).
4. If it is a POST that changes nothing, name it in READS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from app.api.schemas import examples


class Kind(Enum):
    """What a route promises about other people's things."""

    OPEN = auto()  # tells nothing of anybody; whether strangers hear it, tests/meta/test_api.py lists
    SAME = auto()  # tells everyone who is signed in the same
    MINE = auto()  # no id in its address: lists or makes things of whoever asks
    OWN = auto()  # an id in its address: its owner's only
    SHARED = auto()  # as OWN, and for all to read or copy once the thing is public
    PERSONAL = auto()  # as MINE, for people signed in and not for machines with a token
    OWN_PERSONAL = auto()  # as OWN, for people signed in and not for machines with a token
    ADMIN = auto()  # for admins


ROUTES: dict[Kind, str] = {
    Kind.OPEN: """
        openapi metrics health.live health.ready health.alive
        programs.begin_by_code programs.redeem_code programs.begin_by_device programs.poll_device
        programs.refresh_tokens auth.start auth.auth_callback auth.sign_out web.login web.static panel.static
    """,
    Kind.SAME: """
        embedders.list_providers files.list_allowed_file_types web.api_docs web.leave web.marketplace
        inference.list_served_embedders inference.list_served_llms
        marketplace.list_public_collections marketplace.list_recent_collections
        marketplace.list_public_datasets marketplace.list_recent_datasets
        marketplace.list_public_embedders marketplace.list_recent_embedders
        marketplace.list_public_llms marketplace.list_recent_llms
        queues.list_queues queues.list_queue_schedules queues.get_queue_configuration
        panel_queues.index panel_parts.queues panel_runbooks.index panel_runbooks.page
    """,
    Kind.MINE: """
        collections.list_collections collections.search_collections collections.create_collection
        datasets.list_datasets datasets.create_dataset datasets.list_embedders_for_datasets
        embedders.list_embedders embedders.create_embedder
        llms.list_llms llms.create_llm
        collection_transforms.list_collection_transforms collection_transforms.create_collection_transform
        collection_transforms.stream_collection_transforms
        dataset_transforms.list_dataset_transforms dataset_transforms.create_dataset_transform
        dataset_transforms.stream_dataset_transforms
        visualization_transforms.list_visualization_transforms
        visualization_transforms.create_visualization_transform
        visualization_transforms.stream_visualization_transforms
        standalone.create_standalone
        embedded_datasets.list_embedded_datasets embedded_datasets.count_several_embedded_datasets
        chat.list_chat_sessions chat.create_chat_session
        visualizations.list_visualizations visualizations.list_recent_visualizations
        usage.get_usage bulk.delete_many bulk.trigger_many
        search.search jobs.list_jobs events.stream_events audit.list_audit_events users.get_me
        web.home web.home_part web.create_collection web.map_list web.map_passages web.search
        web.chat web.sharing

        dead_letters.list_dead_letters dead_letters.list_dead_letter_groups dead_letters.export_dead_letters
        dead_letter_bulks.list_bulks dead_letter_bulks.prepare_bulk
        admin.index panel_letters.index panel_letter_list.index_view panel_letter_list.export
        panel_jobs.index_view panel_jobs.export panel_bulks.index panel_bulks.prepare
        panel_parts.index panel_parts.groups panel_parts.bulks
    """,
    Kind.OWN: """
        collections.update_collection collections.delete_collection collections.count_files_by_state
        collections.list_transforms_of_collection
        files.upload_files files.delete_file files.list_failed_files
        datasets.update_dataset datasets.delete_dataset datasets.list_transforms_of_dataset
        datasets.list_transforms_into_dataset datasets.list_embedded_datasets_of_dataset
        items.push_items items.delete_item
        embedders.update_embedder embedders.delete_embedder embedders.test_embedder
        llms.update_llm llms.delete_llm llms.test_llm
        collection_transforms.get_collection_transform collection_transforms.get_collection_transform_stats
        collection_transforms.list_processed_files collection_transforms.update_collection_transform
        collection_transforms.delete_collection_transform collection_transforms.trigger_collection_transform
        collection_transforms.cancel_collection_transform collection_transforms.retry_failed_files
        collection_transforms.list_collection_transform_runs
        collection_transforms.get_collection_transform_run dataset_transforms.list_dataset_transform_runs
        dataset_transforms.get_dataset_transform_run
        collection_transforms.cancel_collection_transform_run dataset_transforms.cancel_dataset_transform_run
        collection_transforms.stream_collection_transform_run dataset_transforms.stream_dataset_transform_run
        dataset_transforms.get_dataset_transform dataset_transforms.get_dataset_transform_stats
        dataset_transforms.get_dataset_transform_detailed_stats dataset_transforms.list_batches
        dataset_transforms.update_dataset_transform dataset_transforms.delete_dataset_transform
        dataset_transforms.trigger_dataset_transform dataset_transforms.cancel_dataset_transform
        dataset_transforms.retry_failed_items
        embedded_datasets.get_embedded_dataset embedded_datasets.get_embedded_dataset_stats
        embedded_datasets.list_points embedded_datasets.get_vector embedded_datasets.list_processed_batches
        embedded_datasets.list_visualizations_of_embedded_dataset
        embedded_datasets.update_embedded_dataset embedded_datasets.delete_embedded_dataset
        standalone.push_vectors standalone.delete_point
        visualization_transforms.get_visualization_transform
        visualization_transforms.get_visualization_transform_stats visualization_transforms.list_runs
        visualization_transforms.get_run visualization_transforms.download_run
        visualization_transforms.update_visualization_transform
        visualization_transforms.delete_visualization_transform
        visualization_transforms.trigger_visualization_transform
        visualization_transforms.cancel_visualization_transform
        visualizations.get_visualization visualizations.list_clusters visualizations.get_points_file
        visualizations.list_map_points visualizations.download_visualization
        visualizations.cancel_visualization visualizations.delete_visualization
        dataset_transforms.get_batch dataset_transforms.get_batch_stats dataset_transforms.retry_batch
        exports.export_embedded_dataset exports.export_visualization
        chat.get_chat_session chat.delete_chat_session chat.list_chat_messages chat.ask chat.ask_stream
        chat.regenerate
        jobs.get_job jobs.cancel_job jobs.run_job_again
        dead_letters.get_dead_letter dead_letters.edit_dead_letter dead_letters.discard_dead_letter
        dead_letters.replay_dead_letter dead_letters.reveal_dead_letter dead_letters.undo_dead_letter
        dead_letters.list_dead_letter_destinations dead_letters.reroute_dead_letter
        dead_letters.mark_dead_letter_read dead_letter_bulks.undo_bulk
        panel_letters.reroute panel_letters.read
        dead_letter_bulks.get_bulk dead_letter_bulks.list_bulk_problems dead_letter_bulks.start_bulk
        dead_letter_bulks.pause_bulk dead_letter_bulks.resume_bulk dead_letter_bulks.cancel_bulk
        panel_letters.letter panel_letters.edit panel_letters.edited panel_letters.discard
        panel_letters.replay panel_letters.undo panel_bulks.bulk panel_bulks.steer
        panel_jobs.details_view panel_jobs.cancel panel_jobs.run_again panel_parts.bulk panel_parts.job
        web.collection web.collection_part web.build_map web.document web.share
        web.map_page web.map_part web.map_passage web.map_points web.map_preview web.map_topics
        web.pushed_passages web.pushed_passage web.map_pushed
        web.chat_session web.chat_thread
    """,
    Kind.SHARED: """
        collections.get_collection files.list_files files.get_file files.download_file files.preview_file
        datasets.get_dataset exports.export_dataset
        items.list_items items.list_item_summaries items.list_chunks items.get_item items.get_item_text
        items.get_chunk embedders.get_embedder llms.get_llm
        marketplace.grab_collection marketplace.grab_dataset marketplace.grab_embedder marketplace.grab_llm
    """,
    Kind.PERSONAL: """
        sessions.list_sessions sessions.revoke_other_sessions
        api_tokens.list_api_tokens api_tokens.create_api_token
    """,
    Kind.OWN_PERSONAL: "sessions.revoke_session api_tokens.revoke_api_token",
    Kind.ADMIN: """
        status.get_nats_status usage.list_usage_by_owner
        dead_letters.import_dead_letters
        queues.pause_queue queues.resume_queue panel_queues.pause panel_queues.resume panel_letters.reveal
    """,
}

# Viewers may: they change nothing, or only what is the viewer's own way in.
READS = {
    "search.search",
    "embedded_datasets.count_several_embedded_datasets",
    "web.map_passages",
    "web.pushed_passages",
    "sessions.revoke_other_sessions",
    "sessions.revoke_session",
    "api_tokens.create_api_token",
    "api_tokens.revoke_api_token",
}

BODIES: dict[str, Any] = {
    **examples.BODIES,
    "web.map_passages": {"ids": ["<chunk_id>"]},
    "web.pushed_passages": {"ids": ["<point_id>"]},
}

FORMS = {
    "web.create_collection": {"title": "t"},
    "web.share": {"public": "no"},
    "panel_letters.discard": {"why": "w"},
    "panel_letters.reroute": {"to": "plan_collection_transform"},
    "panel_bulks.prepare": {"act": "discard", "why": "w", "filter-state": "open"},
}

# Parameters without which a route has no good answer.
QUERIES = {"collections.search_collections": "q=mark"}

# Documented requests (app/api/schemas/examples.py) that alone get no good answer, and why: each has tests of
# its own. Pages, the panel and the addresses that browsers go to for sign-in are not documented.
ELSEWHERE = {
    "programs.redeem_code": "the code is the provider's: tests/integration/signin/test_programs.py",
    "programs.poll_device": "a person must have let the device in: test_programs.py",
    "programs.refresh_tokens": "the token is in one answer only: test_programs.py",
    "embedders.delete_embedder": "what create_standalone made uses it: api/test_embedders.py",
    "jobs.run_job_again": "a job must have died: tests/integration/dead_letters/test_run_again.py",
    "dead_letters.replay_dead_letter": "its message must be on the stream: dead_letters/test_acts.py",
    "dead_letters.reroute_dead_letter": "its job must be dead: dead_letters/test_moves.py",
    "dead_letters.import_dead_letters": "it takes an export: dead_letters/test_import.py",
    "dead_letter_bulks.undo_bulk": "a bulk discard must have ended: dead_letters/test_moves.py",
    "dead_letters.edit_dead_letter": "its arguments are those of the dead job: dead_letters/test_acts.py",
}
# Documented requests that stand on others, in their order; what is not named comes before them.
LAST = [
    *("dead_letters.discard_dead_letter", "dead_letters.undo_dead_letter"),
    *(f"dead_letter_bulks.{act}_bulk" for act in ("start", "pause", "resume", "cancel")),
    *("standalone.delete_point", "chat.delete_chat_session", "visualizations.delete_visualization"),
    "visualization_transforms.delete_visualization_transform",
    "embedded_datasets.delete_embedded_dataset",
    "dataset_transforms.delete_dataset_transform",
    "collection_transforms.delete_collection_transform",
    *("items.delete_item", "files.delete_file", "datasets.delete_dataset", "collections.delete_collection"),
    *("llms.delete_llm", "api_tokens.revoke_api_token"),
    *("sessions.revoke_other_sessions", "sessions.revoke_session"),
]

# References that lead to nothing of another's, and to no error either: what is not one's own is left out.
LEFT_OUT = {
    ("web.map_passages", "ids"),
    ("web.pushed_passages", "ids"),
    ("bulk.delete_many", "ids"),
    ("bulk.trigger_many", "ids"),
}

# They end like references and only narrow what is one's own anyway.
NARROWING = {
    ("dead_letter_bulks.prepare_bulk", f"{name}_id") for name in ("bulk", "job", "message", "owner", "trace")
}

AWAY = "401, or the way to the sign-in page"
GOOD = "a good answer without anything of another's"
FORBIDDEN, NOTHING = "403", "404"


@dataclass(frozen=True)
class Expected:
    """What each class of asker gets; `reader` may look and change nothing, on things of their own."""

    stranger: str
    tenant: str
    reader_reads: str
    reader_writes: str


EXPECTED: dict[Kind, Expected] = {
    Kind.SAME: Expected(AWAY, GOOD, GOOD, FORBIDDEN),
    Kind.MINE: Expected(AWAY, GOOD, GOOD, FORBIDDEN),
    Kind.OWN: Expected(AWAY, NOTHING, GOOD, FORBIDDEN),
    Kind.SHARED: Expected(AWAY, NOTHING, GOOD, FORBIDDEN),
    Kind.PERSONAL: Expected(AWAY, GOOD, FORBIDDEN, FORBIDDEN),
    Kind.OWN_PERSONAL: Expected(AWAY, NOTHING, FORBIDDEN, FORBIDDEN),
    Kind.ADMIN: Expected(AWAY, FORBIDDEN, FORBIDDEN, FORBIDDEN),
}

KIND_OF: dict[str, Kind] = {name: kind for kind, names in ROUTES.items() for name in names.split()}
