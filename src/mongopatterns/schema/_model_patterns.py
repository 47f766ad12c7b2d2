r"""Regular expressions of models as the server runs them. Pure.

Pydantic's engine (that of Rust, or Python's `re`) and the server's (PCRE) differ: `\d` takes digits of every script in
the first and those of ASCII in the other, `\u00e9` is a letter here and an error there, and the server gives up on
repeated groups in long text. So a pattern is not handed over: it is read, and written again so that whatever the model
takes, the server takes. What cannot be written so is left out, with the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["Pattern", "server_pattern"]

# A repeated group was given up on by MongoDB 6.0 from 2,000 characters on, whether it matched or not.
LONGEST_FOR_GROUPS: Final = 1000
# Beyond this a repetition, or what repetitions within each other come to, is "too large" for the server.
_MOST_REPEATS: Final = 65535
_LARGEST: Final = 500

# What a class stands for at least, in every engine, and what it may stand for besides: only ASCII is the same in all,
# and of that not the separators U+001C to U+001F, which are white space to Python.
_CLASSES: Final = {
    "d": "0-9",
    "w": "0-9A-Za-z_",
    "s": r"\x{9}-\x{D}\x{20}",
    "D": r"\x{0}-\x{2F}\x{3A}-\x{7F}",
    "W": r"\x{0}-\x{2F}\x{3A}-\x{40}\x{5B}-\x{5E}\x{60}\x{7B}-\x{7F}",
    "S": r"\x{0}-\x{8}\x{E}-\x{1B}\x{21}-\x{7F}",
}
_BESIDES: Final = dict.fromkeys(_CLASSES, r"\x{80}-\x{10FFFF}") | dict.fromkeys("sS", r"\x{1C}-\x{1F}\x{80}-\x{10FFFF}")
_CONTROLS: Final = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "a": 7}
_SPECIAL: Final = frozenset(r"\.^$|?*+()[]{}")
_SPECIAL_IN_CLASS: Final = frozenset(r"\^[]-&~")
_QUANTIFIER: Final = re.compile(r"\*|\+|\?|\{(\d*)(,?)(\d*)\}")
_CODE: Final = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|[xuU]\{([0-9A-Fa-f]{1,6})\}")
_GROUP: Final = re.compile(r"\?:|\?P?<[A-Za-z_]\w*>")
_LAST: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)

Item: TypeAlias = tuple[Literal["code"], int] | tuple[Literal["class"], str]


class _Unwritable(Exception):
    """Say why a pattern cannot be written for the server."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern for the server.

    Attributes:
        text: The pattern; None: there is none that takes all that the model takes.
        reason: Why there is none, or what it takes besides; empty if nothing is to be said.
    """

    text: str | None
    reason: str = ""


def server_pattern(pattern: object, longest: int | None, *, python: bool = False) -> Pattern:
    """Write a model's pattern for the server.

    Args:
        pattern: Text, or a compiled pattern.
        longest: How many characters the text has at most; None: any number.
        python: Whether text is read as Python reads it, where `$` takes a newline at the end; a compiled pattern is.
    """
    python = python or isinstance(pattern, re.Pattern)
    flags = pattern.flags & ~re.UNICODE if isinstance(pattern, re.Pattern) else 0
    text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    if not isinstance(text, str) or flags:
        return Pattern(None, "it has flags")
    reader = _Reader(text, groups=longest is not None and longest <= LONGEST_FOR_GROUPS, python=python)
    try:
        written = reader.whole()
    except _Unwritable as reason:
        return Pattern(None, str(reason))
    return Pattern(
        written, "of a class such as \\d or \\w, it takes every character beyond ASCII" if reader.loosened else ""
    )


@dataclass(slots=True)
class _Part:
    """A part of a pattern as it is written, how large it is to the server, and whether it is repeated without end."""

    text: str
    size: int = 1
    endless: bool = False
    kind: Literal["character", "group", "place"] = "character"


class _Reader:
    """Reads a pattern from left to right."""

    def __init__(self, text: str, *, groups: bool, python: bool) -> None:
        self.loosened = False
        self._text = text
        self._at = 0
        self._groups = groups
        self._end = "$" if python else r"\z"

    def whole(self) -> str:
        part = self._alternatives()
        if self._at < len(self._text):
            raise _Unwritable("a bracket is closed that was not opened")
        return part.text

    def _alternatives(self) -> _Part:
        parts = [self._sequence()]
        while self._took("|"):
            parts.append(self._sequence())
        return _Part(
            "|".join(part.text for part in parts), sum(part.size for part in parts), any(part.endless for part in parts)
        )

    def _sequence(self) -> _Part:
        whole = _Part("", 0)
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            part = self._repeated(self._atom())
            whole.text += part.text
            whole.size += part.size
            whole.endless |= part.endless
        if whole.size > _LARGEST:
            raise _Unwritable("it is too large for the server")
        return whole

    def _repeated(self, part: _Part) -> _Part:
        found = _QUANTIFIER.match(self._text, self._at)
        if not found:
            return part
        self._at = found.end()
        sign = found[0]
        least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(sign, (0, 0))
        if sign.startswith("{"):
            if not (found[1] or found[3]):
                raise _Unwritable("it has a brace that repeats nothing")
            least = int(found[1] or 0)
            most = (int(found[3]) if found[3] else None) if found[2] else least
        self._took("?")  # (whether a repetition is greedy changes what is found, not whether)
        if part.kind == "place" or self._text[self._at : self._at + 1] in ("*", "+"):
            raise _Unwritable("it repeats what cannot be repeated, or without going back")
        if max(least, most or 0) > _MOST_REPEATS:
            raise _Unwritable("it is too large for the server")
        if part.kind == "group" and most != 1:
            if part.endless:
                raise _Unwritable("it repeats a group that repeats, and the server may give up on it")
            if most is None and not self._groups:
                bound = f"the text has no max_length of {LONGEST_FOR_GROUPS} or less"
                raise _Unwritable(f"it repeats a group, which the server gives up on in long text, and {bound}")
        times = 1 if part.kind == "character" else max(least, most or 1, 1)
        if sign.startswith("{"):
            sign = f"{{{least}}}" if least == most else f"{{{least},{'' if most is None else most}}}"
        return _Part(f"{part.text}{sign}", part.size * times, part.endless or most is None)

    def _atom(self) -> _Part:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return _Part(self._class())
        if character == "\\":
            return self._escape()
        if character == ".":
            return _Part(r"[^\x{A}]")
        if character in "^$":
            return _Part("^" if character == "^" else self._end, kind="place")
        if character in "*+?{":
            raise _Unwritable("it repeats nothing")
        return _Part(_written(ord(character)))

    def _group(self) -> _Part:
        if found := _GROUP.match(self._text, self._at):
            self._at = found.end()
        elif self._text.startswith("?", self._at):
            raise _Unwritable("it looks around, or has flags")
        inner = self._alternatives()
        if not self._took(")"):
            raise _Unwritable("a bracket is not closed")
        return _Part(f"(?:{inner.text})", inner.size, inner.endless, "group")

    def _escape(self) -> _Part:
        name = self._text[self._at : self._at + 1]
        if name in ("b", "B"):  # what a word is differs: it is taken to be everywhere
            self._at += 1
            self.loosened = True
            return _Part("", 0, kind="place")
        if name in ("A", "z", "Z"):
            self._at += 1
            return _Part("^" if name == "A" else r"\z", kind="place")
        kind, value = self._escaped()
        return _Part(f"[{self._meant(str(value))}]" if kind == "class" else _written(int(value)))

    def _escaped(self) -> Item:
        if found := _CODE.match(self._text, self._at):
            self._at = found.end()
            code = int(next(digits for digits in found.groups() if digits), 16)
            if code > _LAST:
                raise _Unwritable("it names a character that there is not")
            return "code", code
        name = self._next()
        if name in _CLASSES:
            return "class", name
        if name in _CONTROLS:
            return "code", _CONTROLS[name]
        if (name.isascii() and name.isalnum()) or name in "<>":
            raise _Unwritable(f"\\{name} means something else to the server, or nothing")
        return "code", ord(name)

    def _meant(self, name: str, *, negated: bool = False) -> str:
        """Write a class: all that it may stand for, or, of one that is excluded, what it certainly stands for."""
        self.loosened = True
        return _CLASSES[name] + ("" if negated else _BESIDES[name])

    def _class(self) -> str:
        negated = self._took("^")
        written = ""
        first = True
        while first or not self._took("]"):
            first = False
            item = self._class_item()
            if item[0] == "class":
                written += self._meant(item[1], negated=negated)
            elif self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                if self._text.startswith("-", self._at):
                    raise _Unwritable("it has a class within a class")
                end = self._class_item()
                if end[0] == "class" or end[1] < item[1]:
                    raise _Unwritable("it has a range without an end")
                written += f"{_written(item[1], _SPECIAL_IN_CLASS)}-{_written(end[1], _SPECIAL_IN_CLASS)}"
            else:
                written += _written(item[1], _SPECIAL_IN_CLASS)
        return f"[^{written}]" if negated else f"[{written}]"

    def _class_item(self) -> Item:
        character = self._next()
        if character == "\\":
            return self._escaped()
        if character == "[" or self._text[self._at - 1 : self._at + 1] in ("&&", "--", "~~"):
            raise _Unwritable("it has a class within a class")
        return "code", ord(character)

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise _Unwritable("it ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _took(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        return True


def _written(code: int, special: frozenset[str] = _SPECIAL) -> str:
    if code in _SURROGATES:
        raise _Unwritable("it names a character that there is not")
    character = chr(code)
    if character in special:
        return f"\\{character}"
    return character if character.isprintable() and not character.isspace() else f"\\x{{{code:X}}}"
