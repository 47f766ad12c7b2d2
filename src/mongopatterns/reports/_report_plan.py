"""How a report is carried out: which branches travel together, what is sent, and what becomes of the answers. Pure.

A call is a generator of rounds: reads that may be under way at the same time. A shell sends those of a round and hands
the answers back, in order, until there is nothing more to read.

Three things decide how quickly a report comes. *Pages* and counts are served by an index if they are left alone; within
a `$facet`, nothing is. *Passes*: everything else reads all documents of the filter, and to read them costs the server
about as much as a branch or two, so branches share a pass. *Two at a time*: one pass keeps one processor of the server
busy, and so the branches are dealt to two passes that are under way side by side.

Every answer is one document. The server itself refuses one that is too large, and where several branches shared it they
are asked again, each by itself: what is too large is then known by its name.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

from bson.codec_options import CodecOptions
from pymongo.errors import AutoReconnect, OperationFailure

from mongopatterns.calls import Call, again
from mongopatterns.commands import NOT_TOLD, Read
from mongopatterns.errors import DeploymentError, ResultTooLarge, UsageError
from mongopatterns.expressions import ANY_UUID
from mongopatterns.filters import check_params
from mongopatterns.findings import Finding
from mongopatterns.paging._pager_plan import PageQuery, PagerPlan
from mongopatterns.reports._branch_stages import COUNT, PAGE, Part, parts_of
from mongopatterns.reports._branches import Branch, Capped, PageOf, Percentiles, TimeBuckets
from mongopatterns.reports._filter_indexes import unserved
from mongopatterns.reports._report_rows import shown, told
from mongopatterns.reports._report_spec import ReportPage, ReportSpec, Total
from mongopatterns.reports._times import Span

Strategy: TypeAlias = Literal["auto", "facet", "parallel"]

PASSES: Final = 2
"""How many passes over the documents are under way at a time."""

_ROWS: Final = "rows"  # the field of an answer that holds the rows of a command that is one part

# What the server says of a result that is too large: of a document (10334), of what `$facet` holds (4031700), of the
# memory of a set or a list (146), of that of a stage that may not write to disk (292).
_TOO_LARGE: Final = frozenset({146, 292, 10334, 4031700})
# Text is compared by its characters, whatever collation a collection was made with: pages are told apart by that, and
# all branches of a report are about the same documents.
_PLAINLY: Final[Mapping[str, Any]] = MappingProxyType({"collation": {"locale": "simple"}})

_UNKNOWN_OPERATOR: Final = frozenset({15952})
_SNAPSHOT_GONE: Final = frozenset({246})
_NO_SNAPSHOTS: Final = frozenset({123})  # (it is no member of a replica set)


@dataclass(frozen=True)
class Refused:
    """An answer that is an error with which the plan can go on.

    Attributes:
        error: The driver's error.
    """

    error: OperationFailure | AutoReconnect


@dataclass(frozen=True)
class Command:
    """One command of a report.

    Attributes:
        parts: What it gives.
        why: Why these and no others.
        pipeline: What is sent.
    """

    parts: tuple[Part, ...]
    why: str
    pipeline: list[dict[str, Any]]

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of the branches that it serves."""
        return tuple(dict.fromkeys(part.branch for part in self.parts))


@dataclass(frozen=True)
class ReportCommand:
    """One command of a report, as `explain` tells it.

    Attributes:
        branches: The names of the branches that it serves.
        why: Why these and no others.
        pipeline: What is sent.
    """

    branches: tuple[str, ...]
    why: str
    pipeline: list[dict[str, Any]]


