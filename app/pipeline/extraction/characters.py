"""From bytes to clean text: character sets, Unicode NFC, control characters."""

from __future__ import annotations

import codecs
import re
import unicodedata

from app.errors import UnreadableFileError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES = 64 * 1024
# Above this share of non-ASCII bytes a text in a single-byte set is not Western European.
_WESTERN_SHARE = 0.18
_CANDIDATES = (
    *("cp1251", "koi8_r", "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"),
    *("cp1250", "cp1253", "cp1254", "cp1255", "cp1256"),
)
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\ufeff\ufffe\uffff]|[\ud800-\udfff]")
_CONTROL_SHARE = 0.005
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b"))
_ASCII_BYTES = bytes(range(128))


def clean(text: str) -> str:
    """NFC, line feeds as line ends, no control characters but tab and newline; blanks and lines stay."""
    return unicodedata.normalize("NFC", _UNWANTED.sub("", _LINE_ENDS.sub("\n", text)))


def decode(data: bytes, *, declared: str | None = None) -> str:
    """Decode text of an unknown character set.

    In this order: byte order mark, UTF-8, UTF-16 without a mark, the declared set, the likeliest set.
    Raises UnreadableFileError when the bytes are no text.
    """
    encoding = _unicode_encoding(data) or _declared(data, declared) or _likeliest(data)
    try:
        return data.decode(encoding, "strict" if encoding.startswith("utf") else "replace")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"The text is not valid {encoding} (byte {error.start})") from error


def is_text(sample: bytes) -> bool:
    """Whether the first bytes of a file look like text in any character set."""
    for mark, _ in _MARKS:
        if sample.startswith(mark):
            return True
    if b"\0" in sample:
        return _utf16_without_mark(sample) is not None
    control = len(sample) - len(sample.translate(None, _CONTROL_BYTES))
    return control <= _CONTROL_SHARE * len(sample)


def _unicode_encoding(data: bytes) -> str | None:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return "utf-8-sig" if encoding == "utf-8" else encoding
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return _utf16_without_mark(data[:_SAMPLE_BYTES])
    return _utf16_without_mark(data[:_SAMPLE_BYTES]) or "utf-8" if b"\0" in data else "utf-8"


def _utf16_without_mark(sample: bytes) -> str | None:
    """UTF-16 of mostly Latin text has a zero in nearly every second byte."""
    pairs = len(sample) // 2
    even, odd = sample[0 : pairs * 2 : 2].count(0), sample[1 : pairs * 2 : 2].count(0)
    if pairs and odd > pairs * 0.7 and even < pairs * 0.05:
        return "utf-16-le"
    if pairs and even > pairs * 0.7 and odd < pairs * 0.05:
        return "utf-16-be"
    return None


def _declared(data: bytes, declared: str | None) -> str | None:
    if declared is None:
        return None
    try:
        data.decode(declared)
    except (LookupError, UnicodeDecodeError):
        return None
    return declared


def _likeliest(data: bytes) -> str:
    """The set of bytes that are not UTF-8 and say nothing about themselves."""
    sample = data[:_SAMPLE_BYTES]
    foreign = len(sample.translate(None, _ASCII_BYTES))
    if foreign < _WESTERN_SHARE * len(sample):
        return "cp1252"
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=list(_CANDIDATES)).best()
    return best.encoding if best else "cp1252"
