"""What has to change, given what a spec says and what is there. Pure.

The order of the changes is the order in which they are safe: collections are created, options changed in place, then
indexes changed or built; what they replace is hidden and dropped when the new ones are there. Only where the server
does not take a new index beside the old one, the old one goes first.

**What goes by itself is what the new index does as well, or better.** A plain index on exactly the keys of one that a
spec says, with all documents, is one that was replaced. Everything else that the spec does not say is reported, and
stays unless the caller says otherwise: an index on other keys; and one on the same keys that keeps values unique,
leaves documents out, deletes them, or compares text otherwise, because nobody knows who relies on that. What a pattern
needs only to find documents replaces nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from mongopatterns.findings import Finding, Severity
from mongopatterns.indexes import Index
from mongopatterns.schema._changes import Duplicates, SchemaChange, SchemaChangeKind
from mongopatterns.schema._collection_spec import CollectionSpec
from mongopatterns.schema._options_diff import Command, command, creation, options_changes
from mongopatterns.schema._stored import Meaning, StoredCollection, StoredIndex, default_name, fitted, meaning_of

__all__ = ["index_command", "index_findings", "matched", "spec_changes"]

_PREPARES_UNIQUE: Final = 17  # the wire version of MongoDB 6.0, which makes an index unique, or a TTL one, in place

_METADATA: Final = "metadata alone"
_NEW: Final = "nothing to read: the collection is new"


def spec_changes(
    spec: CollectionSpec,
    stored: StoredCollection | None,
    *,
    needs: Iterable[Index] = (),
    wire: int,
    drop_unknown: bool | Sequence[str] = False,
) -> list[SchemaChange]:
    """List what has to change in one collection.

    Args:
        spec: What it should be.
        stored: What it is; None if it is not there.
        needs: Those of the spec's indexes that any other may stand for that begins with their keys.
        wire: The server's wire version.
        drop_unknown: Whether indexes go that are not the spec's: all, or those named `collection.index`.
    """
    if stored is None:
        created = SchemaChange(SchemaChangeKind.CREATE_COLLECTION, spec.collection, _described(spec), _METADATA)
        names: set[str] = set()
        built = (_built(spec, index, _name(index, names), spec.collation, cost=_NEW) for index in spec.indexes)
        return [replace(created, commands=(creation(spec),)), *built]
    changes = options_changes(spec, stored, wire)
    if any(change.blocked is not None and change.blocked.code == "wrong-kind" for change in changes):
        return changes
    return [*changes, *_index_changes(spec, stored, frozenset(needs), wire, drop_unknown)]


def matched(spec: CollectionSpec, stored: StoredCollection, needs: Iterable[Index] = ()) -> dict[Index, StoredIndex]:
    """Return the stored index that is each of a spec's indexes, or stands for it, and is built."""
    default = stored.options.get("collation")
    found: dict[Index, StoredIndex] = {}
    taken: dict[StoredIndex, Meaning] = {}
    # What says most of its collation chooses first, because others leave to the locale what it says.
    for index in sorted(spec.indexes, key=lambda one: -len(one.collation or ())):
        meaning = meaning_of(index, default)
        fit = [
            one
            for one in stored.indexes
            if fitted(one.meaning, index) == meaning
            and taken.get(one, meaning) == meaning
            and not one.building
            and not (one.preparing and not index.unique)
        ]
        # (the one that is so to the letter, if there is one)
        for one in sorted(fit, key=lambda one: one.meaning != meaning)[:1]:
            found[index] = one
            taken[one] = meaning
    for index in needs:
        for one in standing(stored, [index]):
            found.setdefault(index, one)
    return {index: found[index] for index in spec.indexes if index in found}


def standing(stored: StoredCollection, needs: Iterable[Index]) -> list[StoredIndex]:
    """List the stored indexes that can stand for what patterns need to find documents."""
    wanted = [meaning_of(index, stored.options.get("collation")) for index in needs]
    return [one for one in stored.indexes if any(_stands_for(one.meaning, meaning) for meaning in wanted)]


def _stands_for(stored: Meaning, needed: Meaning) -> bool:
    complete = not (stored.where or stored.sparse or stored.hidden or stored.weights or stored.projection)
    same = stored.collation == needed.collation
    return complete and same and stored.keys[: len(needed.keys)] == needed.keys


# Changed -----------------------------------------------------------------------------------------------------


