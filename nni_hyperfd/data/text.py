"""Bytes of an annotation file as text, JSON or XML, whatever encoding its writer used."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Collection
from xml.etree import ElementTree

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What spreadsheets and editors write that know no Unicode: western Europe first, as it is the most frequent.
LEGACY = (
    "cp1252",
    "gb18030",
    "big5",
    "shift_jis",
    "euc_kr",
    "cp1251",
    "cp1250",
    "cp1253",
    "cp1254",
    "mac_roman",
)
DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
DECLARATION = re.compile(r"^\s*<\?xml.*?\?>", re.DOTALL)


def decode_text(content: bytes, witnesses: Collection[str] = ()) -> tuple[str, str]:
    """Text and the name of the encoding it was read with.

    UTF-8 if it is that; UTF-16 and UTF-32 by their byte order marks, UTF-16 also by its zeros; otherwise the first of
    ``LEGACY`` in whose reading most ``witnesses`` (non-ASCII names that should occur) are found. Never fails: bytes that
    fit nothing become replacement characters.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace").lstrip("\ufeff"), encoding
    wide = _wide(content)
    if wide is not None:
        return content.decode(wide, errors="replace"), wide
    try:
        plain = content.decode("utf-8")
    except UnicodeDecodeError:
        plain = None
    if plain is not None and (plain.isascii() or not witnesses or _seen(plain, witnesses)):
        return plain, "utf-8"
    # Short texts of an old encoding may by chance be UTF-8 as well: then only a name that is found says so.
    best, most = (None, 0) if plain is not None else (None, -1)
    for encoding in LEGACY:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        seen = _seen(text, witnesses)
        if seen > most:
            best, most = (text, encoding), seen
    if best is not None:
        return best
    return (
        (plain, "utf-8")
        if plain is not None
        else (content.decode("utf-8", errors="replace"), "utf-8 with errors")
    )


def _seen(text: str, witnesses: Collection[str]) -> int:
    """How many of the witnesses occur; single letters prove nothing."""
    composed = unicodedata.normalize("NFC", text)
    return sum(len(word) > 1 and unicodedata.normalize("NFC", word) in composed for word in witnesses)


def _wide(content: bytes) -> str | None:
    """UTF-16 without a mark: every second byte of mostly Latin text is zero."""
    sample = content[:2000]
    half = len(sample) // 2
    if half < 2 or len(content) % 2:
        return None
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if odd > 0.6 * half and even < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.6 * half and odd < 0.1 * half else None


def parse_xml(content: bytes, witnesses: Collection[str] = ()) -> tuple[ElementTree.Element, str]:
    """Root element and the encoding: the declared one where its bytes fit, else as `decode_text` finds.

    Raises:
        ElementTree.ParseError: no well-formed XML in any encoding.
    """
    stripped = content.lstrip(b" \t\r\n")
    match = DECLARED.match(stripped)
    declared = match.group(1).decode() if match else "utf-8"
    # Not left to the parser: it knows few encodings, and takes bytes that do not fit for the end of the document.
    try:
        codec = codecs.lookup(declared).name
        text = content.decode("utf-8-sig" if codec == "utf-8" else codec)
        encoding = declared
    except (LookupError, UnicodeDecodeError, ValueError):
        text, encoding = decode_text(content, witnesses)
    return ElementTree.fromstring(DECLARATION.sub("", text.lstrip("\ufeff"), count=1).strip()), encoding
