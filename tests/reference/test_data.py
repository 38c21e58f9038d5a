import string

import pytest

from reference.data import MAX_CHARACTERS, DataError, load_documents
from reference.microgpt import Tokenizer


@pytest.fixture
def load_bytes(tmp_path):
    def load(content):
        path = tmp_path / "names.txt"
        path.write_bytes(content)
        return load_documents(path)

    return load


def assert_is_one_sentence_about(error, path):
    message = str(error.value)
    assert message.startswith((f"There is no file {path}", str(path)))
    assert message.endswith(".")
    assert "\n" not in message
    assert "Errno" not in message


def test_embedded_names_are_a_few_hundred_distinct_ones_of_26_letters():
    docs = load_documents()
    assert 200 <= len(docs) < 1000
    assert len(set(docs)) == len(docs)
    assert "".join(Tokenizer(docs).chars) == string.ascii_lowercase


@pytest.mark.parametrize("as_path", [str, lambda path: path], ids=["str", "Path"])
def test_each_line_is_a_document(tmp_path, as_path):
    path = tmp_path / "names.txt"
    path.write_text("emma\nava\n")
    assert load_documents(as_path(path)) == ["emma", "ava"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"emma\nava", ["emma", "ava"]),
        (b"\xef\xbb\xbfemma\nava\n", ["emma", "ava"]),
        (b"\n\nemma\n \t\nava\n\n", ["emma", "ava"]),
        (b"emma\r\nava\r\n", ["emma", "ava"]),
        (b"  emma \n\tava\n", ["emma", "ava"]),
        (b"anna maria\nava\n", ["anna maria", "ava"]),
        ("zoë\nзоя\n".encode(), ["zoë", "зоя"]),
        (b"ava\nava\n", ["ava", "ava"]),
    ],
    ids=["no last newline", "BOM", "blank lines", "CRLF", "spaces around", "space within", "not ASCII", "twice"],
)
def test_documents_are_lines_without_surrounding_white_space(load_bytes, content, expected):
    assert load_bytes(content) == expected


def test_real_names_load(names_file):
    assert len(load_documents(names_file)) == 32033


def test_missing_file_is_named(tmp_path):
    path = tmp_path / "absent.txt"
    with pytest.raises(DataError, match="There is no file") as error:
        load_documents(path)
    assert_is_one_sentence_about(error, path)


def test_directory_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read") as error:
        load_documents(tmp_path)
    assert_is_one_sentence_about(error, tmp_path)


def test_file_below_a_file_is_refused(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("emma\n")
    with pytest.raises(DataError, match="cannot be read") as error:
        load_documents(path / "more.txt")
    assert_is_one_sentence_about(error, path / "more.txt")


def test_name_with_a_null_character_is_refused():
    with pytest.raises(DataError, match="cannot be read"):
        load_documents("names\0.txt")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "holds no documents"),
        (b" \n\t\r\n\n", "holds no documents"),
        (b"\xef\xbb\xbf", "holds no documents"),
        (b"emma\0ava\n", "binary data"),
        (b"emma\n\xff\xfe\xfa", "not UTF-8 text"),
        ("emma\nava\n".encode("utf-16"), "not UTF-8 text"),
        ("zoë".encode("latin-1"), "not UTF-8 text"),
    ],
    ids=["empty", "white space", "BOM alone", "NUL", "not UTF-8", "UTF-16", "Latin-1"],
)
def test_unusable_file_is_refused(tmp_path, load_bytes, content, expected):
    with pytest.raises(DataError, match=expected) as error:
        load_bytes(content)
    assert_is_one_sentence_about(error, tmp_path / "names.txt")


def test_vocabulary_of_thousands_is_refused(tmp_path, load_bytes):
    first = ord("一")
    characters = "".join(chr(first + i) for i in range(MAX_CHARACTERS + 1))
    assert load_bytes(characters[:-1].encode()) == [characters[:-1]]
    with pytest.raises(DataError, match=f"has {MAX_CHARACTERS + 1} distinct characters") as error:
        load_bytes(characters.encode())
    assert_is_one_sentence_about(error, tmp_path / "names.txt")
