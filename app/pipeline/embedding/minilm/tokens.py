"""WordPiece: counting tokens, and cutting a text into pieces of at most so many.

Exact for the local model. For remote providers, whose tokenizers we do not have, `estimated_weights` errs on
the high side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from app.pipeline.embedding.minilm.weights import model_dir

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

CLS, SEP, UNKNOWN = 101, 102, 100
SPECIALS = 2


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A text as token ids without [CLS] and [SEP]; `starts_word[i]` says that token i begins a word."""

    ids: list[int]
    starts_word: list[bool]
    spans: list[tuple[int, int]]  # characters [start, end) of each token


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_dir() / "tokenizer.json"))
    tokenizer.no_padding()  # the file asks for 128 tokens, padded and cut
    tokenizer.no_truncation()
    return tokenizer


def tokenize(text: str) -> Tokenized:
    """Token ids, word starts and character spans of the whole text, however long."""
    encoding: Encoding = _tokenizer().encode(text, add_special_tokens=False)
    words = encoding.word_ids
    starts = [i == 0 or words[i] != words[i - 1] for i in range(len(words))]
    return Tokenized(encoding.ids, starts, encoding.offsets)


def count_tokens(text: str) -> int:
    """Tokens the local model reads for this text, [CLS] and [SEP] included."""
    return len(_tokenizer().encode(text).ids)


def cut_points(
    weights: Sequence[float], starts_word: Sequence[bool], limit: float, *, even: bool
) -> list[int]:
    """Boundaries 0 = b0 < b1 < … = n so that each [b(i), b(i+1)) weighs at most `limit`, cut between words.

    `even` aims at parts of equal weight instead of full ones and a short rest. A single word heavier than
    the limit is cut inside; a single token heavier than it stands alone.
    """
    total = sum(weights)
    parts = max(1, math.ceil(total / limit))
    aim = total / parts if even else limit
    points = [0]
    while points[-1] < len(weights):
        points.append(_next_cut(weights, starts_word, points[-1], (aim, limit)))
    return points


def _next_cut(
    weights: Sequence[float], starts_word: Sequence[bool], start: int, aim_and_limit: tuple[float, float]
) -> int:
    aim, limit = aim_and_limit
    held, best = 0.0, 0
    for i in range(start, len(weights)):
        if i > start and starts_word[i]:
            best = i
            if held >= aim:
                return best
        held += weights[i]
        if held > limit and i > start:
            return best or i
    return len(weights)


def estimated_weights(text: str, tokens: Tokenized) -> list[float]:
    """How many tokens of a byte-level tokenizer each of ours stands for, estimated.

    A known ASCII piece counts 1; other pieces half their UTF-8 bytes (a CJK character: 1.5); an unknown
    piece, which may be a whole Thai sentence, its UTF-8 bytes, the most any byte-level tokenizer can use.
    """
    return [
        _weight(token, text[start:end]) for token, (start, end) in zip(tokens.ids, tokens.spans, strict=True)
    ]


def _weight(token: int, piece: str) -> float:
    size = len(piece.encode(errors="surrogatepass"))
    if token == UNKNOWN:
        return float(size)
    return 1.0 if size == len(piece) else max(1.0, size / 2)
