"""Times and traces every call that boto3 makes, the parts of a large upload and its retries included."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from app.observability.calls import Call, call

_KEY = "semantic_explorer_call"
_FAILED = 400


def watch(client: Any) -> None:
    """Listen to what a client does."""
    client.meta.events.register("before-call.s3", _begin)
    client.meta.events.register("after-call.s3", _end)
    client.meta.events.register("after-call-error.s3", _fail)


def _begin(model: Any, context: dict[str, Any], **_: Any) -> None:
    stack = ExitStack()
    made = stack.enter_context(call("s3", model.name))
    context[_KEY] = (stack, made)


def _end(http_response: Any, context: dict[str, Any], **_: Any) -> None:
    _close(context, failed=http_response.status_code >= _FAILED)


def _fail(context: dict[str, Any], **_: Any) -> None:
    _close(context, failed=True)


def _close(context: dict[str, Any], *, failed: bool) -> None:
    stack: ExitStack
    made: Call
    # An event without its beginning: botocore refused the call before it was one.
    stack, made = context.pop(_KEY, (ExitStack(), Call()))
    if failed:
        made.status = "failed"
    stack.close()
