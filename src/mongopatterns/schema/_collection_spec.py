"""What a collection should be: its options and its indexes, and the specs of a whole database together. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

from mongopatterns.errors import UsageError
from mongopatterns.expressions import check_document, check_path, copied
from mongopatterns.indexes import Index, check_collation, whole_seconds
from mongopatterns.schema._refusals import refusals
from mongopatterns.schema._validator import Validator
from mongopatterns.specs import check_collection

__all__ = ["CollectionSpec", "SchemaSpec", "SearchIndex", "TimeSeries"]

Granularity: TypeAlias = Literal["seconds", "minutes", "hours"]

_OWN_OPTIONS: Final = (
    "capped",
    "changeStreamPreAndPostImages",
    "clusteredIndex",
    "collation",
    "comment",
    "create",
    "expireAfterSeconds",
    "max",
    "pipeline",
    "size",
    "timeseries",
    "validationAction",
    "validationLevel",
    "validator",
    "viewOn",
    "writeConcern",
)
# What is created so, and then cannot be compared.
_UNTOLD: Final = ("flags", "idIndex")
# What can be said of a collection once.
_SINGLE: Final = (
    "validator",
    "timeseries",
    "collation",
    "capped_size",
    "capped_max",
    "clustered",
    "expire_after",
    "pre_and_post_images",
)


class NeedsIndexes(Protocol):
    """The spec of a pattern: it names a collection, and the indexes that it needs there or, by name, elsewhere."""

    @property
    def collection(self) -> str:
        """The collection's name."""
        ...

    def indexes(self) -> tuple[Index, ...] | dict[str, tuple[Index, ...]]:
        """Return the indexes that must exist."""
        ...


# Collections ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TimeSeries:
    """Say that a collection holds measurements over time.

    The server stores them by series and span of time, and takes no updates of single measurements, no unique index, no
    validator, no change stream, and nothing in transactions.

    Attributes:
        time: The top-level field that holds the date of a measurement.
        meta: The top-level field that tells series apart; None: all is one series.
        granularity: About how far apart the measurements of one series are. It can be made coarser later, not finer.
            None: as it is; in a new collection, seconds.
        expire_after: How long after their date measurements are deleted. None: as it is; in a new collection, never.

    Raises:
        UsageError: If a value is none, or the server refuses it.
    """

    time: str
    meta: str | None = None
    granularity: Granularity | None = None
    expire_after: dt.timedelta | int | None = None

    def __post_init__(self) -> None:
        for argument, path in (("time", self.time), ("meta", self.meta)):
            if path is not None:
                check_path(f"TimeSeries.{argument}", path)
                if "." in path:
                    raise UsageError(f"TimeSeries.{argument}", f"{path!r} must be a top-level field, without a dot")
        if self.meta in ("_id", self.time):
            raise UsageError("TimeSeries.meta", f"{self.meta!r} cannot tell series apart: use a field of its own")
        if self.granularity not in (None, *get_args(Granularity)):
            problem = f"expected 'seconds', 'minutes' or 'hours', got {self.granularity!r:.100}"
            raise UsageError("TimeSeries.granularity", problem)
        if self.expire_after is not None:
            whole_seconds("TimeSeries", "expire_after", self.expire_after)

    @property
    def seconds(self) -> int | None:
        """After how many seconds measurements are deleted."""
        return None if self.expire_after is None else whole_seconds("TimeSeries", "expire_after", self.expire_after)


@dataclass(frozen=True)
class SearchIndex:
    """Name an index of Atlas Search, or of its vector search.

    Where the server has no such search, a plan says so in its findings, and changes nothing.

    Attributes:
        name: Its name, by which it is known: unlike others, search indexes have nothing else to be told apart by.
        definition: As Atlas takes it, such as `{"mappings": {"dynamic": True}}`.
        type: `"search"` or `"vectorSearch"`.
    """

    name: str = "default"
    definition: Mapping[str, Any] = field(default_factory=lambda: {"mappings": {"dynamic": True}}, hash=False)
    type: Literal["search", "vectorSearch"] = "search"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise UsageError("SearchIndex.name", f"expected text, got {self.name!r:.100}")
        if not isinstance(self.definition, Mapping):
            raise UsageError("SearchIndex.definition", f"expected a dict, got {self.definition!r:.100}")
        if self.type not in ("search", "vectorSearch"):
            raise UsageError("SearchIndex.type", f"expected 'search' or 'vectorSearch', got {self.type!r:.100}")
        object.__setattr__(self, "definition", copied(self.definition))


