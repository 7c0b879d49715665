"""Places where a text may be cut, by kind: paragraphs, lines, sentences, words, letters as people see them.

A cut is a position p that separates text[p-1] from text[p].
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_PARAGRAPHS = re.compile(r"\n[^\S\n]*\n")
_LINES = re.compile(r"\n|\r(?!\n)")
# Blanks, the zero-width space of South-East Asian scripts, and marks that East Asian text breaks after.
_WORDS = re.compile("[\\s\u200b]+|[\uff0c\u3001\uff1b\uff1a\u3002\uff01\uff1f]")
_CLOSING = "[\"'\u2019\u201d\u00bb)\\]}]*"
# After Unicode's rules (UAX #29): a terminator, closing marks, then a blank; full-width terminators and those
# of Indic, Ethiopic, Khmer and other scripts need no blank; an empty line always ends a sentence.
_SENTENCES = re.compile(
    f"(?P<western>[.!?\u2026\u061f\u06d4\u203c\u2047\u2048\u2049]+){_CLOSING}(?=\\s)"
    "|[\u3002\uff01\uff1f\uff61\uff0e\u0964\u0965\u1362\u1367\u1368\u104b\u17d4\u17d5\u1803\u1809\ua4ff]+"
    "[\u2019\u201d\u300d\u300f\uff09\u3011\u300b\u3009]*"
    "|(?<=[\u0e01-\u0eff])[ ]+(?=[\u0e01-\u0eff])"  # Thai and Lao part sentences by a blank
    "|\n[^\\S\n]*\n"
)
_ABBREVIATIONS = frozenset(
    (
        *("mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "vs", "cf", "fig", "figs", "no", "nos", "vol"),
        *("pp", "p", "ed", "eds", "approx", "al", "dept", "inc", "ltd", "co", "e.g", "i.e", "z.b", "d.h"),
        *("bzw", "ca", "nr", "abb", "bspw", "usw", "eq", "sec", "ch", "art"),
    )
)
_WORD_BEFORE = re.compile(r"[\w.]*\Z")
_WORD_CHARACTERS = 12
_LOOK_AHEAD = 8
_LONGEST_CLUSTER = 64
_LONGEST_RUN_OF_FLAGS = 256
_JOINER = "\u200d"
_REGIONAL = range(0x1F1E6, 0x1F200)
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_TAGS = range(0xE0020, 0xE0080)
_LEADING, _VOWELS, _TRAILING = range(0x1100, 0x1160), range(0x1160, 0x11A8), range(0x11A8, 0x1200)
_SYLLABLES, _TRAILS = range(0xAC00, 0xD7A4), 28


def paragraph_cuts(text: str) -> list[int]:
    """After empty lines."""
    return [match.end() for match in _PARAGRAPHS.finditer(text)]


def line_cuts(text: str) -> list[int]:
    """After line ends."""
    return [match.end() for match in _LINES.finditer(text)]


def word_cuts(text: str) -> list[int]:
    """After blanks."""
    return [match.end() for match in _WORDS.finditer(text)]


def separator_cuts(text: str, separator: str) -> list[int]:
    """After each occurrence of a text."""
    cuts, at = [], text.find(separator)
    while at >= 0:
        cuts.append(at + len(separator))
        at = text.find(separator, at + len(separator))
    return cuts


def sentence_cuts(text: str) -> list[int]:
    """After sentences in the common scripts; known abbreviations and initials do not end one."""
    return list(_sentence_ends(text))


def _sentence_ends(text: str) -> Iterator[int]:
    for match in _SENTENCES.finditer(text):
        if match["western"] != "." or _dot_ends_sentence(text, match.start("western"), match.end()):
            yield match.end()


def _dot_ends_sentence(text: str, dot: int, end: int) -> bool:
    following = text[end : end + _LOOK_AHEAD].lstrip()[:1]
    if following.islower():
        return False
    word_match = _WORD_BEFORE.search(text, max(0, dot - _WORD_CHARACTERS), dot)
    word = word_match[0] if word_match else ""
    is_initial = len(word) == 1 and word.isupper()
    is_list_number = (
        word.isdigit() and text[:dot].rfind("\n", max(0, dot - len(word) - 1)) == dot - len(word) - 1
    )
    return not (word.lower() in _ABBREVIATIONS or is_initial or is_list_number)


def whole_letter_cut(text: str, position: int, lowest: int) -> int:
    """The last cut at or before `position` that splits no grapheme cluster; never below `lowest` + 1.

    Where one cluster fills the whole room, `position` itself.
    """
    floor = max(lowest + 1, position - _LONGEST_CLUSTER)
    for cut in range(position, floor - 1, -1):
        if not splits_letter(text, cut):
            return cut
    return position


def splits_letter(text: str, cut: int) -> bool:
    """Whether a cut separates what a reader sees as one character (close to UAX #29's clusters)."""
    if cut <= 0 or cut >= len(text):
        return False
    left, right = text[cut - 1], text[cut]
    if right < "\u0300" and left < "\u0300":
        return left == "\r" and right == "\n"
    code = ord(right)
    if unicodedata.category(right) in ("Mn", "Me", "Mc") or _JOINER in (left, right):
        return True
    if code in _SKIN_TONES or code in _TAGS or _is_jamo_pair(left, right):
        return True
    return code in _REGIONAL and _odd_flags_before(text, cut)


def _odd_flags_before(text: str, cut: int) -> bool:
    """Two regional letters make a flag: a cut after an odd number of them splits one."""
    count = 0
    while count < min(cut, _LONGEST_RUN_OF_FLAGS) and ord(text[cut - 1 - count]) in _REGIONAL:
        count += 1
    return count % 2 == 1


def _is_jamo_pair(left: str, right: str) -> bool:
    """Korean syllables spelled in letters: leading, vowel and trailing ones belong together."""
    first, second = ord(left), ord(right)
    leading = first in _LEADING
    vowel = first in _VOWELS or (first in _SYLLABLES and (first - _SYLLABLES.start) % _TRAILS == 0)
    if second in _LEADING or second in _SYLLABLES:
        return leading
    if second in _VOWELS:
        return leading or vowel
    return second in _TRAILING and (vowel or first in _TRAILING or first in _SYLLABLES)
