import codecs

import pytest

from mvp_mm.text.decode import decode_text, encoding_of

TEXT = 'Ein Fuß, 犬 und ☃'


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be', 'utf-32'])
def test_unicode(encoding):
    assert decode_text(TEXT.encode(encoding)) == TEXT


def test_marks():
    assert decode_text(codecs.BOM_UTF16_BE + TEXT.encode('utf-16-be')) == TEXT
    assert decode_text(codecs.BOM_UTF32_BE + TEXT.encode('utf-32-be')) == TEXT
    assert encoding_of(b'plain') is None and encoding_of(b'') is None


def test_no_unicode():
    assert decode_text('Fuß – “café”'.encode('cp1252')) == 'Fuß – “café”'
    assert decode_text(b'\x81\xff') == '\ufffdÿ'  # never an error
