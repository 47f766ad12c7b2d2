"""How pages are read: what is sent, and how the answers become pages and cursors. Pure.

A call is a generator of reads, as that of a join is: the documents of the page first, and one more, which tells whether
there is another page; then one read for each join.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bson import encode
from bson.codec_options import CodecOptions
from bson.errors import InvalidDocument

from mongopatterns.calls import Call, again
from mongopatterns.commands import NOT_TOLD, REPLY, Read
from mongopatterns.errors import StateError, UsageError
from mongopatterns.expressions import ANY_UUID
from mongopatterns.fields import Fields, Shape
from mongopatterns.filters import LOGIC, check_params, is_equality
from mongopatterns.findings import Finding, Severity
from mongopatterns.indexes import Index
from mongopatterns.joins._join_batch import Documents, Level
from mongopatterns.joins._join_lookup import keys_stage, lookup_stages
from mongopatterns.paging._cursors import Cursors, Position, fingerprint, ordered
from mongopatterns.paging._keyset import after, follows, merges, near
from mongopatterns.paging._pager_spec import Page, PagerSpec, check_limit, wanted
from mongopatterns.specs import Sort

STREAMED: Final = 1000
"""How many documents of a stream are read at a time."""

_SIMPLE: Final = {"locale": "simple"}
_DEFAULTS: Final = {
    "strength": 3,
    "caseLevel": False,
    "caseFirst": "off",
    "numericOrdering": False,
    "alternate": "non-ignorable",
    "maxVariable": "punct",
    "backwards": False,
}

_REFUSED: Final = {
    "$near": "has an order of its own: use $geoWithin, or $geoNear in source",
    "$nearSphere": "has an order of its own: use $geoWithin, or $geoNear in source",
    "$where": "does not work in all that is sent: use $expr",
}


@dataclass(frozen=True)
class PagerExplanation:
    """What a call would do.

    Attributes:
        command: What is sent for the documents, as `(collection, method, arguments)`; joins come after it.
        index: The index that serves it best; None if every collection has it, or `source` makes the documents.
        served_by: The name of an index that is there and serves it; None if there is none, or nobody may know.
        findings: That none is there.
    """

    command: tuple[str, str, dict[str, Any]]
    index: Index | None
    served_by: str | None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class PageQuery:
    """What a call asks for, checked.

    Attributes:
        filter: Which documents.
        params: The values of the call.
        position: Where the page begins; None: at the start.
        limit: How many documents it has.
        fields: What is given of them.
        fingerprint: What cursors of this query belong to.
    """

    filter: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    position: Position | None = None
    limit: int = 50
    fields: Fields | None = None
    fingerprint: bytes = b""

    @property
    def backward(self) -> bool:
        """Whether the page lies before its position."""
        return self.position is not None and self.position.backward


@dataclass
class Walk:
    """A stream under way.

    Attributes:
        query: What is read next; None if nothing is left.
    """

    query: PageQuery | None


class PagerPlan:
    """Read the pages of one spec.

    Args:
        spec: What the pages are.
        collection: The name of the collection, where it is not that of the spec.
        secret: What cursors are sealed with.
        codec_options: How the collection's values are stored.
    """

    def __init__(
        self,
        spec: PagerSpec,
        collection: str | None = None,
        *,
        secret: Any = None,
        codec_options: CodecOptions[Any] = ANY_UUID,
    ) -> None:
        self.spec = spec
        self._collection = collection or spec.collection
        self._codec_options = codec_options
        self._cursors = Cursors(secret, codec_options)
        self._paths = [path for path, _ in spec.order]
        self._back = tuple((path, -direction) for path, direction in spec.order)
        self._collation = dict(spec.collation) if spec.collation is not None else _SIMPLE
        own = {
            "collection": self._collection,
            "sort": [list(pair) for pair in spec.order],
            "collation": self._collation,
            "source": list(spec.source),
        }
        try:
            self._own = fingerprint(own, codec_options)
        except (InvalidDocument, OverflowError, UnicodeError, ValueError) as error:
            raise UsageError("source", f"cannot be sent: {error}") from None
        self._all = self._mark({})
        # Most pages have the fields of the definition, and nothing joined: the same for all of them.
        self._plain = None if spec.parts else Level((), spec.given, {}, codec_options, values=self._paths)

    @property
    def joined(self) -> list[str]:
        """The names of the collections that are joined."""
        return list(dict.fromkeys(read.collection for read in self._level(PageQuery(), bound=False).reads()))

    # What a caller asks for ......................................................................................

    def query(
        self,
        filter: object,  # noqa: A002  # as PyMongo calls it
        *,
        params: object = None,
        cursor: object = None,
        limit: object = None,
        fields: object = None,
    ) -> PageQuery:
        """Check what a caller asks for, and read its cursor."""
        if filter is not None and not isinstance(filter, Mapping):
            raise UsageError("filter", f"expected a filter, got {filter!r:.100}")
        where: Mapping[str, Any] = filter or {}
        if where:
            self._check_operators(where)
        given = check_params(self.spec.params, params)
        for part in self.spec.parts if given else ():
            part.filter.bound(given)
        try:
            mark = self._mark(where) if where else self._all
        except (InvalidDocument, OverflowError, UnicodeError, ValueError) as error:
            raise UsageError("filter", f"cannot be sent: {error}") from None
        return PageQuery(
            where,
            given,
            None if cursor is None else self._cursors.read(cursor, mark, len(self._paths)),
            self.spec.limit if limit is None else check_limit(limit),
            self.spec.given if fields is None else Fields.of("fields", fields),
            mark,
        )

    def _mark(self, where: Mapping[str, Any]) -> bytes:
        """Return what tells the cursors of a filter from all others."""
        return fingerprint({"of": self._own, "filter": ordered(where)}, self._codec_options)

    def _check_operators(self, where: Mapping[str, Any]) -> None:
        """Refuse what does not go together with a place in an order."""
        for name in _operators(where):
            if name in _REFUSED or (name == "$text" and self.spec.source):
                why = _REFUSED.get(name, "has to come before all stages: put it into source")
                raise UsageError("filter", f"{name} {why}")

    again = staticmethod(again)

    # Calls .......................................................................................................

    def find(self, query: PageQuery, *, in_turn: bool = False) -> Call[Read]:
        """Read a page.

        Args:
            query: What is asked for.
            in_turn: Whether parts that do not merge are read by a command each, until the page is full: a transaction
                knows no `$unionWith`.
        """
        return Call(self._find(query, in_turn=in_turn))

    def walk(self, filter: object, *, params: object, batch: object, fields: object) -> Walk:  # noqa: A002
        """Begin to read everything."""
        return Walk(self.query(filter, params=params, limit=check_limit(batch, "batch"), fields=fields))

    def further(self, walk: Walk, *, in_turn: bool = False) -> Call[Read]:
        """Read the next documents of a stream; there are none if it is over."""
        return Call(self._further(walk, in_turn=in_turn))

    def explain(self, query: PageQuery) -> Call[Read]:
        """Tell what `find` would do."""
        return Call(self._explain(query))

    def _find(self, query: PageQuery, *, in_turn: bool) -> Generator[Read, Any, Page[Any]]:
        level = self._level(query)
        documents = yield from self._documents(query, level.shape, in_turn=in_turn)
        items, keys = yield from self._joined(query, documents, level)
        return self._page(query, items, keys, more=len(documents) > query.limit)

    def _further(self, walk: Walk, *, in_turn: bool) -> Generator[Read, Any, Documents]:
        query = walk.query
        if query is None:
            return []
        level = self._level(query)
        documents = yield from self._documents(query, level.shape, in_turn=in_turn)
        items, keys = yield from self._joined(query, documents, level)
        # (no cursor is made: no value is too large for a stream)
        walk.query = replace(query, position=Position(keys[-1])) if len(documents) > query.limit else None
        return items

    def _documents(self, query: PageQuery, shape: Shape, *, in_turn: bool) -> Generator[Read, Any, Documents]:
        """Read the documents of a page, and one more."""
        position = query.position
        if position is not None and "$text" not in _operators(query.filter):
            order, values = self._behind(query, position)
            where = near(order, values, query.filter, inclusive=position.inclusive)
            if where is not None:
                found: Documents = yield self._read(query, shape, [where])
                if not found or follows([shape.value(path, found[0]) for path, _ in order], values):
                    return found
        filters = self._filters(query)
        if not in_turn:
            return (yield self._read(query, shape, filters))  # type: ignore[no-any-return]
        found = []
        for where in filters:
            if (left := query.limit - len(found)) >= 0:
                found += yield self._read(replace(query, limit=left), shape, [where])
        return found

    def _joined(
        self, query: PageQuery, documents: Documents, level: Level
    ) -> Generator[Read, Any, tuple[Documents, list[tuple[Any, ...]]]]:
        """Join onto the documents of a page; give their sort keys as well."""
        items = documents[: query.limit]
        keys = self._values(items, level.shape)
        asked = level.asked(items) if self.spec.parts else ()
        level.shape.clean(items)  # (before a join takes the place of what was only read)
        if asked:
            yield from level.attach(items, asked)
        return items, keys

    def _explain(self, query: PageQuery) -> Generator[Read, Any, PagerExplanation]:
        read = next(self._documents(query, self._level(query).shape, in_turn=False))
        index = None if self.spec.source else self._index(query)
        indexes = yield Read(self._collection, "list_indexes", {}, apart=True)
        known = bool(indexes) and not self.spec.source
        name = self._served(query, indexes) if known else None
        findings = self.unserved(query, indexes) if known else []
        return PagerExplanation((read.collection, read.method, read.arguments), index, name, tuple(findings))

    def refused(self, read: Read, error: Any) -> None:
        """Go on without what nobody can tell about a collection.

        Raises:
            OperationFailure: If it is about anything else.
        """
        if not read.apart or error.code not in NOT_TOLD:
            raise error

    # What is sent ................................................................................................

    def _level(self, query: PageQuery, *, bound: bool = True) -> Level:
        if self._plain is not None and query.fields is self.spec.given:
            return self._plain
        params = query.params if bound else dict.fromkeys(self.spec.params)
        return Level(self.spec.parts, query.fields, params, self._codec_options, values=self._paths)

    def _read(self, query: PageQuery, shape: Shape, filters: Documents) -> Read:
        """Build the read of a page's documents, and of one more."""
        options = {"collation": self._collation, "comment": "mongopatterns.pager.page"}
        if self.spec.source or len(filters) > 1:
            project = [{"$project": shape.projection}] if shape.projection is not None else []
            stages = [*map(dict, self.spec.source), *self._selected(query, filters), *project]
            return Read(self._collection, "aggregate", {"pipeline": stages, **options}).at_once()
        arguments: dict[str, Any] = {
            "filter": filters[0],
            "sort": list(self._order(query)),
            "limit": query.limit + 1,
            **options,
        }
        if shape.projection is not None:
            arguments["projection"] = shape.projection
        return Read(self._collection, "find", arguments).at_once()

    def stages(self, query: PageQuery) -> Documents:
        """Build the stages that give the documents of a page, and one more, behind `source`."""
        selected, fields, parts = self._selected(query, self._filters(query)), query.fields, self.spec.parts
        shape = self._shape(query)
        if not parts:
            return [*selected, {"$project": shape.projection}] if shape.projection is not None else selected
        # A join may take the place of a sort key: they are kept beside the document.
        kept = (shape.projection or {})[REPLY]
        stages = [*selected, {"$set": {REPLY: kept}}, *keys_stage(parts), *lookup_stages(parts, query.params)]
        if fields is None:
            return [*stages, {"$unset": [f"{REPLY}.k{place}" for place in range(len(parts))]}]
        given = fields.projection([part.as_ for part in parts])
        return [*stages, {"$project": {**given, **{f"{REPLY}.{name}": 1 for name in kept}}}]

    def _selected(self, query: PageQuery, filters: Documents) -> Documents:
        """Build the stages that find the documents of a page: one filter after the other, where they do not merge."""
        page: Documents = [{"$sort": dict(self._order(query))}, {"$limit": query.limit + 1}]
        first, *others = ([*([{"$match": where}] if where else []), *page] for where in filters)
        if not others:
            return first
        source = list(map(dict, self.spec.source))
        unions = [{"$unionWith": {"coll": self._collection, "pipeline": [*source, *stages]}} for stages in others]
        return [*first, *unions, *page]

    def _filters(self, query: PageQuery) -> list[dict[str, Any]]:
        """Return the filter of a page, or those that have to be read one after the other."""
        position = query.position
        if position is None:
            return [dict(query.filter)]
        order, values = self._behind(query, position)
        if "$text" in _operators(query.filter):
            # (it is there once, whatever is read: no index gives an order then)
            found = after(order, values, {}, inclusive=position.inclusive)
            return [{"$and": [query.filter, {"$or": found or [{"$nor": [{}]}]}]}]
        found = after(order, values, query.filter, inclusive=position.inclusive)
        if len(found) < 2 or not merges(values):  # noqa: PLR2004  # (one alone is no choice)
            return found or [{"$nor": [{}]}]
        return [{"$or": found}]

    def _behind(self, query: PageQuery, position: Position) -> tuple[Sort, list[Any]]:
        """Return the order and the values that decide what comes after a position.

        What the filter compares with one value is equal in all documents, and decides nothing.
        """
        equal = self._equal(query)
        pairs = zip(self._order(query), position.values, strict=True)
        left = [(pair, value) for pair, value in pairs if pair[0] not in equal]
        return tuple(pair for pair, _ in left), [value for _, value in left]

    def _order(self, query: PageQuery) -> Sort:
        return self._back if query.backward else self.spec.order

    def _shape(self, query: PageQuery) -> Shape:
        return Shape(Fields((), with_id=False) if self.spec.parts else query.fields, (), self._paths)

    # What becomes of the answer ..................................................................................

    def page(self, query: PageQuery, documents: Sequence[dict[str, Any]]) -> Page[Any]:
        """Make a page of what `stages` give.

        Raises:
            StateError: If a document cannot be placed in the order.
        """
        shape = self._shape(query)
        items = list(documents[: query.limit])
        keys = self._values(items, shape)
        shape.clean(items)
        return self._page(query, items, keys, more=len(documents) > query.limit)

    def _values(self, documents: Sequence[dict[str, Any]], shape: Shape) -> list[tuple[Any, ...]]:
        """Read the sort keys of documents.

        Raises:
            StateError: If one is a list, or is text where two of them may be one.
        """
        columns = [shape.values(path, documents) for path in self._paths]
        found = list(zip(*columns, strict=True))
        for path, column in zip(self._paths, columns, strict=True):
            if list in map(type, column):
                place = next(place for place, value in enumerate(column) if type(value) is list)
                problem = "is a list, or lies in one, and such a document has no one place in an order"
                raise StateError(self._collection, self._id(found[place]), path, problem)
        if self.spec.collation is not None:
            for values in found:
                if _holds_text(self._id(values)):
                    why = "holds text, and two ids may be one to the collation: page by ids of another kind, or without"
                    raise StateError(self._collection, self._id(values), "_id", why)
        return found

    def _id(self, values: Sequence[Any]) -> Any:
        return values[self._paths.index("_id")]

    def _page(self, query: PageQuery, items: list[Any], keys: list[tuple[Any, ...]], *, more: bool) -> Page[Any]:
        position = query.position
        if query.backward:
            items, keys = items[::-1], keys[::-1]
        before = after_it = None
        if keys:
            if more if query.backward else position is not None:
                before = Position(keys[0], backward=True)
            if query.backward or more:
                after_it = Position(keys[-1])
        elif position is not None:
            # Nothing is there (any more): the way back begins where this one did.
            back = Position(position.values, not position.backward, not position.inclusive)
            before, after_it = (None, back) if position.backward else (back, None)
        if self.spec.reading_order:
            items = items[::-1]
        return Page(items, self._token(query, after_it), self._token(query, before))

    def _token(self, query: PageQuery, position: Position | None) -> str | None:
        """Write a cursor.

        Raises:
            StateError: If a value of the position is too large.
        """
        if position is None:
            return None
        token = self._cursors.write(position, query.fingerprint)
        if token is None:
            sizes = [len(encode({"": value}, codec_options=self._codec_options)) for value in position.values]
            largest = sizes.index(max(sizes))
            problem = (
                f"a page ends there, and {sizes[largest]:,} bytes do not fit into a cursor: sort by shorter values"
            )
            raise StateError(self._collection, self._id(position.values), self._paths[largest], problem)
        return token

    # Indexes .....................................................................................................

    def unserved(self, query: PageQuery, indexes: Sequence[Mapping[str, Any]]) -> list[Finding]:
        """Tell that no index serves a page, if so.

        Args:
            query: What is asked for.
            indexes: The indexes of the collection, as `list_indexes` gives them.
        """
        index = self._index(query)
        if self.spec.source or index is None or self._served(query, indexes) is not None:
            return []
        sort = ", ".join(f"{path!r} {'up' if direction == 1 else 'down'}" for path, direction in self.spec.order)
        return [
            Finding(
                code="missing-index",
                severity=Severity.WARNING,
                subject=f"{self._collection}.{self._paths[0]}",
                evidence=f"no index gives the documents by {sort}: the server sorts all of them for each page",
                remedy=f"Create {index}" + (f" with the collation {self._collation}" if self.spec.collation else ""),
            )
        ]

    def _equal(self, query: PageQuery) -> list[str]:
        """List the paths that a filter compares with one value."""
        own = [path for path, test in query.filter.items() if not path.startswith("$") and is_equality(test)]
        both = query.filter.get("$and")
        for each in both if isinstance(both, (list, tuple)) else ():
            if isinstance(each, Mapping):
                own += [path for path, test in each.items() if not path.startswith("$") and is_equality(test)]
        return [*(path for path in self.spec.filter_by if path in own), *own]

    def _index(self, query: PageQuery) -> Index | None:
        return wanted(self._equal(query), self.spec.order, self.spec.collation)

    def _collates(self, collation: Mapping[str, Any]) -> bool:
        """Tell whether an index compares text as the pages do: what is not said is what the server says by default."""
        own, other = ({**_DEFAULTS, **each} for each in (self._collation, collation))
        return all(own[name] == other[name] for name in ("locale", *(_DEFAULTS if own["locale"] != "simple" else ())))

    def _served(self, query: PageQuery, indexes: Sequence[Mapping[str, Any]]) -> str | None:
        """Name an index that gives the documents in their order, behind paths that have one value."""
        equal = set(self._equal(query))
        order = [(path, direction) for path, direction in self.spec.order if path not in equal]
        for index in indexes:
            if index.get("hidden") or "partialFilterExpression" in index or index.get("sparse"):
                continue
            if not self._collates(index.get("collation") or _SIMPLE):
                continue
            keys = list(index["key"].items())
            leading = next((place for place, (path, _) in enumerate(keys) if path not in equal), len(keys))
            if not equal.intersection(self.spec.filter_by) <= {path for path, _ in keys[:leading]}:
                continue
            rest = [pair for pair in keys[leading:] if pair[0] not in equal][: len(order)]
            if any(rest == [(path, direction * turn) for path, direction in order] for turn in (1, -1)):
                return str(index["name"])
        return None


def _operators(where: Mapping[str, Any]) -> set[str]:
    """List the operators of a filter."""
    found: set[str] = set()
    for name, test in where.items():
        if name in LOGIC and isinstance(test, (list, tuple)):
            found.update(*(_operators(each) for each in test if isinstance(each, Mapping)))
        elif isinstance(test, Mapping):
            found.update(operator for operator in test if str(operator).startswith("$"))
        if str(name).startswith("$"):
            found.add(name)
    return found


def _holds_text(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_text, value.values()))
    return isinstance(value, str) or (isinstance(value, list) and any(map(_holds_text, value)))
