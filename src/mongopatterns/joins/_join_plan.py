"""How a join is carried out: what is sent, and how the answers become rows. Pure.

A call is a generator of reads (`Steps`): a shell sends each and hands the answer back, until `again` has none left.
Two ways lead to the same rows. *Batch* asks for what belongs to all parents at once, and puts it together in memory.
*Lookup* lets the server join, in the command that reads the parents. `_join_ways` chooses for each join.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bson.codec_options import CodecOptions
from pymongo.errors import OperationFailure

from mongopatterns.calls import Call, again
from mongopatterns.commands import NOT_TOLD, REPLY, Read
from mongopatterns.errors import UsageError
from mongopatterns.expressions import ANY_UUID
from mongopatterns.fields import Fields, fresh
from mongopatterns.filters import LOGIC, check_params
from mongopatterns.findings import Finding
from mongopatterns.joins._join_batch import Documents, Level
from mongopatterns.joins._join_lookup import computed_stage, given_stage, keys_stage, lookup_stages
from mongopatterns.joins._join_spec import JoinPart, JoinSpec, walk
from mongopatterns.joins._join_ways import JoinChoice, OnMissingIndex, Strategy, Ways
from mongopatterns.joins._keys import Asked
from mongopatterns.paths import value_at
from mongopatterns.specs import check_sort, check_stages

STREAMED: Final = 1000
"""How many parents of a stream are joined at a time."""

_MOST: Final = 2**63 - 1
_ANY: Final = ""  # no name of a field


@dataclass(frozen=True)
class JoinExplanation:
    """What a call would do.

    Attributes:
        joins: The way that each join goes; nested joins go with the one that they are nested in.
        commands: What is sent, as `(collection, method, arguments)`, with a word in place of keys that are not known
            before the parents are read.
        findings: Indexes that are missing.
    """

    joins: tuple[JoinChoice, ...]
    commands: tuple[tuple[str, str, dict[str, Any]], ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Query:
    """What a call asks for, checked."""

    filter: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    joined: Mapping[str, Any] | None = None
    sort: tuple[tuple[str, int], ...] | None = None
    skip: int = 0
    limit: int = 0
    fields: Fields | None = None


@dataclass(frozen=True)
class Stream:
    """What reads the parents of a call, and what is then joined onto them.

    Attributes:
        read: What reads them.
        level: What is joined in batches.
        keyed: The places of those joins among all, where the server has read their keys; None: they are read from the
            parents.
        computed: What the server has computed.
    """

    read: Read
    level: Level
    keyed: tuple[int, ...] | None = None
    computed: frozenset[str] = frozenset()


class JoinPlan:
    """Carry out the joins of one spec.

    Args:
        spec: What is joined.
        collection: The name of the parents' collection, where it is not that of the spec.
        strategy: The way that is taken; `auto` decides.
        on_missing_index: What is done about a join that no index serves.
        codec_options: How the collections' values are stored.
    """

    def __init__(
        self,
        spec: JoinSpec,
        collection: str | None = None,
        *,
        strategy: Strategy = "auto",
        on_missing_index: OnMissingIndex = "warn",
        codec_options: CodecOptions[Any] = ANY_UUID,
    ) -> None:
        self.spec = spec
        self._collection = collection or spec.collection
        self._parts = tuple(_renamed(part, spec.collection, self._collection) for part in spec.parts)
        self._codec_options = codec_options
        self._ways = Ways(self._collection, self._parts, strategy, on_missing_index)
        self._names = [part.as_ for part in spec.parts]

    # What a caller asks for ......................................................................................

    def query(
        self,
        filter: object,  # noqa: A002  # as PyMongo calls it
        *,
        params: object = None,
        joined: object = None,
        sort: object = None,
        skip: object = 0,
        limit: object = 0,
        fields: object = None,
    ) -> Query:
        """Check what a caller asks for."""
        for argument, value in (("filter", filter), ("joined", joined)):
            if value is not None and not isinstance(value, Mapping):
                raise UsageError(argument, f"expected a filter, got {value!r:.100}")
        for argument, number in (("skip", skip), ("limit", limit)):
            if type(number) is not int or not 0 <= number <= _MOST:
                raise UsageError(argument, f"expected a whole number from 0, got {number!r:.100}")
        if joined and self._ways.strategy == "batch":
            raise UsageError("joined", "rows are filtered by the server: take strategy='auto' or 'lookup'")
        if joined and not self._named(joined):  # type: ignore[arg-type]
            raise UsageError("joined", f"names none of {[*self._names, *self.spec.computed]}: filter= is for parents")
        return Query(
            filter or {},  # type: ignore[arg-type]
            self._params(params),
            joined or None,  # type: ignore[arg-type]
            check_sort("sort", sort),
            skip,  # type: ignore[arg-type]
            limit,  # type: ignore[arg-type]
            Fields.of("fields", fields),
        )

    @property
    def joined(self) -> list[str]:
        """The names of the collections that are joined."""
        return list(dict.fromkeys(part.collection for part in walk(self._parts)))

    def refused(self, read: Read, error: OperationFailure) -> None:
        """Go on without what nobody can tell about a collection.

        Raises:
            OperationFailure: If it is about anything else.
        """
        if not read.apart or error.code not in NOT_TOLD:
            raise error

    def _params(self, params: object) -> Mapping[str, Any]:
        """Check the values of a call, each where it belongs."""
        given = check_params(self.spec.params, params)
        for part in walk(self._parts) if given else ():
            part.filter.bound(given)
        return given

    again = staticmethod(again)

    # Calls .......................................................................................................

    def find(self, query: Query, clock: float) -> Call[Read]:
        """Read parents, and join."""
        return Call(self._find(query, clock))

    def attach(self, documents: object, params: object, clock: float) -> Call[Read]:
        """Join onto documents that a caller has; they stay as they are."""
        if isinstance(documents, Mapping) or not isinstance(documents, Sequence):
            raise UsageError(
                "documents",
                f"expected a list of documents (of a cursor, its to_list()), got {type(documents).__name__}",
            )
        if strange := [document for document in documents if not isinstance(document, Mapping)]:
            raise UsageError("documents", f"expected documents, got {strange[0]!r:.100}")
        given = self._params(params)
        return Call(self._attach([fresh(dict(document)) for document in documents], given, clock))

    def aggregate(self, stages: object, params: object, clock: float) -> Call[Read]:
        """Join onto what a caller's own stages give."""
        before = check_stages("stages", stages)
        query = Query(params=self._params(params))
        return Call(self._aggregate([*before], query, clock))

    def count(self, query: Query, clock: float) -> Call[Read]:
        """Count the rows that `find` would give without `skip` and `limit`."""
        return Call(self._count(query, clock))

    def stream(self, query: Query, clock: float) -> Call[Read]:
        """Prepare to read parents one stretch after the other; the result is a `Stream`."""
        return Call(self._open(query, clock))

    def explain(self, query: Query, clock: float) -> Call[Read]:
        """Tell what `find` would do."""
        return Call(self._explain(query, clock))

    # What is read ................................................................................................

    def _find(self, query: Query, clock: float) -> Generator[Read, Any, Documents]:
        stream = yield from self._open(query, clock)
        rows = yield stream.read.at_once()
        return (yield from self._finish(stream, rows))

    def rows(self, stream: Stream, documents: Documents) -> Call[Read]:
        """Turn a stretch of parents that were read into rows."""
        return Call(self._finish(stream, documents))

    def _attach(self, rows: Documents, params: Mapping[str, Any], clock: float) -> Generator[Read, Any, Documents]:
        yield from self._ways.checked(clock)
        level = Level(self._parts, None, params, self._codec_options)
        return (yield from self._finish(Stream(Read(self._collection, "", {}), level), rows))

    def _aggregate(self, stages: Documents, query: Query, clock: float) -> Generator[Read, Any, Documents]:
        choices = yield from self._choices(query, clock)
        stream = self._stream(query, choices, before=stages)
        rows = yield stream.read.at_once()
        return (yield from self._finish(stream, rows))

    def _count(self, query: Query, clock: float) -> Generator[Read, Any, int]:
        stages = [{"$match": query.filter}]
        if query.joined:
            yield from self._ways.checked(clock)
            stages += self._filtered(query)
        read = self._read_stages([*stages, {"$count": "n"}], "count")
        found = yield read
        return int(found[0]["n"]) if found else 0

    def _open(self, query: Query, clock: float) -> Generator[Read, Any, Stream]:
        choices = yield from self._choices(query, clock)
        return self._stream(query, choices)

    def _explain(self, query: Query, clock: float) -> Generator[Read, Any, JoinExplanation]:
        yield from self._ways.look(clock)
        choices = self._chosen(query)
        stream = self._stream(query, choices)
        reads = [stream.read.at_once(), *stream.level.reads()]
        commands = tuple((read.collection, read.method, read.arguments) for read in reads)
        return JoinExplanation(tuple(choices), commands, tuple(self._ways.findings()))

    def _stream(self, query: Query, choices: Sequence[JoinChoice], before: Documents | None = None) -> Stream:
        """Build what reads the parents, and say what is to be joined onto them."""
        looked_up = [choice.strategy == "lookup" for choice in choices]
        parts = self._parts
        joins = any(looked_up) or query.joined is not None  # (the server has something to do with what is joined)
        if before is None and not joins:
            own = [value.path for value in self.spec.computed.values() if value.root not in self._names]
            level = Level(parts, query.fields, query.params, self._codec_options, values=own)
            return Stream(self._read_parents(query, level), level)
        rest = [part for part, chosen in zip(parts, looked_up, strict=True) if not chosen]
        level = Level(rest, None, query.params, self._codec_options)
        stages = [*(before or ()), *(self._stages(query, looked_up) if joins else ())]
        return Stream(
            self._read_stages(stages, "find" if before is None else "aggregate"),
            level,
            keyed=tuple(place for place, chosen in enumerate(looked_up) if not chosen) if joins else None,
            computed=self._computed_above(looked_up) if joins else frozenset(),
        )

    def _read_parents(self, query: Query, level: Level) -> Read:
        arguments: dict[str, Any] = {"filter": query.filter, "comment": "mongopatterns.join.find"}
        if level.shape.projection is not None:
            arguments["projection"] = level.shape.projection
        if query.sort:
            arguments["sort"] = list(query.sort)
        return Read(self._collection, "find", {**arguments, "skip": query.skip, "limit": query.limit})

    def _read_stages(self, stages: Documents, call: str) -> Read:
        return Read(self._collection, "aggregate", {"pipeline": stages, "comment": f"mongopatterns.join.{call}"})

    def _stages(self, query: Query, looked_up: Sequence[bool]) -> Documents:
        """Build the stages that read the parents, join what is looked up, compute, and give what is wanted."""
        read: Documents = [{"$match": query.filter}] if query.filter else []
        read += [{"$sort": dict(query.sort)}] if query.sort else []
        page: Documents = [{"$skip": query.skip}] if query.skip else []
        page += [{"$limit": query.limit}] if query.limit else []
        parts, above = self._parts, self._computed_above(looked_up)
        if query.joined is None:
            first, joined, computed = [*page, *keys_stage(parts)], [False] * len(parts), set[str]()
        else:
            first, joined, computed = (
                [*self._filtered(query), *page],
                self._needed(query.joined),
                self._named(query.joined),
            )
        left = [up and not done for up, done in zip(looked_up, joined, strict=True)]
        names = [name for name, up in zip(self._names, looked_up, strict=True) if up]
        return [
            *read,
            *first,
            *lookup_stages(parts, query.params, left),
            *self._compute(above - computed),
            *given_stage(query.fields, [*names, *above], keys=not all(looked_up)),
        ]

    def _filtered(self, query: Query) -> Documents:
        """Build the stages that keep the parents that what is joined onto them agrees with."""
        joined = query.joined or {}
        lookups = lookup_stages(self._parts, query.params, self._needed(joined))
        return [*keys_stage(self._parts), *lookups, *self._compute(self._named(joined)), {"$match": joined}]

    def _compute(self, names: Collection[str]) -> Documents:
        return computed_stage({name: value for name, value in self.spec.computed.items() if name in names})

    def _finish(self, stream: Stream, rows: Documents) -> Generator[Read, Any, Documents]:
        """Join what has not been looked up, and compute."""
        level = stream.level
        late = {name: value for name, value in self.spec.computed.items() if name not in stream.computed}
        # What is the parent's own is read before a join takes its place, or the fields that are not given are gone.
        own = {
            name: [level.shape.value(value.path, row) for row in rows]
            for name, value in late.items()
            if value.root not in self._names
        }
        if stream.keyed is None:
            asked = level.asked(rows)
            level.shape.clean(rows)
        else:
            held = [row.pop(REPLY, {}) for row in rows]
            asked = [
                Asked.of([keys[f"k{place}"] for keys in held], None, self._codec_options) for place in stream.keyed
            ]
        yield from level.attach(rows, asked)
        for name, value in late.items():
            if name not in own:
                own[name] = [value_at(row, value.path) for row in rows]
        for name, values in own.items():
            for row, found in zip(rows, values, strict=True):
                row[name] = fresh(late[name].default if found is None else found)
        return rows

    def _computed_above(self, looked_up: Sequence[bool]) -> frozenset[str]:
        """Name what the server can compute: all that does not read what is joined in a batch."""
        batched = {name for name, up in zip(self._names, looked_up, strict=True) if not up}
        return frozenset(name for name, value in self.spec.computed.items() if value.root not in batched)

    # Which way .................................................................................................

    def _choices(self, query: Query, clock: float) -> Generator[Read, Any, list[JoinChoice]]:
        yield from self._ways.checked(clock)
        return self._chosen(query)

    def _chosen(self, query: Query) -> list[JoinChoice]:
        needed = self._needed(query.joined) if query.joined else [False] * len(self._names)
        return self._ways.chosen(needed, query.filter)

    # What `joined` names .........................................................................................

    def _named(self, joined: Mapping[str, Any]) -> set[str]:
        """Return the joined and computed fields that a filter names."""
        known = {*self._names, *self.spec.computed}
        roots = _roots(joined)
        return known if _ANY in roots else known & set(roots)

    def _needed(self, joined: Mapping[str, Any]) -> list[bool]:
        """Tell which joins must be there before a filter can decide."""
        named = self._named(joined)
        named |= {value.root for name, value in self.spec.computed.items() if name in named}
        return [name in named for name in self._names]


def _renamed(part: JoinPart, name: str, actual: str) -> JoinPart:
    """Let a join of the parents' own collection be of the one that a caller gave for it."""
    if name == actual:
        return part
    changes: dict[str, Any] = {"collection": actual} if part.collection == name else {}
    if part.inner:
        changes["joins"] = tuple(_renamed(nested, name, actual) for nested in part.inner)
    return replace(part, **changes) if changes else part


def _roots(joined: Mapping[str, Any]) -> list[str]:
    """List the fields at the top of a row that a filter names; `_ANY` is among them if it may name any."""
    found: list[str] = []
    for name, test in joined.items():
        if name in LOGIC and isinstance(test, Sequence):
            found += [root for item in test if isinstance(item, Mapping) for root in _roots(item)]
        else:
            found.append(_ANY if str(name).startswith("$") else str(name).split(".")[0])
    return found
