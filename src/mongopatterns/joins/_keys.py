"""The keys that a join compares: read from a document in memory, and by the server. Pure.

A path may lead through lists, and may end in one. The rule is the server's own for queries: on the way, a list is
entered one level, and only its documents are; what the path leads to are its *leaves*. A parent asks for its
leaves, and for the items of those that are lists instead of these. A joined document is found by its leaves, and by
the items of those that are lists. null, what is missing and MinKey are no keys.

What a parent asks for exists twice, as Python and as an expression: a join that is batched reads keys in memory, one
that is looked up reads them on the server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import is_not
from typing import Any, Final, Literal, TypeAlias

from bson import Code, DBRef, Int64, MinKey, ObjectId, Regex, encode
from bson.codec_options import CodecOptions

from mongopatterns.expressions import ANY_UUID, bson_identity
from mongopatterns.paths import Leaves, as_list, flat, leaves_expression

KeyForm: TypeAlias = Literal["string", "objectid"]

NO_KEYS: Final = [MinKey()]
"""What the server looks for on behalf of a parent without keys; an empty list would find what has no value."""

_SIMPLE: Final = frozenset({str, ObjectId, int, Int64, type(None)})
"""Types whose values are their own identity (see `bson_identity`), None aside: what nearly every key is."""

_HEX: Final = re.compile("[0-9a-fA-F]{24}")


# In memory ---------------------------------------------------------------------------------------------------


class _Several(list[Any]):
    """The identities of several keys, as opposed to that of one."""


@dataclass(frozen=True)
class Chunk:
    """What a stretch of parents asks for in one command.

    Attributes:
        start: The place of the first parent.
        stop: The place behind the last.
        wanted: For each parent the identity of its key; `_Several` of them; or None if it has no key.
        keys: The distinct keys of all.
        single: Whether nobody asks for several.
    """

    start: int
    stop: int
    wanted: list[Any]
    keys: list[Any]
    single: bool

    @property
    def shared(self) -> bool:
        """Whether a joined document may belong to several parents."""
        return not self.single or len(self.keys) < sum(map(is_not, self.wanted, repeat(None)))


class Asked:
    """What each of many parents asks for.

    Args:
        wanted: As that of a `Chunk`.
        keys: The distinct keys, by their identity.
        single: Whether nobody asks for several.
    """

    def __init__(self, wanted: list[Any], keys: Mapping[Any, Any], *, single: bool) -> None:
        self._wanted = wanted
        self._keys = keys
        self._single = single

    @classmethod
    def of(cls, values: list[Any], form: KeyForm | None, codec_options: CodecOptions[Any]) -> Asked:
        """Read what parents ask for from the values at the joins' path."""
        if form is None and is_simple(values):
            keys = dict(zip(values, values, strict=True))
            keys.pop(None, None)
            return cls(values, keys, single=True)
        return cls.listed([_keys_in(value, form) for value in values], codec_options)

    @classmethod
    def listed(cls, lists: Iterable[Sequence[Any]], codec_options: CodecOptions[Any]) -> Asked:
        """Take the keys of each parent."""
        wanted: list[Any] = []
        keys: dict[Any, Any] = {}
        for asked in lists:
            identities = _Several(bson_identity(key, codec_options) for key in asked)
            keys.update(zip(identities, asked, strict=True))
            wanted.append(identities if len(identities) > 1 else identities[0] if identities else None)
        return cls(wanted, keys, single=not any(type(one) is _Several for one in wanted))

    def chunks(self, most: int, most_bytes: int) -> Iterator[Chunk]:
        """Cut the parents into stretches whose keys fit into one command; a parent's own are never parted.

        Args:
            most: How many keys a command has at most.
            most_bytes: How many bytes they have at most.

        Yields:
            The stretches, of all parents together; none if nobody asks for anything.
        """
        if not self._keys:
            return
        if len(self._keys) <= most and _size(self._keys.values()) <= most_bytes:
            yield self._chunk(0, len(self._wanted), self._keys)
            return
        start, size = 0, 0
        chunk: dict[Any, Any] = {}
        for place, wanted in enumerate(self._wanted):
            identities = wanted if type(wanted) is _Several else () if wanted is None else (wanted,)
            new = {identity: self._keys[identity] for identity in identities if identity not in chunk}
            weight = _size(new.values())
            if chunk and (len(chunk) + len(new) > most or size + weight > most_bytes):
                yield self._chunk(start, place, chunk)
                start, chunk = place, {identity: self._keys[identity] for identity in identities}
                size = _size(chunk.values())
            else:
                size += weight
                chunk.update(new)
        yield self._chunk(start, len(self._wanted), chunk)

    def _chunk(self, start: int, stop: int, keys: Mapping[Any, Any]) -> Chunk:
        return Chunk(start, stop, self._wanted[start:stop], list(keys.values()), self._single)