@dataclass(frozen=True)
class CollectionSpec:
    """Define what a collection should be.

    What is not said is left as it is found: a validator that the spec does not name stays.

    Attributes:
        collection: The collection's name.
        indexes: The indexes, beside that of `_id`.
        validator: What its documents must be.
        timeseries: That it holds measurements over time.
        collation: How it compares text, where a query or an index says nothing else. It cannot be changed later.
        capped_size: Bytes after which the oldest documents make room for new ones.
        capped_max: Documents after which they do; it needs `capped_size`.
        clustered: Whether documents are stored in the order of `_id`, without an index of their own for it. It cannot
            be changed later.
        expire_after: With `clustered`, how long after the date in `_id` a document is deleted. None: as it is; in a new
            collection, never.
        pre_and_post_images: Whether change streams may ask for documents as they were before a change; needs 6.0.
        search_indexes: Indexes of Atlas Search.
        options: Other options, as the server's `create` takes them. They are used when the collection is created, and
            cannot be changed later.

    Raises:
        UsageError: If a value is none, the server refuses some together, or two indexes contradict each other.
    """

    collection: str
    _: KW_ONLY
    indexes: Sequence[Index] = ()
    validator: Validator | None = None
    timeseries: TimeSeries | None = None
    collation: Mapping[str, Any] | None = field(default=None, hash=False)
    capped_size: int | None = None
    capped_max: int | None = None
    clustered: bool = False
    expire_after: dt.timedelta | int | None = None
    pre_and_post_images: bool | None = None
    search_indexes: Sequence[SearchIndex] = ()
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_name(self.collection)
        object.__setattr__(self, "indexes", _all_of("indexes", self.indexes, Index))
        object.__setattr__(self, "search_indexes", _all_of("search_indexes", self.search_indexes, SearchIndex))
        object.__setattr__(self, "options", check_document("options", self.options))
        _check(self)
        object.__setattr__(self, "indexes", merged_indexes(self.collection, self.indexes, ()))

    @property
    def seconds(self) -> int | None:
        """After how many seconds the collection itself deletes documents."""
        if self.timeseries is not None:
            return self.timeseries.seconds
        return None if self.expire_after is None else whole_seconds("CollectionSpec", "expire_after", self.expire_after)


def _all_of(argument: str, given: object, kind: type) -> tuple[Any, ...]:
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise UsageError(argument, f"expected a list of {kind.__name__}, got {given!r:.100}")
    values = tuple(given)
    for value in values:
        if not isinstance(value, kind):
            raise UsageError(argument, f"expected {kind.__name__}(...), got {value!r:.100}")
    return values


def _check(spec: CollectionSpec) -> None:
    for argument, value, kind in (
        ("validator", spec.validator, Validator),
        ("timeseries", spec.timeseries, TimeSeries),
    ):
        if value is not None and not isinstance(value, kind):
            raise UsageError(argument, f"expected {kind.__name__}(...) or None, got {value!r:.100}")
    check_collation("collation", spec.collation)
    _check_numbers(spec)
    for option in spec.options:
        if option in _OWN_OPTIONS:
            raise UsageError("options", f"{option!r} has an argument of its own")
        if option in _UNTOLD:
            raise UsageError("options", f"{option!r} is not among what the server tells of a collection: leave it out")
    _check_names("search_indexes", [index.name for index in spec.search_indexes])
    for argument, wrong, problem in refusals(spec):
        if wrong:
            raise UsageError(argument, f"{spec.collection!r}: {problem}")


