"""What a schema sends, and what the answers mean. Pure: no client, no clock, no randomness.

A call is a generator that yields a round: steps that may be under way at the same time. It is sent their answers, in
order; an error of the server is an answer too.

To plan: one command for the collections of the spec, and one for the indexes of each that is there, eight at a time.
Only where something has to change, documents are counted, and what stands in its way is looked for.

To apply: what is planned is done, a change after the other. Others may do the same at the same moment, and so an error
(the index is there, the collection is there, the index is gone) leads to a new plan, which has only what is still to be
done. In the same way a plan that was interrupted is finished by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bson.codec_options import CodecOptions
from pymongo.errors import OperationFailure

from mongopatterns.calls import Call, again
from mongopatterns.errors import DeploymentError, SchemaDrift, UsageError
from mongopatterns.findings import Finding
from mongopatterns.indexes import Index
from mongopatterns.schema._changes import SchemaChange, SchemaChangeKind, SchemaPlan, SchemaProgress
from mongopatterns.schema._collection_spec import SchemaSpec
from mongopatterns.schema._merging import checked_limit, checked_order, merging
from mongopatterns.schema._schema_checks import COMMENT, answered, counting, question
from mongopatterns.schema._schema_diff import index_command, index_findings, spec_changes
from mongopatterns.schema._search_indexes import search_changes, search_question
from mongopatterns.schema._steps import AS_STORED, Nested, Pause, Round, Send, Steps, Tell, reply
from mongopatterns.schema._stored import StoredCollection, read_collections
from mongopatterns.schema._usage import usage_findings, usage_question, used

__all__ = ["SchemaPlanner"]

AT_ONCE: Final = 8
"""How many commands are under way at the same time: a pool of connections is shared with others."""

_OLDEST: Final = 13  # the wire version of MongoDB 5.0
_STRICT: Final = 323  # APIStrictError
_MOST_REPLIES: Final = 10_000  # of one answer; the server's own limit is 16 MB

# What tells that others change the same at this moment. A new plan has what is then still to be done.
_RACES: Final = frozenset(
    {
        26,  # NamespaceNotFound
        27,  # IndexNotFound
        48,  # NamespaceExists
        85,  # IndexOptionsConflict
        86,  # IndexKeySpecsConflict
        117,  # ConflictingOperationInProgress
        125,  # CommandFailed: the index was modified by another thread
        276,  # IndexBuildAborted
        11601,  # Interrupted, as index builds are by what was quicker
        12587,  # BackgroundOperationInProgressForNamespace
    }
)
# What is no matter of who else is there: credentials, time that is over, and a majority that does not answer.
_FINAL: Final = frozenset({13, 18, 50, 64, 100})
_MOST_OTHERS: Final = 2
"""How often a plan is made anew after any other error. It may tell of a change that somebody else has just made, like
a granularity that is coarser by now; or of documents, which the new plan looks for and tells."""

_MOST_RACES: Final = 60
_LONGEST_PAUSE: Final = 1.0
_FIRST_LOOK: Final = 0.05

# What others who change the same would make another plan of: if the plan stays the same, nobody else is at it.
_CONFLICTS: Final = frozenset({85, 86})
_MOST_SAME: Final = 2


@dataclass
class _Build:
    """An index that is being built, and whether that is over."""

    is_over: bool = False


class SchemaPlanner:
    """Say what is sent to plan, apply and verify a schema."""

    def __init__(self, spec: SchemaSpec, database: str, codec_options: CodecOptions[Any]) -> None:
        self.spec = spec
        self.database = database
        self._codec_options = codec_options

    again = staticmethod(again)

    # Calls .....................................................................................................

    def plan(self, *, drop_unknown: bool | Sequence[str], usage: bool) -> Call[Round]:
        """Plan, and look for what stands in the way."""
        return Call(self._plan(drop_unknown=_checked(drop_unknown), usage=usage, checks=True))

    def verify(self) -> Call[Round]:
        """Plan without looking at documents, and refuse a plan that has changes."""
        return Call(self._verify())

    def apply(
        self,
        plan: SchemaPlan | None,
        *,
        drop_unknown: bool | Sequence[str],
        drop: bool,
        on_progress: Callable[[SchemaProgress], Any] | None,
    ) -> Call[Round]:
        """Do what a plan says, until nothing is left to do."""
        if plan is not None and not isinstance(plan, SchemaPlan):
            raise UsageError("plan", f"expected what plan() returns, or None, got {plan!r:.100}")
        if plan is not None and drop_unknown:
            raise UsageError("drop_unknown", "the plan says what is dropped: give drop_unknown= to plan()")
        names = _checked(drop_unknown) if plan is None else plan.drop_unknown
        return Call(self._apply(plan, names, drop=drop, on_progress=on_progress))

    def merge_duplicates(
        self, collection: str, index: Index, *, keep: Sequence[tuple[str, int]], limit: int
    ) -> Call[Round]:
        """Keep one document of each value that is to be unique."""
        stored = next((spec for spec in self.spec.collections if spec.collection == collection), None)
        if stored is None:
            raise UsageError("collection", f"{collection!r:.100} is not of this schema")
        if not isinstance(index, Index):
            raise UsageError("index", f"expected Index(...), got {index!r:.100}")
        order, most = checked_order(keep), checked_limit(limit)
        return Call(merging(collection, index, order, most, stored.collation, codec_options=self._codec_options))

    @staticmethod
    def database_of(step: Any, own: Any) -> Any:
        """Return the database that a command is sent to."""
        return own.client.get_database(step.database) if step.database else own

    def codec_options_of(self, step: Send) -> CodecOptions[Any]:
        """Return how the reply to a command is read."""
        return AS_STORED if step.raw else self._codec_options

    # Planned ...................................................................................................

    def _verify(self) -> Steps[SchemaPlan]:
        plan = yield from self._plan(drop_unknown=False, usage=False, checks=False)
        if plan:
            raise SchemaDrift(plan)
        return plan

    def _plan(self, *, drop_unknown: bool | tuple[str, ...], usage: bool, checks: bool) -> Steps[SchemaPlan]:
        wire, stored = yield from self._stored()
        changes: list[SchemaChange] = []
        findings: list[Finding] = []
        for spec in self.spec.collections:
            needs = self.spec.needs.get(spec.collection, ())
            there = stored.get(spec.collection)
            these = spec_changes(spec, there, needs=needs, wire=wire, drop_unknown=drop_unknown)
            changes += these
            findings += index_findings(spec, there, needs=needs, going=_going(these))
        searched, told = yield from self._search()
        changes += searched
        findings += told
        changes = _ordered(changes)
        if checks:
            changes, told = yield from self._examined(changes)
            findings += told
            changes, told = yield from self._use(changes, stored, usage=usage)
            findings += told
        return SchemaPlan(self.database, tuple(changes), tuple(findings), drop_unknown)

    def _stored(self) -> Steps[tuple[int, dict[str, StoredCollection]]]:
        names = [spec.collection for spec in self.spec.collections]
        listing = {"listCollections": 1, "filter": {"name": {"$in": names}}, "cursor": {"batchSize": _MOST_REPLIES}}
        hello, collections = yield from _all([{"hello": 1}, listing])
        wire = reply(hello)["maxWireVersion"]
        if wire < _OLDEST:
            raise DeploymentError("this server is older than MongoDB 5.0, which mongopatterns needs")
        listed = reply(collections)["cursor"]["firstBatch"]
        there = [one["name"] for one in listed if one.get("type") != "view"]
        answers = yield from self._indexes(there)
        # (one that is gone by now has no indexes: whoever dropped it is in a race with this)
        found = {
            name: reply(answer)["cursor"]["firstBatch"] if _is_there(answer) else []
            for name, answer in zip(there, answers, strict=True)
        }
        return wire, read_collections(listed, found)

    def _indexes(self, names: Sequence[str]) -> Steps[list[Any]]:
        """Ask for the indexes of collections, and which of them are still being built.

        Without the option the server lists these like others; under a strict API it knows no such option.
        """
        asked = [{"listIndexes": name, "cursor": {"batchSize": _MOST_REPLIES}} for name in names]
        answers = yield from _all([{**one, "includeBuildUUIDs": True} for one in asked])
        strict = [place for place, one in enumerate(answers) if getattr(one, "code", None) == _STRICT]
        again = yield from _all([asked[place] for place in strict])
        for place, answer in zip(strict, again, strict=True):
            answers[place] = answer
        return answers

    def _search(self) -> Steps[tuple[list[SchemaChange], list[Finding]]]:
        specs = [spec for spec in self.spec.collections if spec.search_indexes]
        answers = yield from _all([search_question(spec.collection) for spec in specs])
        changes: list[SchemaChange] = []
        findings: list[Finding] = []
        for spec, answer in zip(specs, answers, strict=True):
            these, told = search_changes(spec, answer)
            changes += these
            findings += told
        return changes, findings

    def _examined(self, changes: Sequence[SchemaChange]) -> Steps[tuple[list[SchemaChange], list[Finding]]]:
        """Count the documents of the collections that change, and look for what stands in the way."""
        counted = list(dict.fromkeys(one.collection for one in changes if not one.cost or one.check is not None))
        asked = [change for change in changes if change.check is not None]
        questions = [question(one.collection, one.check) for one in asked if one.check is not None]
        answers = yield from _all([*(counting(name) for name in counted), *questions])
        numbers = {name: _number(answer) for name, answer in zip(counted, answers, strict=False)}
        verdicts = dict(zip(map(id, asked), answers[len(counted) :], strict=True))
        findings: list[Finding] = []
        examined = []
        for change in changes:
            result, found = change, None
            if id(change) in verdicts:
                result, found = answered(change, verdicts[id(change)])
            examined.append(result if result.cost else replace(result, cost=_cost(numbers[change.collection])))
            findings += [found] if found is not None else []
        return examined, findings

    def _use(
        self, changes: Sequence[SchemaChange], stored: Mapping[str, StoredCollection], *, usage: bool
    ) -> Steps[tuple[list[SchemaChange], list[Finding]]]:
        """Look at how often indexes are used: those that are about to go, or all."""
        going = {one.collection for one in changes if one.kind is SchemaChangeKind.DROP_INDEX}
        names = [name for name, one in stored.items() if one.kind != "view" and (usage or name in going)]
        answers = yield from _all([usage_question(name) for name in names])
        uses = {name: used(answer) for name, answer in zip(names, answers, strict=True)}
        told = [found for name in names if usage for found in usage_findings(stored[name], uses[name])]
        changed = [_with_use(one, uses.get(one.collection, {})) for one in changes]
        return changed, told

    # Applied ...................................................................................................

    def _apply(
        self,
        given: SchemaPlan | None,
        drop_unknown: bool | tuple[str, ...],  # noqa: FBT001
        *,
        drop: bool,
        on_progress: Callable[[SchemaProgress], Any] | None,
    ) -> Steps[SchemaPlan]:
        allowed = None if given is None else {one for change in given.changes for one in _parts(change)}
        if given is not None and given.blocked:
            raise SchemaDrift(given)
        done: list[SchemaChange] = []
        met: list[int] = []
        before: list[Any] = []
        same = 0
        while True:
            # (what a given plan has looked at is looked at again only when the server has refused it)
            plan = yield from self._plan(drop_unknown=drop_unknown, usage=False, checks=given is None or bool(met))
            changes = [one for one in plan.changes if drop or one.kind is not SchemaChangeKind.DROP_INDEX]
            if plan.blocked or (allowed is not None and any(one.identity not in allowed for one in changes)):
                raise SchemaDrift(plan)
            refused = yield from self._carry_out(changes, done, on_progress)
            if refused is None:
                return replace(plan, changes=tuple(done))
            code = refused.code or 0
            most = 0 if code in _FINAL else _MOST_RACES if code in _RACES else _MOST_OTHERS
            tried = [code, *((one.identity, one.commands) for one in changes)]
            same = same + 1 if code in _CONFLICTS and tried == before else 0
            if len(met) >= _MOST_RACES or met.count(code) >= most or same >= _MOST_SAME:
                raise refused
            before = tried
            met.append(code)
            yield [Pause(min(0.02 * 2 ** min(len(met), 8), _LONGEST_PAUSE))]

    def _carry_out(
        self,
        changes: Sequence[SchemaChange],
        done: list[SchemaChange],
        on_progress: Callable[[SchemaProgress], Any] | None,
    ) -> Steps[OperationFailure | None]:
        """Make changes one after the other, until one is refused."""
        number = 1
        for group in _groups(changes):
            started = [SchemaProgress(one, number + place, len(changes), "started") for place, one in enumerate(group)]
            yield from _told(on_progress, started)
            for command in _merged(group):
                answer = yield from self._sent(command, replace(started[0], state="running"), on_progress)
                if isinstance(answer, OperationFailure):
                    yield from _all(group[0].undo)
                    return answer
            done += group
            number += len(group)
            yield from _told(on_progress, [replace(one, state="done", done=1.0) for one in started])
        return None

    def _sent(
        self,
        command: Mapping[str, Any],
        progress: SchemaProgress,
        on_progress: Callable[[SchemaProgress], Any] | None,
    ) -> Steps[Any]:
        """Send a command; while it builds an index, and somebody listens, ask the server how far it is."""
        if on_progress is None or "createIndexes" not in command:
            (answer,) = yield [Send(command)]
            return answer
        build = _Build()
        answer, _ = yield [
            Nested(lambda: Call(_built(command, build))),
            Nested(lambda: Call(self._watched(command["createIndexes"], build, progress, on_progress))),
        ]
        return answer

    def _watched(
        self, collection: str, build: _Build, progress: SchemaProgress, on_progress: Callable[[SchemaProgress], Any]
    ) -> Steps[None]:
        stages = [
            {"$currentOp": {"allUsers": True}},
            {
                "$match": {
                    "command.createIndexes": collection,
                    "command.$db": self.database,
                    "progress.total": {"$gt": 0},
                }
            },
            {"$project": {"done": {"$divide": ["$progress.done", "$progress.total"]}}},
        ]
        look = {"aggregate": 1, "pipeline": stages, "cursor": {}, "comment": "mongopatterns.schema.apply"}
        pause = _FIRST_LOOK
        while True:
            yield [Pause(pause)]
            if build.is_over:
                return
            pause = min(pause * 2, _LONGEST_PAUSE)
            (answer,) = yield [Send(look, database="admin")]
            if isinstance(answer, OperationFailure):
                return  # whoever may not look is told of the beginning and of the end
            for found in answer["cursor"]["firstBatch"][:1]:
                yield [Tell(on_progress, replace(progress, done=found["done"]))]


def _told(listener: Callable[[SchemaProgress], Any] | None, told: Sequence[SchemaProgress]) -> Steps[None]:
    for one in told if listener is not None else ():
        yield [Tell(listener, one)]  # type: ignore[arg-type]  # (there is nothing to tell without one)


def _built(command: Mapping[str, Any], build: _Build) -> Steps[Any]:
    try:
        (answer,) = yield [Send(command)]
        return answer
    finally:
        build.is_over = True


# Parts -------------------------------------------------------------------------------------------------------


def _checked(drop_unknown: bool | Sequence[str]) -> bool | tuple[str, ...]:  # noqa: FBT001
    if isinstance(drop_unknown, bool):
        return drop_unknown
    if isinstance(drop_unknown, (str, bytes, Mapping)) or not isinstance(drop_unknown, Sequence):
        raise UsageError(
            "drop_unknown", f"expected True, False or names such as ['users.age_1'], got {drop_unknown!r:.100}"
        )
    for name in drop_unknown:
        if not isinstance(name, str) or "." not in name:
            raise UsageError("drop_unknown", f"expected 'collection.index', such as 'users.age_1', got {name!r:.100}")
    return tuple(drop_unknown)


def _all(commands: Sequence[Mapping[str, Any]]) -> Steps[list[Any]]:
    """Send commands, a few at the same time."""
    answers: list[Any] = []
    for start in range(0, len(commands), AT_ONCE):
        steps = [Send({**one, "comment": one.get("comment", COMMENT)}) for one in commands[start : start + AT_ONCE]]
        answers += yield list(steps)
    return answers


def _is_there(answer: Any) -> bool:
    return not (isinstance(answer, OperationFailure) and answer.code == 26)  # noqa: PLR2004  # NamespaceNotFound


def _number(answer: Any) -> int | None:
    return None if isinstance(answer, OperationFailure) else int(answer["n"])


def _cost(number: int | None) -> str:
    read = "every document" if number is None else "1 document" if number == 1 else f"{number:,} documents"
    return f"reads {read}; writes go on meanwhile, and wait at its beginning and end"


def _going(changes: Sequence[SchemaChange]) -> list[str]:
    """Name the indexes that are about to be dropped or changed."""
    named = [one["index"] for change in changes for one in change.commands if "index" in one]
    return [one["name"] if isinstance(one, Mapping) else one for one in named]


def _ordered(changes: Sequence[SchemaChange]) -> list[SchemaChange]:
    """Sort by what is safe first, collection by collection within that."""
    return sorted(changes, key=lambda change: list(SchemaChangeKind).index(change.kind))


def _with_use(change: SchemaChange, uses: Mapping[str, str]) -> SchemaChange:
    if change.kind is not SchemaChangeKind.DROP_INDEX:
        return change
    use = uses.get(change.commands[0]["index"])
    return change if use is None else replace(change, risk=f"{use}; {change.risk}")


def _parts(change: SchemaChange) -> list[tuple[str, str, str]]:
    """Return what may be left to do of a change: of a replaced index, whose old one is gone, that it is built."""
    half = (
        [replace(change, kind=SchemaChangeKind.CREATE_INDEX)] if change.kind is SchemaChangeKind.REPLACE_INDEX else []
    )
    return [one.identity for one in (change, *half)]


def _groups(changes: Sequence[SchemaChange]) -> list[list[SchemaChange]]:
    """Put indexes of one collection together that are built one after the other: one build reads the documents once."""
    groups: list[list[SchemaChange]] = []
    for change in changes:
        last = groups[-1][-1] if groups else None
        alike = last is not None and last.kind is change.kind is SchemaChangeKind.CREATE_INDEX
        if alike and last is not None and last.collection == change.collection:
            groups[-1].append(change)
        else:
            groups.append([change])
    return groups


def _merged(group: Sequence[SchemaChange]) -> list[Mapping[str, Any]]:
    if len(group) == 1:
        return list(group[0].commands)
    definitions = [index for change in group for command in change.commands for index in command["indexes"]]
    return [index_command(group[0].collection, definitions)]