def places_of(wanted: Iterable[Any], places: Mapping[Any, list[int]]) -> Iterator[Sequence[int]]:
    """Give for each parent where what it asks for is, in order."""
    for one in wanted:
        if type(one) is _Several:
            yield sorted({place for identity in one for place in places.get(identity, ())})
        else:
            yield places.get(one, ())


def found_by(values: Iterable[Any], codec_options: CodecOptions[Any]) -> dict[Any, list[int]]:
    """Say of each key where the documents are that it finds, given their values or `Leaves` at the path."""
    places: dict[Any, list[int]] = {}
    for place, value in enumerate(values):
        found = value if type(value) is Leaves else (value,)
        for identity in {bson_identity(key, codec_options) for key in values_of(found) if key is not None}:
            places.setdefault(identity, []).append(place)
    return places


def is_simple(values: Iterable[Any]) -> bool:
    """Tell whether all values are their own identity, or None."""
    return _SIMPLE.issuperset(map(type, values))


def values_of(found: Iterable[Any]) -> list[Any]:
    """Return what a document is found by, given its leaves."""
    return [value for leaf in found for value in ((leaf, *leaf) if isinstance(leaf, list) else (leaf,))]


def match(path: str, keys: Iterable[Any]) -> dict[str, Any]:
    """Build the filter for documents that have one of the keys at a path."""
    keys = list(keys)
    if is_simple(keys):
        return {path: {"$in": keys}}
    # In a list a pattern would be run, and the server refuses a document that looks like an operator.
    apart = [key for key in keys if _is_syntax(key)]
    several = {path: {"$in": [key for key in keys if not _is_syntax(key)]}}
    return {"$or": [several, *({path: {"$eq": key}} for key in apart)]} if apart else several


def _is_syntax(key: object) -> bool:
    if isinstance(key, Mapping):
        return str(next(iter(key), "")).startswith("$")
    return isinstance(key, (Regex, DBRef))


def _keys_in(value: Any, form: KeyForm | None) -> list[Any]:
    """Return what a parent asks for, given its value, or its leaves."""
    found = value if type(value) is Leaves else (value,)
    keys = [item for leaf in found for item in (leaf if isinstance(leaf, list) else (leaf,))]
    if form is not None:
        keys = [_FORMS[form](key) for key in keys]
    return [key for key in keys if key is not None and not isinstance(key, MinKey)]


def _size(keys: Collection[Any]) -> int:
    """Tell how many bytes keys take in a list, or a few more."""
    kinds = set(map(type, keys))
    if kinds <= {str}:
        return 16 * len(keys) + 4 * sum(map(len, keys))
    if kinds <= _SIMPLE and str not in kinds:
        return 32 * len(keys)
    return sum(16 + len(encode({"": key}, codec_options=ANY_UUID)) for key in keys)


def _as_text(key: Any) -> str | None:
    if isinstance(key, (bool, Code)):  # (an int and a str to Python)
        return None
    return str(key) if isinstance(key, (str, ObjectId, int)) else None


def _as_object_id(key: Any) -> ObjectId | None:
    if isinstance(key, str) and not isinstance(key, Code):
        return ObjectId(key) if _HEX.fullmatch(key) else None
    return key if isinstance(key, ObjectId) else None


_FORMS: Final[Mapping[KeyForm, Callable[[Any], Any]]] = {"string": _as_text, "objectid": _as_object_id}


# On the server -----------------------------------------------------------------------------------------------


def keys_expression(path: str, form: KeyForm | None) -> dict[str, Any]:
    """Build the list of what a parent asks for; `NO_KEYS` if there is nothing."""
    found = as_list(f"${path}") if "." not in path else flat(leaves_expression(path))
    if form is not None:
        found = {"$map": {"input": found, "in": _FORM_EXPRESSIONS[form]}}
    # (only missing values, null and MinKey sort up to null)
    keys = {"$filter": {"input": found, "cond": {"$gt": ["$$this", None]}}}
    return {"$let": {"vars": {"keys": keys}, "in": {"$cond": [{"$eq": ["$$keys", []]}, NO_KEYS, "$$keys"]}}}


def key_expression(path: str, form: KeyForm | None) -> dict[str, Any]:
    """Build the same, of a plain path to a single key the key itself: that is quicker."""
    keys = keys_expression(path, form)
    if "." in path or form is not None:
        return keys
    return {"$cond": [{"$isArray": f"${path}"}, keys, {"$cond": [{"$gt": [f"${path}", None]}, f"${path}", NO_KEYS]}]}


_FORM_EXPRESSIONS: Final[Mapping[KeyForm, Any]] = {
    "string": {
        "$cond": [{"$in": [{"$type": "$$this"}, ["string", "objectId", "int", "long"]]}, {"$toString": "$$this"}, None]
    },
    "objectid": {"$convert": {"input": "$$this", "to": "objectId", "onError": None, "onNull": None}},
}
