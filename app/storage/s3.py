"""Stored objects (uploads, map files) in one S3 bucket, on AWS or any server that speaks S3.

Keys are ids chosen by the services, never file names. Transfers stream in bounded memory and start no
threads of their own, so a store may be shared by threads and by greenlets.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from app.errors import NotFoundError, UnavailableError
from app.storage.s3_watch import watch

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_DELETE_AT_ONCE = 1000  # the most that one DeleteObjects call takes
_PART_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class BlobStoreOptions:
    """Where the bucket is and how patient to be. Without keys, boto3's own chain finds them (roles)."""

    bucket: str
    endpoint_url: str | None = None  # None: AWS
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    force_path_style: bool = True
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 60.0
    max_attempts: int = 4
    pool_size: int = 32


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """What the bucket knows of an object; `media_type` and `sha256` only from `stat`."""

    key: str
    size_bytes: int
    modified_at: datetime
    media_type: str | None = None
    sha256: str | None = None


class BlobStore:
    """Objects by key.

    Every method raises UnavailableError when the server is away, fails, or refuses our credentials, and those
    that read raise NotFoundError when there is no such object.
    """

    def __init__(self, options: BlobStoreOptions) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._made: tuple[int, S3Client] | None = None  # with the pid that made it

    def put_file(
        self, key: str, source: Path | BinaryIO, *, media_type: str, sha256: str | None = None
    ) -> None:
        """Store a file, or what is left of an open one; in parts of 8 MiB where it is larger."""
        from boto3.exceptions import S3UploadFailedError

        with self._failures(key):
            try:
                if isinstance(source, Path):
                    with source.open("rb") as stream:
                        self._upload(key, stream, media_type, sha256)
                else:
                    self._upload(key, source, media_type, sha256)
            except S3UploadFailedError as error:
                raise UnavailableError(f"{self._where()} did not take an object: {error}") from error

    def put_bytes(self, key: str, content: bytes, *, media_type: str, sha256: str | None = None) -> None:
        """Store a value that fits in memory."""
        with self._failures(key):
            self._client.put_object(
                Bucket=self.options.bucket,
                Key=key,
                Body=content,
                ContentType=media_type,
                Metadata=_metadata(sha256),
            )

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the bucket, on the server."""
        bucket = self.options.bucket
        with self._failures(source):
            self._client.copy_object(Bucket=bucket, Key=target, CopySource={"Bucket": bucket, "Key": source})

    def open(self, key: str, part: range | None = None) -> BinaryIO:
        """Return a buffered reader over the object, or over a part of its bytes (not empty); close it.

        Reading raises UnavailableError too.
        """
        which: Any = {} if part is None else {"Range": f"bytes={part.start}-{part.stop - 1}"}
        with self._failures(key):
            answer = self._client.get_object(Bucket=self.options.bucket, Key=key, **which)
        return io.BufferedReader(_ObjectReader(self, key, answer["Body"]), 1 << 16)

    def get_bytes(self, key: str) -> bytes:
        """Return the whole object."""
        with self.open(key) as reader:
            return reader.read()

    def download(self, key: str, path: Path) -> None:
        """Write the object to a file, which appears complete or not at all."""
        with self._failures(key):
            self._client.download_file(self.options.bucket, key, str(path), Config=_transfer())

    def stat(self, key: str) -> BlobInfo:
        """Return size, type and times of an object."""
        with self._failures(key):
            head = self._client.head_object(Bucket=self.options.bucket, Key=key)
        return BlobInfo(
            key=key,
            size_bytes=head["ContentLength"],
            modified_at=head["LastModified"],
            media_type=head.get("ContentType"),
            sha256=head.get("Metadata", {}).get("sha256"),
        )

    def exists(self, key: str) -> bool:
        """Tell whether there is such an object."""
        try:
            self.stat(key)
        except NotFoundError:
            return False
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is no failure."""
        pending = tuple(keys)
        for start in range(0, len(pending), _DELETE_AT_ONCE):
            batch: list[ObjectIdentifierTypeDef] = [
                {"Key": key} for key in pending[start : start + _DELETE_AT_ONCE]
            ]
            with self._failures():
                answer = self._client.delete_objects(
                    Bucket=self.options.bucket, Delete={"Objects": batch, "Quiet": True}
                )
            if failed := answer.get("Errors"):
                why = f"{failed[0].get('Code')}: {failed[0].get('Message')}"
                raise UnavailableError(f"{self._where()} did not delete {len(failed)} objects ({why})")

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Yield the objects whose key begins with the prefix, by key, a page of 1000 at a time."""
        token: dict[str, Any] = {}
        while True:
            with self._failures():
                page = self._client.list_objects_v2(Bucket=self.options.bucket, Prefix=prefix, **token)
            for entry in page.get("Contents", []):
                yield BlobInfo(entry["Key"], entry["Size"], entry["LastModified"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def ensure_bucket(self) -> None:
        """Create the bucket where it is missing."""
        from botocore.exceptions import ClientError

        with self._failures():
            try:
                self._client.head_bucket(Bucket=self.options.bucket)
            except ClientError as error:
                if _code(error) not in _MISSING | {"NoSuchBucket"}:
                    raise
                self._create_bucket()

    def ping(self) -> None:
        """Return when the server answers for our bucket."""
        with self._failures():
            self._client.head_bucket(Bucket=self.options.bucket)

    def _create_bucket(self) -> None:
        place: Any = {}
        if self.options.endpoint_url is None and self.options.region != "us-east-1":
            place = {"CreateBucketConfiguration": {"LocationConstraint": self.options.region}}
        with_existing = (self._client.exceptions.BucketAlreadyOwnedByYou,)
        try:
            self._client.create_bucket(Bucket=self.options.bucket, **place)
        except with_existing:
            return  # another process was first

    def _upload(self, key: str, stream: BinaryIO, media_type: str, sha256: str | None) -> None:
        extra = {"ContentType": media_type, "Metadata": _metadata(sha256)}
        self._client.upload_fileobj(stream, self.options.bucket, key, ExtraArgs=extra, Config=_transfer())

    @property
    def _client(self) -> S3Client:
        """The client of this process: connections made before a fork are left to the parent."""
        made = self._made
        if made is None or made[0] != os.getpid():
            with self._lock:
                if self._made is None or self._made[0] != os.getpid():
                    self._made = (os.getpid(), _make_client(self.options))
                made = self._made
        return made[1]

    def _where(self) -> str:
        return f"The object store {self.options.endpoint_url or 'AWS S3'} (bucket {self.options.bucket})"

    @contextmanager
    def _failures(self, key: str | None = None) -> Iterator[None]:
        """Translate what boto3 raises."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = _code(error)
            if key is not None and code in _MISSING:
                raise NotFoundError(f"There is no stored object {key}") from error
            raise UnavailableError(f"{self._where()} refused {error.operation_name}: {code}") from error
        except BotoCoreError as error:
            raise UnavailableError(f"{self._where()} does not answer: {error}") from error