def _index_changes(
    spec: CollectionSpec,
    stored: StoredCollection,
    needs: frozenset[Index],
    wire: int,
    drop_unknown: bool | Sequence[str],  # noqa: FBT001  # (as the caller gives it)
) -> list[SchemaChange]:
    default = stored.options.get("collation")
    found = matched(spec, stored, needs)
    stand = standing(stored, needs)
    building = [one for one in stored.indexes if one.building]
    left = [one for one in stored.indexes if one not in found.values() and not (one.is_own or one.building)]
    names = {one.name for one in stored.indexes}
    changes: list[SchemaChange] = []
    for index in spec.indexes:
        if index in found:
            continue
        meaning = meaning_of(index, default)
        if awaited := [one for one in building if fitted(one.meaning, index) == meaning]:
            changes.append(_awaited(_built(spec, index, awaited[0].name, default)))
            continue
        old = [one for one in left if one.meaning.place == meaning.place]
        if index in needs:  # (whatever else it does, an index that is only hidden is shown again)
            old = [one for one in old if one.meaning.signature == meaning.signature]
            meaning = replace(meaning, expire_after=old[0].meaning.expire_after if old else None)
        if (change := _in_place(spec, index, meaning, old, wire=wire, default=default)) is not None:
            changed, used = change
            changes.append(changed)
            left.remove(used)
            continue
        conflicting = [one for one in old if fitted(one.meaning, index).signature == meaning.signature]
        new = _built(spec, index, _name(index, names), default)
        if conflicting:
            changes.append(_replacement(new, index, conflicting[0]))
            left.remove(conflicting[0])
        else:
            less = [one for one in old if index not in needs and one not in stand and _does_less(one, index, meaning)]
            changes.append(replace(new, risk=_beside(new.risk, less)))
    left = [one for one in left if one not in stand]
    said = [(index, meaning_of(index, default)) for index in spec.indexes if index not in needs]
    replaced = [one for one in left if any(_does_less(one, index, meaning) for index, meaning in said)]
    unknown = [one for one in left if one not in replaced and _is_named(spec, one, drop_unknown)]
    order = [SchemaChangeKind.REPLACE_INDEX, SchemaChangeKind.CHANGE_INDEX, SchemaChangeKind.CREATE_INDEX]
    changes.sort(key=lambda change: order.index(change.kind))
    gone = [*((one, True) for one in replaced), *((one, False) for one in unknown)]
    changes += [_hidden(spec, one) for one, _ in gone if not one.meaning.hidden]
    return [*changes, *(_dropped(spec, one, is_replaced=is_replaced) for one, is_replaced in gone)]


def _does_less(one: StoredIndex, index: Index, meaning: Meaning) -> bool:
    """Tell whether a stored index is a plain one on the keys of another: nobody needs it for more than to find by."""
    has = fitted(one.meaning, index)
    more = has.unique or has.sparse or has.where or has.projection or has.weights or has.expire_after is not None
    return not more and has.place == meaning.place and has.collation == meaning.collation


def _is_named(spec: CollectionSpec, one: StoredIndex, drop_unknown: bool | Sequence[str]) -> bool:  # noqa: FBT001
    return drop_unknown if isinstance(drop_unknown, bool) else f"{spec.collection}.{one.name}" in drop_unknown


def _in_place(
    spec: CollectionSpec,
    index: Index,
    wanted: Meaning,
    old: Sequence[StoredIndex],
    *,
    wire: int,
    default: Mapping[str, Any] | None,
) -> tuple[SchemaChange, StoredIndex] | None:
    """Change an index that is there, if the server can."""
    for one in old:
        seen = fitted(one.meaning, index)
        is_other = replace(seen, hidden=wanted.hidden, expire_after=wanted.expire_after, unique=wanted.unique)
        becomes_ttl = one.meaning.expire_after is None and wanted.expire_after is not None
        forgets_ttl = one.meaning.expire_after is not None and wanted.expire_after is None
        becomes_unique = wanted.unique and not one.meaning.unique
        is_ordered = wanted.weights is None and all(kind in (1, -1) for _, kind in wanted.keys)
        forgets_unique = one.meaning.unique and not wanted.unique
        if is_other != wanted or forgets_ttl or forgets_unique:
            continue
        if (becomes_unique and not is_ordered) or (wire < _PREPARES_UNIQUE and (becomes_ttl or becomes_unique)):
            continue
        return _changed(spec, index, wanted, one, default), one
    return None


