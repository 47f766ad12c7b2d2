"""What the types for input take, mend and refuse, without a server."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    create_model,
)

from mongopatterns import CleanText, ObjectIdStr, SafeName, UsageError
from mongopatterns.expressions import check_document, check_path

TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
any_text = st.text(st.characters())  # halves of surrogate pairs included


class Note(BaseModel):
    title: Annotated[str, CleanText(max_length=10, min_length=1)]
    body: Annotated[str, CleanText(max_length=100, multiline=True)] = ""
    room: SafeName = "x"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("  Ann  ", "Ann"),
        ("A\0n\x07n\x7f\x9f", "Ann"),
        ("Ann\nBob", "Ann Bob"),
        ("Ann\r\n\t Bob", "Ann  Bob"),
        ("a\u2028b\u2029c\x85d", "a b c d"),
        ("evil\u202egpj.exe\u2066", "evilgpj.exe"),
        ("\ufeffa\ud800b\udc00", "ab"),
        ("👩‍👩‍👧 ok", "👩‍👩‍👧 ok"),
        ("שלום\u200f!", "שלום\u200f!"),
        ("<b>", "<b>"),
        ("e\u0301", "e\u0301"),
    ],
)
def test_text_is_cleaned(given_text: str, kept: str) -> None:
    """Controls, halves of pairs, marks of order and turns go; breaks become a space; letters, HTML and emoji stay."""
    assert CleanText(max_length=99)(given_text) == kept


def test_text_of_several_lines_keeps_them() -> None:
    """With multiline, breaks of every kind are one newline each, and tabs stay; other controls go."""
    clean = CleanText(max_length=99, multiline=True)
    assert clean("\n a\r\nb\rc\u2028d\x0be\tf\0\n\n") == "a\nb\nc\nd\ne\tf"


def test_lengths_are_those_of_what_is_left() -> None:
    """What is cleaned away does not count; characters do, not bytes."""
    assert Note(title="\0" * 50 + "0123456789").title == "0123456789"
    assert Note(title="😀" * 10).title == "😀" * 10
    for bad in ("0123456789x", "", " \n\0 "):
        with pytest.raises(ValidationError, match="String should have at"):
            Note(title=bad)


@pytest.mark.parametrize("bad", [b"bytes", 5, None, ["x"], {"$gt": ""}])
def test_what_is_no_text_is_refused(bad: Any) -> None:
    """Nothing but text is text: no bytes, which would not be cleaned, and no operator."""
    for annotation in (Annotated[str, CleanText(max_length=9)], SafeName):
        with pytest.raises(ValidationError):
            TypeAdapter(annotation).validate_python(bad)


def test_what_is_no_text_is_refused_however_lax_the_field_is() -> None:
    """Strict(False) after it does not let bytes through, which would be read as text without being cleaned."""
    adapter: Any = TypeAdapter(Annotated[str, CleanText(max_length=9), Strict(False)])
    with pytest.raises(ValidationError, match="valid string"):
        adapter.validate_python(b"a\0")
    assert adapter.validate_python("a\0") == "a"


def test_its_place_is_told_where_another_validator_stands_before_it() -> None:
    """The message is about the order, and not about the type."""
    for before in (AfterValidator(str.upper), BeforeValidator(str), CleanText(max_length=9)):
        with pytest.raises(UsageError, match="stands directly after the type"):
            TypeAdapter(Annotated[str, before, CleanText(max_length=2)])


@pytest.mark.parametrize("multiline", [False, True])
def test_every_character_is_dropped_kept_or_a_break(multiline: bool) -> None:
    """Of all of Unicode controls, halves of pairs, turns and marks of order go; breaks are mended; the rest stays."""
    clean = CleanText(max_length=9, multiline=multiline)
    for code in range(0x110000):
        character = chr(code)
        if character in "\t\n\r\x0b\x0c\x85\u2028\u2029":
            expected = ("\t" if character == "\t" else "\n") if multiline else " "
        else:
            gone = unicodedata.category(character) in ("Cc", "Cs") or character in f"{TURNS}\ufeff"
            expected = "" if gone else character
        assert clean(f"a{character}b") == f"a{expected}b"


@given(any_text, st.booleans())
def test_clean_text_is_clean_and_can_be_stored(text: str, multiline: bool) -> None:
    """Whatever is given, what is left can be stored, holds no control, and is not changed when it is cleaned again."""
    clean = CleanText(max_length=1000, multiline=multiline)
    left = clean(text)
    bson.encode({"": left})
    assert clean(left) == left
    assert not any(character < " " and character not in "\n\t" * multiline for character in left)
    taken = TypeAdapter(Annotated[str, clean]).validate_python(text)
    assert taken == left
    assert type(taken) is str


def test_bounds_of_a_field_add_to_those_of_the_type() -> None:
    """Whatever stands before CleanText in an annotation holds as well, and the narrower bound wins."""
    adapter: Any = TypeAdapter(
        Annotated[str, Field(max_length=3, min_length=2, pattern="^a"), CleanText(max_length=9, min_length=1)]
    )
    assert adapter.validate_python(" a\0b ") == "ab"
    for bad in ("abcd", "a", "bb"):
        with pytest.raises(ValidationError):
            adapter.validate_python(bad)


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("max_length", lambda: CleanText(max_length=0)),
        ("max_length", lambda: CleanText(max_length=True)),
        ("max_length", lambda: CleanText(max_length=2.0)),  # type: ignore[arg-type]
        ("max_length", lambda: CleanText(max_length=2, min_length=3)),
        ("min_length", lambda: CleanText(max_length=2, min_length=-1)),
        ("CleanText", lambda: TypeAdapter(Annotated[int, CleanText(max_length=2)])),
        ("CleanText", lambda: TypeAdapter(Annotated[str | None, CleanText(max_length=2)])),
    ],
)
def test_a_type_that_cannot_work_is_refused(argument: str, make: Any) -> None:
    """Lengths that are none, and annotations of what is no text, are refused when the model is made."""
    with pytest.raises(UsageError) as refused:
        make()
    assert refused.value.argument == argument


@pytest.mark.parametrize("name", ["a", "é", "👍", "a b", "_id", "0", "a$b", "x" * 120, "-", "__proto__"])
def test_names_that_are_safe_are_taken_as_they_are(name: str) -> None:
    """A name is not changed."""
    assert Note(title="t", room=name).room == name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["", "$a", "$", "a.b", ".", "a\0", "\0", "a\n", "\na", "\x7f", "a\x85", "x" * 121, "$where", "a\r", "\ud800"],
)
def test_names_that_are_not_safe_are_refused(name: str) -> None:
    """Operators, paths, controls, halves of pairs, and what is empty or too long."""
    with pytest.raises(ValidationError):
        Note(title="t", room=name)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["rust-regex", "python-re"])
def test_a_newline_at_the_end_is_refused_by_every_engine(engine: Any) -> None:
    """The end of a name or of an ObjectId is its last character, also where the model chose Python's expressions."""
    given_engine = ConfigDict(regex_engine=engine)
    model = create_model("M", __config__=given_engine, name=(SafeName, "a"), owner=(ObjectIdStr, "0" * 24))
    for bad in ({"name": "a\n"}, {"owner": "a" * 24 + "\n"}):
        with pytest.raises(ValidationError):
            model(**bad)


