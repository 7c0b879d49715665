"""Files on the wire."""

from __future__ import annotations

from typing import Literal

from flask_openapi3.models.file import FileStorage
from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, JsonObject, PageReply, QueryString
from app.services.files import Completed, Failed, FileView
from app.services.previews import MOST_CHUNKS, Preview
from app.services.processed_files import FailedFile


class FilesPath(BaseModel):
    """Names a collection."""

    collection_id: int


class FilePath(BaseModel):
    """Names a file of a collection by its key."""

    collection_id: int
    file_key: int


class FilesQuery(QueryString):
    """Which page of the files."""

    page_size: int = Field(10, ge=1, le=1000)
    continuation_token: str | None = Field(None, max_length=2048)
    search: str | None = Field(None, max_length=256)


class TypesQuery(QueryString):
    """How much is said of each type."""

    details: Literal["true", "false"] = "false"


class PreviewBody(Body):
    """A configuration to try, as a collection transform takes it, and how many passages to show."""

    job_config: JsonObject = Field(default_factory=dict)
    chunk_size: int | None = None
    limit: int = Field(20, ge=1, le=MOST_CHUNKS)


class PreviewReply(RootModel[Preview]):
    """What would be made."""


class UploadForm(BaseModel):
    """One or more files."""

    files: list[FileStorage]


class UploadReply(BaseModel):
    """What became of each file."""

    completed: list[Completed]
    failed: list[Failed]


class FileReply(RootModel[FileView]):
    """One file."""


class FileList(BaseModel):
    """A page of files by name; `total_count` and `page` come with the first page only."""

    files: list[FileView]
    page: int | None
    page_size: int
    has_more: bool
    continuation_token: str | None
    total_count: int | None


class FailedFileList(PageReply):
    """A page of failed files."""

    items: list[FailedFile]


class FileType(BaseModel):
    """A type that can be read."""

    media_type: str
    label: str
    extensions: list[str]