def _changed(
    spec: CollectionSpec, index: Index, wanted: Meaning, one: StoredIndex, default: Mapping[str, Any] | None
) -> SchemaChange:
    becomes_unique = wanted.unique and not one.meaning.unique
    was, risks, sent = [], [], []

    def modify(**options: Any) -> Command:
        return command("collMod", spec.collection, index={"name": one.name, **options})

    if one.preparing and not wanted.unique:
        was.append("refuses equal values")
        sent.append(modify(prepareUnique=False))
    if becomes_unique:
        was.append("not unique")
        risks.append("from the first moment, writes that would store a second equal value fail")
        sent += [modify(prepareUnique=True), modify(unique=True)]
    if one.meaning.expire_after != wanted.expire_after:
        was.append(_expiry(one.meaning.expire_after))
        risks.append(f"what is older than {wanted.expire_after} s is deleted within a minute or so")
        sent.append(modify(expireAfterSeconds=wanted.expire_after))
    if one.meaning.hidden != wanted.hidden:
        was.append("hidden" if one.meaning.hidden else "not hidden")
        risks.append("queries that use it read more" if wanted.hidden else "")
        sent.append(modify(hidden=wanted.hidden))
    return SchemaChange(
        SchemaChangeKind.CHANGE_INDEX,
        spec.collection,
        repr(index),
        "reads the index once; writes go on meanwhile" if becomes_unique else _METADATA,
        "; ".join(filter(None, risks)),
        commands=tuple(sent),
        was=", ".join(was),
        undo=(modify(prepareUnique=False),) if becomes_unique else (),
        check=Duplicates(index, index.collation or default) if becomes_unique else None,
    )


def _expiry(seconds: int | None) -> str:
    return "deletes nothing" if seconds is None else f"deletes after {seconds} s"


# Built -------------------------------------------------------------------------------------------------------


def index_command(collection: str, indexes: Iterable[Mapping[str, Any]]) -> Command:
    """Build the command that builds indexes."""
    return command("createIndexes", collection, indexes=list(indexes))


def _built(
    spec: CollectionSpec, index: Index, name: str, default: Mapping[str, Any] | None, *, cost: str = ""
) -> SchemaChange:
    # Words are compared by their language, so that an index of text does not take the collection's collation over.
    simple = {"collation": {"locale": "simple"}} if index.is_text and default else {}
    definition = {"key": dict(index.keys), **index.options, **simple, "name": name}
    risks = []
    if index.expire_after is not None and not cost:
        risks.append(f"what is older than {index.expire_after} s is deleted within a minute or so")
    if index.unique and not cost:
        risks.append("writes that would store a second equal value fail from then on")
    return SchemaChange(
        SchemaChangeKind.CREATE_INDEX,
        spec.collection,
        repr(index),
        cost,
        "; ".join(risks),
        commands=(index_command(spec.collection, [definition]),),
        check=Duplicates(index, index.collation or default) if index.unique and not cost else None,
    )


def _awaited(built: SchemaChange) -> SchemaChange:
    """Wait for an index that somebody else is building: the same command is answered when that is over."""
    return replace(built, cost="it is being built already: waits until that is over", check=None)


def _replacement(built: SchemaChange, index: Index, one: StoredIndex) -> SchemaChange:
    """Let an index go before the one that replaces it: the server takes no other with the same keys."""
    reason = "a collection has one index of text" if index.is_text else "the server takes no second one on these keys"
    risk = f"{reason}, so {one.name!r} goes first: until the new one is built, queries read more"
    if one.meaning.expire_after is not None and index.expire_after is None:
        risk = f"{risk}, and nothing is deleted by it any more"
    if one.meaning.unique:
        risk = f"{risk}, and equal values are taken"
    drop = command("dropIndexes", built.collection, index=one.name)
    return replace(
        built, kind=SchemaChangeKind.REPLACE_INDEX, risk=_joined(risk, built.risk), commands=(drop, *built.commands)
    )


def _beside(risk: str, old: Sequence[StoredIndex]) -> str:
    return _joined(risk, f"built beside {', '.join(repr(one.name) for one in old)}, which it replaces" if old else "")


def _hidden(spec: CollectionSpec, one: StoredIndex) -> SchemaChange:
    hide = command("collMod", spec.collection, index={"name": one.name, "hidden": True})
    risk = "queries that use it read more; to show it again takes one command"
    return SchemaChange(
        SchemaChangeKind.HIDE_INDEX, spec.collection, f"{one} {one.name!r}", _METADATA, risk, commands=(hide,)
    )


def _dropped(spec: CollectionSpec, one: StoredIndex, *, is_replaced: bool) -> SchemaChange:
    reason = "replaced" if is_replaced else "named by no spec"
    risk = "to have it again, it must be built again"
    if one.meaning.unique:
        risk = f"{risk}; what it kept unique is not any more, unless another index does"
    drop = command("dropIndexes", spec.collection, index=one.name)
    what = f"{one} {one.name!r}: {reason}"
    return SchemaChange(SchemaChangeKind.DROP_INDEX, spec.collection, what, _METADATA, risk, commands=(drop,))