@given(any_text)
def test_a_name_that_is_taken_is_a_field_name_and_one_part_of_a_path(text: str) -> None:
    """Whatever a SafeName takes, the package and the server take as a name, as one part of a path, and as text."""
    try:
        name = TypeAdapter(SafeName).validate_python(text)
    except ValidationError:
        return
    assert check_document("", {name: 1}) == {name: 1}
    assert check_path("", f"a.{name}") == f"a.{name}"
    bson.encode({name: name})


def test_a_name_can_be_shorter() -> None:
    """A bound of a field makes a name shorter than 120 characters."""
    adapter: Any = TypeAdapter(Annotated[SafeName, Field(max_length=3)])
    assert adapter.validate_python("abc") == "abc"
    with pytest.raises(ValidationError):
        adapter.validate_python("abcd")


def test_the_types_say_in_openapi_what_they_are() -> None:
    """The JSON schema has the lengths and the pattern, when a document is read and when it is written."""
    for mode in ("validation", "serialization"):
        properties = Note.model_json_schema(mode=mode)["properties"]  # type: ignore[arg-type]
        assert properties["title"] == {"maxLength": 10, "minLength": 1, "title": "Title", "type": "string"}
        assert properties["body"]["maxLength"] == 100
        assert properties["room"]["pattern"] == r"^[^$.\x00-\x1f\x7f-\x9f][^.\x00-\x1f\x7f-\x9f]*$"
        assert (properties["room"]["minLength"], properties["room"]["maxLength"]) == (1, 120)
