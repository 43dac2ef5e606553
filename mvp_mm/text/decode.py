"""Texts of unknown encoding."""

import json


def encoding_of(start: bytes) -> str | None:
    """Return the encoding that the first bytes of a text show by a byte-order mark or by zeros, or None."""
    encoding = json.detect_encoding(start)  # zeros: if it begins with a Latin letter
    return None if encoding == 'utf-8' else encoding


def decode_text(content: bytes) -> str:
    """Decode a short text: by its byte-order mark, as UTF-8, or else as Windows-1252."""
    encoding = encoding_of(content)
    if encoding is None:
        try:
            return content.decode('utf-8')
        except UnicodeDecodeError:
            encoding = 'cp1252'
    return content.decode(encoding, errors='replace')