@dataclass(frozen=True)
class ReportExplanation:
    """What a report would do.

    Attributes:
        strategy: `"auto"`, `"facet"` or `"parallel"`.
        commands: What is sent; all of it at the same time.
        findings: Indexes that are missing.
    """

    strategy: str
    commands: tuple[ReportCommand, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class ReportQuery:
    """What a call asks for, checked."""

    filter: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    pages: Mapping[str, PageQuery] = field(default_factory=dict)
    consistent: bool = False
    alone: bool = False


Round: TypeAlias = list[Read]
Answer: TypeAlias = list[dict[str, Any]] | Refused


class ReportPlan:
    """Carry out one report.

    Args:
        spec: What is told.
        collection: The name of the collection, where it is not that of the spec.
        strategy: How branches travel; `auto` decides.
        secret: What cursors are signed with (see `Pager`).
        codec_options: How the collection's values are stored.
    """

    def __init__(
        self,
        spec: ReportSpec,
        collection: str | None = None,
        *,
        strategy: Strategy = "auto",
        allow_disk_use: bool | None = None,
        secret: Any = None,
        codec_options: CodecOptions[Any] = ANY_UUID,
    ) -> None:
        self.spec = spec
        if strategy not in get_args(Strategy):
            raise UsageError("strategy", f"expected one of {list(get_args(Strategy))}, got {strategy!r:.100}")
        if allow_disk_use is not None and not isinstance(allow_disk_use, bool):
            raise UsageError("allow_disk_use", f"expected True, False or None, got {allow_disk_use!r:.100}")
        self._strategy = strategy
        self._collection = collection or spec.collection
        self._options = dict(_PLAINLY) if allow_disk_use is None else {**_PLAINLY, "allowDiskUse": allow_disk_use}
        self._codec_options = codec_options
        self._pagers = {
            name: PagerPlan(
                page.pager(spec.collection, spec.source),
                self._collection,
                secret=secret,
                codec_options=codec_options,
            )
            for name, page in spec.pages.items()
        }

    # What a caller asks for ......................................................................................

    def query(
        self,
        filter: object,  # noqa: A002  # as PyMongo calls it
        *,
        params: object = None,
        cursors: object = None,
        consistent: object = False,
        session: object = None,
    ) -> ReportQuery:
        """Check what a caller asks for."""
        if filter is not None and not isinstance(filter, Mapping):
            raise UsageError("filter", f"expected a filter, got {filter!r:.100}")
        if not isinstance(consistent, bool):
            raise UsageError("consistent", f"expected True or False, got {consistent!r:.100}")
        if consistent and session is not None:
            raise UsageError("session", "a session decides itself what it reads: leave out consistent=, or session=")
        given = check_params(self.spec.params, params)
        where: Mapping[str, Any] = filter or {}
        pages = {}
        tokens = _check_cursors(cursors, self._pagers)
        for name, pager in self._pagers.items():
            branch = self.spec.branches[name]
            own = {each: given[each] for each in pager.spec.params}  # (those of its joins: the filter is bound here)
            try:
                pages[name] = pager.query(_both(where, branch.filter.bound(given)), params=own, cursor=tokens.get(name))
            except UsageError as error:
                if error.argument != "cursor":
                    raise
                raise _of_branch(name, error) from None
        for branch in self.spec.branches.values():
            branch.filter.bound(given)
        return ReportQuery(where, given, pages, consistent=consistent, alone=session is not None)

    again = staticmethod(again)

    def refused(self, read: Read, error: OperationFailure | AutoReconnect) -> Answer:
        """Return an error as an answer, if the plan can go on with it.

        Raises:
            DeploymentError: If the server is too old for what is asked, or can read no snapshot.
            OperationFailure: If it is about anything else.
        """
        if isinstance(error, AutoReconnect) or error.code in _TOO_LARGE | _SNAPSHOT_GONE:
            return Refused(error)
        if (read.apart or _asks_for_metadata(read)) and error.code in NOT_TOLD:
            return Refused(error)
        if error.code in _NO_SNAPSHOTS:
            raise DeploymentError(
                "consistent=True reads a snapshot, which needs a replica set or a sharded cluster: this is one server"
            ) from error
        if error.code in _UNKNOWN_OPERATOR:
            for name, branch in self.spec.branches.items():
                if isinstance(branch, Percentiles):
                    raise DeploymentError(
                        f"branch {name!r}: Percentiles need MongoDB 7.0 or newer, whose $percentile finds them without "
                        "sorting all values; this server has no such operator"
                    ) from error
        raise error

    # Calls .......................................................................................................

    def run(self, query: ReportQuery) -> Call[Round]:
        """Read everything; the result is what is told of each branch, by name."""
        return Call(self._run(query))

    def explain(self, query: ReportQuery) -> Call[Round]:
        """Tell what `run` would do."""
        return Call(self._explain(query))

    def _run(self, query: ReportQuery) -> Generator[Round, list[Answer], dict[str, Any]]:
        commands = self._commands(query)
        try:
            answers = yield from self._read(commands, query)
        except _SnapshotGone:  # (once: what is gone again is told as the driver tells it)
            try:
                answers = yield from self._read(commands, query)
            except _SnapshotGone as again:
                raise again.error from None
        return {name: self._told(name, branch, answers[name], query) for name, branch in self.spec.branches.items()}

    def _read(
        self, commands: Sequence[Command], query: ReportQuery
    ) -> Generator[Round, list[Answer], dict[str, dict[str, list[dict[str, Any]]]]]:
        """Send commands, and once more, one by one, those whose answer was too large for several branches.

        Raises:
            _SnapshotGone: If what is read at one time cannot be read at that time any more.
        """
        at = (yield from self._instant()) if query.consistent else None
        found: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in self.spec.branches}
        waiting = list(commands)
        while waiting:
            rounds = [waiting] if not query.alone else [[command] for command in waiting]
            waiting = []
            for together in rounds:
                answers = yield [self._command_read(command, at) for command in together]
                for command, answer in zip(together, answers, strict=True):
                    if isinstance(answer, Refused):
                        waiting += self._apart(command, answer.error, query)
                        continue
                    for part, rows in _dealt(command, answer):
                        found[part.branch][part.role] = rows
        return found

    def _instant(self) -> Generator[Round, list[Answer], Any]:
        """Ask for a time that everything can be read at.

        Raises:
            DeploymentError: If the server has none.
        """
        command = {
            "aggregate": self._collection,
            "pipeline": [{"$limit": 1}, {"$project": {"_id": 1}}],
            "cursor": {},
            "readConcern": {"level": "snapshot"},
            "comment": "mongopatterns.report.instant",
        }
        read = Read(self._collection, "command", {"command": command})
        [answer] = yield [read]
        if isinstance(answer, Refused):  # (the driver repeats other reads by itself, and not this one)
            [answer] = yield [read]
        if isinstance(answer, Refused):
            raise answer.error
        return answer[0]["cursor"]["atClusterTime"]

    def _apart(self, command: Command, error: OperationFailure | AutoReconnect, query: ReportQuery) -> list[Command]:
        """Return what to send in place of a command that was refused."""
        if isinstance(error, AutoReconnect):
            raise error
        if error.code in _SNAPSHOT_GONE:
            raise _SnapshotGone(error)
        if _is_metadata(command.parts[0]):  # (the server knows nothing of a view, or of what is not there)
            counted = replace(command.parts[0], stages=[{"$count": "n"}], apart="")
            return [self._command((counted,), "nobody may know it of the collection", query)]
        if len(command.parts) == 1:
            remedy = "narrow the filter, give it a limit or fewer fields, or take a coarser key"
            name = command.parts[0].branch
            raise ResultTooLarge(name, f"it holds more than the server puts into one answer: {remedy}") from error
        return [self._command((part,), "the answer was too large to be shared", query) for part in command.parts]

    def _command_read(self, command: Command, at: Any) -> Read:
        arguments: dict[str, Any] = {"pipeline": command.pipeline, "comment": "mongopatterns.report.run"}
        return Read(self._collection, "aggregate", arguments | self._options, at=at)

    # Which branches travel together ..............................................................................

    def _commands(self, query: ReportQuery) -> list[Command]:
        parts = [part for name in self.spec.branches for part in self._parts(name, query)]
        if self._strategy == "facet":
            # (a page repeats the filter, and the server looks for text at the start of a pipeline alone)
            shared_roles = (COUNT,) if "$text" in query.filter else (PAGE, COUNT)
            alone = [part for part in parts if part.apart and part.role not in shared_roles]
            alone += [part for part in parts if _is_metadata(part)]
            shared = [part for part in parts if part not in alone]
            commands = [self._command((part,), part.apart, query) for part in alone]
            return commands + ([self._command(tuple(shared), "asked for", query)] if shared else [])
        if self._strategy == "parallel":
            return [self._command((part,), "asked for", query) for part in parts]
        alone = [part for part in parts if part.apart]
        passes = _deal([part for part in parts if not part.apart], 1 if query.alone else PASSES)
        return [
            *(self._command((part,), part.apart, query) for part in alone),
            *(self._command(tuple(shared), _why(shared, len(passes)), query) for shared in passes),
        ]

    def _parts(self, name: str, query: ReportQuery) -> list[Part]:
        branch = self.spec.branches[name]
        if not isinstance(branch, PageOf):
            return parts_of(name, branch, query.params)
        page = query.pages[name]
        stages = self._pagers[name].stages(page)
        parts = [Part(name, PAGE, stages, apart="an index serves a page that is left alone")]
        count: list[dict[str, Any]] = [{"$match": bound}] if (bound := branch.filter.bound(query.params)) else []
        if branch.count == "estimated" and self._may_estimate(name, query):
            estimate: list[dict[str, Any]] = [
                {"$collStats": {"count": {}}},
                {"$group": {"_id": None, "n": {"$sum": "$count"}}},
            ]
            parts.append(Part(name, COUNT, estimate, apart="the server knows it of the collection"))
        elif isinstance(branch.count, Capped):
            capped: list[dict[str, Any]] = [*count, {"$limit": branch.count.at + 1}, {"$count": "n"}]
            parts.append(Part(name, COUNT, capped, apart="it stops early where it is left alone"))
        elif branch.count != "none":
            parts.append(Part(name, COUNT, [*count, {"$count": "n"}], weight=1))
        return parts

    def _may_estimate(self, name: str, query: ReportQuery) -> bool:
        """Tell whether all documents of the collection are counted, and it is not asked for those of one instant.

        (A transaction and a snapshot of the caller's are one; the first would end with the server's refusal.)
        """
        return not (query.pages[name].filter or self.spec.source or query.consistent or query.alone)

    def _command(self, parts: tuple[Part, ...], why: str, query: ReportQuery) -> Command:
        """Build one command, whose answer is one document."""
        source = [dict(stage) for stage in self.spec.source]
        head = [*source, *([{"$match": dict(query.filter)}] if query.filter else [])]
        if len(parts) == 1:
            [part] = parts
            before = source if part.role == PAGE else [] if _is_metadata(part) else head
            # ($push would make such a document, too, and a server breaks off when it is too large)
            whole: list[dict[str, Any]] = [{"$facet": {_ROWS: [{"$match": {}}]}}]
            return Command(parts, why, [*before, *part.stages, *whole])
        facets = {f"p{place}": part.stages for place, part in enumerate(parts)}
        return Command(parts, why, [*head, {"$facet": facets}])

    # What comes of it ............................................................................................

    def _told(self, name: str, branch: Branch, answers: Mapping[str, list[dict[str, Any]]], query: ReportQuery) -> Any:
        if isinstance(branch, PageOf):
            page = self._pagers[name].page(query.pages[name], answers[PAGE])
            items = [shown(item) for item in page.items]
            return ReportPage(items, page.next, page.previous, self._total(name, branch, answers.get(COUNT), query))
        span = Span()
        if isinstance(branch, TimeBuckets):
            span = Span.of(branch.path, query.filter, branch.filter.bound(query.params))
        return told(name, branch, answers, span, self._codec_options)

    def _total(self, name: str, branch: PageOf, rows: list[dict[str, Any]] | None, query: ReportQuery) -> Total | None:
        if rows is None:
            return None
        value = int(rows[0]["n"]) if rows else 0
        if isinstance(branch.count, Capped):
            return Total(min(value, branch.count.at), "at_least" if value > branch.count.at else "exact")
        return Total(value, "about" if branch.count == "estimated" and self._may_estimate(name, query) else "exact")

    def _explain(self, query: ReportQuery) -> Generator[Round, list[Answer], ReportExplanation]:
        [answer] = yield [Read(self._collection, "list_indexes", {}, apart=True)]
        findings: list[Finding] = []
        if not isinstance(answer, Refused):
            for name, page in query.pages.items():
                findings += self._pagers[name].unserved(page, answer)
            if any(not part.apart for name in self.spec.branches for part in self._parts(name, query)):
                findings += unserved(self._collection, [query.filter], answer)
        return ReportExplanation(
            self._strategy,
            tuple(ReportCommand(each.branches, each.why, each.pipeline) for each in self._commands(query)),
            tuple(dict.fromkeys(findings)),
        )


