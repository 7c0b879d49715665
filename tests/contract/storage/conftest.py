from __future__ import annotations

import pytest

from app.storage.qdrant import VectorStore, VectorStoreOptions
from app.storage.s3 import BlobStore, BlobStoreOptions


@pytest.fixture(scope="session")
def blobs(stack_env):
    return BlobStore(
        BlobStoreOptions(
            bucket=stack_env["S3_BUCKET_NAME"],
            endpoint_url=stack_env["AWS_ENDPOINT_URL"],
            region=stack_env["AWS_REGION"],
            access_key_id=stack_env["AWS_ACCESS_KEY_ID"],
            secret_access_key=stack_env["AWS_SECRET_ACCESS_KEY"],
            max_attempts=2,
        )
    )


@pytest.fixture(scope="session")
def vectors(stack_env):
    store = VectorStore(VectorStoreOptions(stack_env["QDRANT_URL"], timeout_seconds=20))
    yield store
    store.close()