class _ObjectReader(io.RawIOBase):
    """The body of a GET as a file; failures on the way are told in our words."""

    def __init__(self, store: BlobStore, key: str, body: Any) -> None:
        self._store = store
        self._key = key
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._store._failures(self._key):  # noqa: SLF001 - the other half of this class
            data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()


def _metadata(sha256: str | None) -> dict[str, str]:
    return {"sha256": sha256} if sha256 else {}


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, use_threads=False)


def _make_client(options: BlobStoreOptions) -> S3Client:
    import boto3.session
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",  # boto3 presigns with the old one for a custom endpoint unless told
        s3={"addressing_style": "path" if options.force_path_style else "auto"},
        connect_timeout=options.connect_timeout_seconds,
        read_timeout=options.read_timeout_seconds,
        retries={"mode": "adaptive", "total_max_attempts": options.max_attempts},
        max_pool_connections=options.pool_size,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",  # servers other than AWS refuse the trailer it adds
        response_checksum_validation="when_required",
    )
    session = boto3.session.Session(
        aws_access_key_id=options.access_key_id,
        aws_secret_access_key=options.secret_access_key,
        region_name=options.region,
    )
    client: S3Client = session.client("s3", endpoint_url=options.endpoint_url, config=config)
    watch(client)
    return client