def _name(index: Index, names: set[str]) -> str:
    """Choose a name that no index of the collection has, also none that is about to go: others may still drop it."""
    wanted = index.name or default_name(index)
    name, number = wanted, 1
    while name in names:
        number += 1
        name = f"{wanted}_{number}"
    names.add(name)
    return name


def _described(spec: CollectionSpec) -> str:
    kinds = []
    if spec.timeseries is not None:
        kinds.append("time series")
    if spec.capped_size is not None:
        kinds.append("capped")
    if spec.clustered:
        kinds.append("clustered")
    if spec.validator is not None:
        kinds.append(f"validator ({spec.validator.level}, {spec.validator.action})")
    return ", ".join(kinds) or "without options"


def _joined(*risks: str) -> str:
    return "; ".join(filter(None, risks))


# Found -------------------------------------------------------------------------------------------------------


def index_findings(
    spec: CollectionSpec,
    stored: StoredCollection | None,
    *,
    needs: Iterable[Index] = (),
    going: Iterable[str] = (),
) -> Iterator[Finding]:
    """Give advice on the indexes of a collection.

    Args:
        spec: What it should be.
        stored: What it is; None if it is not there.
        needs: Those of the spec's indexes that others may stand for.
        going: The names of indexes that are about to be dropped or changed.
    """
    default = spec.collation if stored is None else stored.options.get("collation")
    needed = frozenset(needs)
    found = {} if stored is None else matched(spec, stored, needed)
    known = {*found.values(), *(() if stored is None else standing(stored, needed))}
    subject = spec.collection
    for index, one in found.items():
        if index.name not in (None, one.name):
            evidence = f"{index} is there under the name {one.name!r}, not {index.name!r}"
            yield _advice("index-name", subject, evidence, "An index cannot be renamed: give hints by its keys")
    unknown = [
        one
        for one in (() if stored is None else stored.indexes)
        if one not in known and not (one.is_own or one.building) and one.name not in going
    ]
    yield from _nullable(spec)
    places = {meaning_of(index, default).place for index in spec.indexes if index not in needed}
    for one in unknown:
        if one.meaning.place in places:
            evidence = f"{one} {one.name!r} has the keys of an index of the spec, and other options"
            yield _advice("other-options", subject, evidence, "Add it to the spec, or drop it with drop_unknown=")
        else:
            evidence = f"{one} {one.name!r} is named by no spec"
            yield _advice("unknown-index", subject, evidence, "Add it to the spec, or drop it with drop_unknown=")
    there = [(str(index), meaning_of(index, default)) for index in spec.indexes]
    there += [(f"{one} {one.name!r}", one.meaning) for one in unknown]
    for written, meaning in there:
        for other, longer in there:
            if _is_redundant(meaning, longer):
                evidence = f"{written} begins {other}, which serves the same queries"
                remedy = "Leave it out: each index costs memory, and time with every write"
                yield _advice("redundant-index", subject, evidence, remedy)
                break


def _nullable(spec: CollectionSpec) -> Iterator[Finding]:
    """Name the unique indexes over a field that, by the validator, may be missing or null."""
    schema = {} if spec.validator is None else spec.validator.expression.get("$jsonSchema", {})
    required, properties = schema.get("required", ()), schema.get("properties", {})
    for index in spec.indexes:
        path = index.keys[0][0]
        if not index.unique or index.where is not None or len(index.keys) > 1 or path not in properties:
            continue
        types = properties[path].get("bsonType", ())
        if path not in required or "null" in ([types] if isinstance(types, str) else types):
            evidence = (
                f"{index} is unique, and by the validator {path!r} may be missing or null, in one document at most"
            )
            remedy = (
                f"Keep those apart that have one: where={{{path!r}: {{'$type': 'string'}}}}, or whatever type it has"
            )
            yield Finding("unique-nullable", Severity.WARNING, spec.collection, evidence, remedy)


def _is_redundant(one: Meaning, longer: Meaning) -> bool:
    plain = not (one.unique or one.weights or one.hidden or longer.hidden or longer.weights)
    same = (one.sparse, one.where, one.collation, one.projection) == (
        longer.sparse,
        longer.where,
        longer.collation,
        longer.projection,
    )
    # (a hash finds what it is equal to, and a place is found by an index of places alone)
    ordered = all(kind in (1, -1) for _, kind in one.keys)
    begins = longer.keys[: len(one.keys)] == one.keys and (len(longer.keys) > len(one.keys) or longer.unique)
    return plain and same and ordered and begins and one.expire_after is None and one is not longer


def _advice(code: str, subject: str, evidence: str, remedy: str) -> Finding:
    return Finding(code, Severity.INFO, subject, evidence, remedy)
