"""Texts of unknown encoding."""

import codecs

# The longer mark first: UTF-32's begins with UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, 'utf-8-sig'),
    (codecs.BOM_UTF32_LE, 'utf-32'),
    (codecs.BOM_UTF32_BE, 'utf-32'),
    (codecs.BOM_UTF16_LE, 'utf-16'),
    (codecs.BOM_UTF16_BE, 'utf-16'),
)


def encoding_of(start: bytes) -> str | None:
    """Return the encoding that the first bytes of a text show by a byte-order mark or by zeros, or None."""
    if start[:2].isascii() and b'\0' not in start[:2]:
        return None
    for mark, encoding in MARKS:
        if start.startswith(mark):
            return encoding
    zeros = start[:2].find(b'\0')  # of a text that begins with a Latin letter, as most do
    return None if zeros < 0 else ('utf-16-be', 'utf-16-le')[zeros]


def decode_text(content: bytes) -> str:
    """Decode a short text: by its byte-order mark, as UTF-8, or else as Windows-1252."""
    encoding = encoding_of(content)
    if encoding is None:
        try:
            return content.decode('utf-8')
        except UnicodeDecodeError:
            encoding = 'cp1252'
    return content.decode(encoding, errors='replace')