def _check_names(argument: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(argument, f"two are named {name!r}")


def _check_numbers(spec: CollectionSpec) -> None:
    for argument, number in (("capped_size", spec.capped_size), ("capped_max", spec.capped_max)):
        if number is not None and (type(number) is not int or number < 1):
            raise UsageError(argument, f"expected a whole number greater than 0, got {number!r:.100}")
    if spec.expire_after is not None:
        whole_seconds("CollectionSpec", "expire_after", spec.expire_after)


def check_name(name: object) -> None:
    """Refuse what cannot be the name of a collection of one's own.

    Raises:
        UsageError: If it is none, or one of the server's own.
    """
    check_collection(name)
    text = str(name)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("collection", f"{name!r} has half of a character, which no server stores") from None
    if text.startswith(("system.", ".")) or text.endswith(".") or "$" in text or "\0" in text:
        raise UsageError("collection", f"{name!r} cannot be yours: names have no '$', and do not begin with 'system.'")


# Indexes together ----------------------------------------------------------------------------------------------


def merged_indexes(collection: str, said: Iterable[Index], needed: Iterable[Index]) -> tuple[Index, ...]:
    """Return each index once: those that are said, and those that patterns need and that none of them serves.

    A pattern that needs an index to find documents, and says nothing else of it, is served by any that has all
    documents and begins with its keys.

    Raises:
        UsageError: If two contradict each other: the same keys and the same documents, and other options.
    """
    kept: list[Index] = []
    wanted = list(needed)
    plain = [index for index in wanted if is_plain(index)]
    for index in (*said, *(index for index in wanted if index not in plain)):
        _add(collection, kept, index)
    for index in sorted(plain, key=lambda one: -len(one.keys)):
        if not any(serves(one, index) for one in kept):
            _add(collection, kept, index)
    _check_names("indexes", [index.name for index in kept if index.name is not None])
    text = [index for index in kept if index.is_text]
    if len(text) > 1:
        problem = f"a collection has one index of text, and {collection!r} would have {text[0]} and {text[1]}"
        raise UsageError("indexes", f"{problem}: put their keys into one")
    return tuple(kept)


def _add(collection: str, kept: list[Index], index: Index) -> None:
    for place, other in enumerate(kept):
        if unnamed(other) == unnamed(index):
            if None not in (index.name, other.name) and index.name != other.name:
                raise UsageError("indexes", f"{collection!r}: {index} is named {other.name!r} and {index.name!r}")
            kept[place] = index if other.name is None else other
            return
        same = (index.keys, index.where, index.collation, index.projection)
        if same == (other.keys, other.where, other.collation, other.projection):
            differing = [name for name, value in _options(index).items() if value != _options(other)[name]]
            problem = f"{collection!r}: {index} is wanted twice, with and without the same {' and '.join(differing)}"
            raise UsageError("indexes", f"{problem}: say one of them, for all who need it")
    kept.append(index)


def _options(index: Index) -> dict[str, Any]:
    names = ("unique", "expire_after", "sparse", "hidden", "weights", "default_language")
    return {name: getattr(index, name) for name in names}


def unnamed(index: Index) -> Index:
    """Return the same index, whatever it is called."""
    copy = Index(*index.keys)
    for attribute in index.__slots__:
        object.__setattr__(copy, attribute, None if attribute == "name" else getattr(index, attribute))
    return copy


def is_plain(index: Index) -> bool:
    """Tell whether nothing is said of an index but its keys, which have an order."""
    return unnamed(index) == Index(*index.keys) and all(kind in (1, -1) for _, kind in index.keys)


def serves(index: Index, plain: Index) -> bool:
    """Tell whether an index finds whatever a plain one finds: it has all documents, and begins with the same keys."""
    complete = not (index.where or index.sparse or index.hidden or index.collation or index.is_text)
    return complete and index.keys[: len(plain.keys)] == plain.keys


# Schemas -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, init=False)
class SchemaSpec:
    """Define what a database should hold.

    The spec of any pattern may stand beside the collections: it stands for the indexes that it needs, wherever it
    needs them. What several say of one collection is put together.

    Attributes:
        collections: Every collection once, with all that is said of it, in the order in which they were named.
        needs: By collection, those of its indexes that only patterns ask for, to find documents by: any index that is
            there already and begins with their keys will do.

    Args:
        specs: `CollectionSpec`s, and specs of patterns such as `QuotaSpec` and `JoinSpec`.

    Raises:
        UsageError: If one is none of these, or two contradict each other.
    """

    collections: tuple[CollectionSpec, ...]
    needs: Mapping[str, tuple[Index, ...]] = field(hash=False)

    def __init__(self, specs: Sequence[CollectionSpec | NeedsIndexes]) -> None:
        if isinstance(specs, (str, bytes, Mapping)) or not isinstance(specs, Iterable):
            raise UsageError("specs", f"expected a list of specs, got {specs!r:.100}")
        said: dict[str, list[CollectionSpec]] = {}
        needed: dict[str, list[Index]] = {}
        for spec in specs:
            if isinstance(spec, CollectionSpec):
                said.setdefault(spec.collection, []).append(spec)
                continue
            for name, indexes in _needs(spec).items():
                check_name(name)
                said.setdefault(name, [])
                needed.setdefault(name, []).extend(indexes)
        collections = tuple(_together(name, several, needed.get(name, ())) for name, several in said.items())
        object.__setattr__(self, "collections", collections)
        asked = {name: [index for spec in several for index in spec.indexes] for name, several in said.items()}
        needs = {
            spec.collection: tuple(index for index in spec.indexes if index not in asked[spec.collection])
            for spec in collections
        }
        plain = {name: tuple(index for index in indexes if is_plain(index)) for name, indexes in needs.items()}
        object.__setattr__(self, "needs", plain)


def _needs(spec: Any) -> dict[str, tuple[Index, ...]]:
    find, name = getattr(spec, "indexes", None), getattr(spec, "collection", None)
    if isinstance(spec, type) or not callable(find) or not isinstance(name, str):
        raise UsageError("specs", f"expected CollectionSpec(...) or the spec of a pattern, got {spec!r:.100}")
    indexes: Any = find()
    return dict(indexes) if isinstance(indexes, Mapping) else {name: tuple(indexes)}


def _together(name: str, several: Sequence[CollectionSpec], needed: Iterable[Index]) -> CollectionSpec:
    """Put together what is said of one collection."""
    one = several[0] if several else CollectionSpec(name)
    changed: dict[str, Any] = {argument: _one_of(name, several, argument) for argument in _SINGLE} if several else {}
    changed["options"] = {key: _one_of(name, several, key) for each in several for key in each.options}
    changed["search_indexes"] = tuple(dict.fromkeys(index for each in several for index in each.search_indexes))
    said = [index for each in several for index in each.indexes]
    return replace(one, **changed, indexes=merged_indexes(name, said, needed))


def _one_of(name: str, several: Sequence[CollectionSpec], argument: str) -> Any:
    """Return the one value that is said of a collection."""
    values = [getattr(one, argument) if argument in _SINGLE else one.options.get(argument) for one in several]
    said = [value for value in values if value is not None and value is not False] or values
    if any(value != said[0] for value in said):
        raise UsageError("specs", f"{name!r} is given two values of {argument}: say one of them")
    return said[0]