class _SnapshotGone(Exception):  # it is caught here
    """What was to be read at one time cannot be read at that time any more.

    Attributes:
        error: The driver's error.
    """

    def __init__(self, error: OperationFailure) -> None:
        super().__init__()
        self.error = error


def _check_cursors(cursors: object, pages: Mapping[str, Any]) -> Mapping[str, Any]:
    if cursors is None:
        return {}
    if not isinstance(cursors, Mapping):
        raise UsageError("cursors", f"expected a dict of cursors by branch, got {cursors!r:.100}")
    if unknown := [name for name in cursors if name not in pages]:
        raise UsageError("cursors", f"{unknown[0]!r} is no page of this report: it has {sorted(pages)}")
    return cursors


def _of_branch(name: str, error: UsageError) -> UsageError:
    """Say of which branch a cursor is refused; the kind of error, and what else it tells, stay."""
    error.args = (f"cursors: {name!r}: {str(error).removeprefix('cursor: ')}",)
    return error


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"$and": [one, other]} if one and other else one or other


def _is_metadata(part: Part) -> bool:
    """Tell whether a part asks the server what it knows of the collection, and reads no documents."""
    return part.role == COUNT and "$collStats" in part.stages[0]


def _asks_for_metadata(read: Read) -> bool:
    return any("$collStats" in stage for stage in read.arguments.get("pipeline", ())[:1])


def _deal(parts: Sequence[Part], passes: int) -> list[list[Part]]:
    """Deal parts to passes, so that none takes much longer than the others: the heaviest first."""
    dealt: list[list[Part]] = [[] for _ in range(passes)]
    for part in sorted(parts, key=lambda part: -part.weight):
        min(dealt, key=lambda each: sum(one.weight for one in each)).append(part)
    return [each for each in dealt if each]


def _why(parts: Sequence[Part], passes: int) -> str:
    beside = ", beside the other pass" if passes > 1 else ""
    return ("one pass for these branches" if len(parts) > 1 else "a pass for this branch") + beside


def _dealt(command: Command, answer: list[dict[str, Any]]) -> list[tuple[Part, list[dict[str, Any]]]]:
    """Say what each part was answered."""
    if len(command.parts) == 1:
        return [(command.parts[0], answer[0][_ROWS] if answer else [])]
    return [(part, answer[0][f"p{place}"]) for place, part in enumerate(command.parts)]
