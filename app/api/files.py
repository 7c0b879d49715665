"""/api/collections/{id}/files."""

from __future__ import annotations

from typing import BinaryIO, cast

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import RootModel

from app.api.context import me, services
from app.api.guard import takes_bytes, takes_files
from app.api.openapi import download
from app.api.ranges import as_part, asked_part
from app.api.replies import reply, stream
from app.api.schemas.base import PROBLEMS, KeyedWindow, Message, Problem
from app.api.schemas.files import (
    FailedFileList,
    FileList,
    FilePath,
    FileReply,
    FilesPath,
    FilesQuery,
    FileType,
    PreviewBody,
    PreviewReply,
    TypesQuery,
    UploadForm,
    UploadReply,
)
from app.pipeline.extraction import registry
from app.security.marks import budget
from app.services.uploads import Upload

api = APIBlueprint("files", __name__, url_prefix="/api", abp_tags=[Tag(name="Files")], abp_responses=PROBLEMS)
_FILES = "/collections/<int:collection_id>/files"


class AllowedTypes(RootModel[list[str] | list[FileType]]):
    """Media types, or media types with their names and endings."""


@api.post(_FILES, responses={200: UploadReply})
@takes_files
@budget("upload")
@takes_bytes(lambda settings: int(settings.s3_max_upload_size_bytes))
def upload_files(path: FilesPath, form: UploadForm) -> Response:
    """Store files (multipart field `files`, any number of times); each stands or falls alone."""
    uploads = [
        Upload(file.filename or "", cast("BinaryIO", file.stream), file.content_length or None)
        for file in form.files
    ]
    outcome = services().files.upload(me(), path.collection_id, uploads)
    return reply(UploadReply(completed=list(outcome.completed), failed=list(outcome.failed)))


@api.get(_FILES, responses={200: FileList})
def list_files(path: FilesPath, query: FilesQuery) -> Response:
    """List files by name, with what became of each."""
    page = services().files.list(
        me(),
        path.collection_id,
        page_size=query.page_size,
        token=query.continuation_token,
        search=query.search,
    )
    return reply(
        FileList(
            files=list(page.files),
            page=1 if query.continuation_token is None else None,
            page_size=page.page_size,
            has_more=page.has_more,
            continuation_token=page.continuation_token,
            total_count=page.total_count,
        )
    )


@api.get(f"{_FILES}/<int:file_key>", responses=download("*/*"))
def download_file(path: FilePath) -> Response:
    """Download the bytes as they were uploaded, or a part of them (`Range`)."""
    file = services().files.open(me(), path.collection_id, path.file_key)
    if request.if_none_match.contains(file.content_hash):
        response = Response(status=304)
        response.set_etag(file.content_hash)
        return response
    part = asked_part(file.size_bytes, file.content_hash)
    # Never shown in place: an uploaded page must not run as ours.
    response = stream(
        file.open(part),
        media_type=file.media_type,
        size_bytes=file.size_bytes if part is None else len(part),
        filename=file.name,
        etag=file.content_hash,
    )
    return as_part(response, part, file.size_bytes)


@api.get(f"{_FILES}/<int:file_key>/state", responses={200: FileReply})
def get_file(path: FilePath) -> Response:
    """Read what became of one file."""
    return reply(FileReply(services().files.get(me(), path.collection_id, path.file_key)))


@api.post(f"{_FILES}/<int:file_key>/preview", responses={200: PreviewReply, 422: Problem})
@budget("search")
def preview_file(path: FilePath, body: PreviewBody) -> Response:
    """Show what a configuration would make of a file; nothing is stored."""
    made = services().previews.preview(
        me(),
        path.collection_id,
        path.file_key,
        job_config=body.job_config,
        chunk_size=body.chunk_size,
        limit=body.limit,
    )
    return reply(PreviewReply(made))


@api.delete(f"{_FILES}/<int:file_key>", responses={200: Message})
def delete_file(path: FilePath) -> Response:
    """Delete a file with what was made from it."""
    services().files.delete(me(), path.file_key, collection_id=path.collection_id)
    return reply(Message(message="the file is deleted"))


@api.get("/collections/<int:collection_id>/failed-files", responses={200: FailedFileList})
def list_failed_files(path: FilesPath, query: KeyedWindow) -> Response:
    """List the files that could not be read, with the cause."""
    page = services().files.failed_files(
        me(), path.collection_id, limit=query.limit, offset=query.offset, cursor=query.cursor
    )
    return reply(FailedFileList.of(page))


@api.get("/collections-allowed-file-types", responses={200: AllowedTypes})
def list_allowed_file_types(query: TypesQuery) -> Response:
    """List the media types that can be read (`?details=true`: with names and endings)."""
    types = registry.supported_types()
    if query.details == "false":
        return reply(AllowedTypes(sorted({each.media_type for each in types})))
    details = [
        FileType(media_type=each.media_type, label=each.label, extensions=list(each.extensions))
        for each in types
    ]
    return reply(AllowedTypes(details))
