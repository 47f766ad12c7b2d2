"""What has to change of a collection beside its indexes, and how it is created. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from mongopatterns.errors import UsageError
from mongopatterns.expressions import bson_identity
from mongopatterns.findings import Finding, Severity
from mongopatterns.schema._changes import SchemaChange, SchemaChangeKind, Violations
from mongopatterns.schema._collection_spec import CollectionSpec, TimeSeries
from mongopatterns.schema._stored import StoredCollection, collation_meaning, fitted_collation

__all__ = ["Command", "command", "creation", "options_changes"]

Command: TypeAlias = dict[str, Any]

_RESIZES: Final = 17  # the wire version of MongoDB 6.0, which changes the size of a capped collection
_GRANULARITIES: Final = ("seconds", "minutes", "hours")
_ROUNDED: Final = 256  # the server rounds the size of a capped collection up to a multiple of this

_METADATA: Final = "metadata alone"


def command(name: str, collection: str, **arguments: Any) -> Command:
    """Build a command that changes something: what is acknowledged stays."""
    return {
        name: collection,
        **arguments,
        "writeConcern": {"w": "majority"},
        "comment": "mongopatterns.schema.apply",
    }


def creation(spec: CollectionSpec) -> Command:
    """Build the command that creates a collection."""
    options: dict[str, Any] = dict(spec.options)
    if spec.validator is not None:
        options |= spec.validator.options
    if spec.timeseries is not None:
        series = spec.timeseries
        meta = {} if series.meta is None else {"metaField": series.meta}
        grain = {} if series.granularity is None else {"granularity": series.granularity}
        options["timeseries"] = {"timeField": series.time, **meta, **grain}
    if spec.seconds is not None:
        options["expireAfterSeconds"] = spec.seconds
    if spec.collation is not None:
        options["collation"] = dict(spec.collation)
    if spec.capped_size is not None:
        options |= {"capped": True, "size": spec.capped_size}
    if spec.capped_max is not None:
        options["max"] = spec.capped_max
    if spec.clustered:
        options["clusteredIndex"] = {"key": {"_id": 1}, "unique": True}
    if spec.pre_and_post_images is not None:
        options["changeStreamPreAndPostImages"] = {"enabled": spec.pre_and_post_images}
    return command("create", spec.collection, **options)


def options_changes(spec: CollectionSpec, stored: StoredCollection, wire: int) -> list[SchemaChange]:
    """List what has to change of a collection that is there, beside its indexes."""
    if (kind := _wrong_kind(spec, stored)) is not None:
        return [kind]
    return [*_fixed(spec, stored), *_series(spec, stored), *_adjustable(spec, stored, wire), *_validator(spec, stored)]


def _wrong_kind(spec: CollectionSpec, stored: StoredCollection) -> SchemaChange | None:
    wanted = "collection" if spec.timeseries is None else "timeseries"
    if stored.kind == "view":
        remedy = "Name the collection that it reads, or drop the view"
        return _blocked(spec, "is a view", "wrong-kind", "a view with this name is there", remedy)
    if wanted == stored.kind or (spec.timeseries is None and not spec.options and _says_nothing(spec)):
        return _unfit_indexes(spec, stored)
    names = {"collection": "an ordinary collection", "timeseries": "a time-series collection"}
    evidence = f"{names.get(stored.kind, stored.kind)} with this name is there, and the spec says {names[wanted]}"
    remedy = "Copy its documents into a collection of the other kind, and rename that"
    return _blocked(spec, f"becomes {names[wanted]}", "wrong-kind", evidence, remedy)


def _unfit_indexes(spec: CollectionSpec, stored: StoredCollection) -> SchemaChange | None:
    """Refuse the indexes that a collection of its kind cannot have, where the spec does not say what kind it is."""
    try:
        if stored.kind == "timeseries" and spec.timeseries is None:
            fields = stored.options["timeseries"]
            replace(spec, timeseries=TimeSeries(fields["timeField"], fields.get("metaField")), expire_after=None)
        if stored.options.get("capped"):
            replace(spec, capped_size=1, clustered=False, expire_after=None)
    except UsageError as error:
        remedy = "Leave it out, or copy the documents into a collection of another kind"
        return _blocked(spec, "gets an index that it cannot have", "wrong-kind", str(error), remedy)
    return None


def _says_nothing(spec: CollectionSpec) -> bool:
    """Tell whether only indexes are said, which patterns may need on any kind of collection."""
    return spec.validator is None and spec.capped_size is None and not spec.clustered


def _fixed(spec: CollectionSpec, stored: StoredCollection) -> Iterator[SchemaChange]:
    """Compare what cannot be changed."""
    has = stored.options
    wanted: list[tuple[str, Any, Any]] = [
        (name, True, _has(has.get(name), value)) for name, value in spec.options.items()
    ]
    if (said := spec.collation) is not None:
        stored_one = fitted_collation(collation_meaning(has.get("collation")), said)
        wanted.append(("collation", collation_meaning(said), stored_one))
    if spec.clustered:
        wanted.append(("clusteredIndex", True, "clusteredIndex" in has))
    if spec.capped_size is not None:
        wanted.append(("capped", True, bool(has.get("capped"))))
    if (series := spec.timeseries) is not None:
        there = has.get("timeseries", {})
        wanted.append(("timeField", series.time, there.get("timeField")))
        wanted.append(("metaField", series.meta, there.get("metaField")))
    for option, one, other in wanted:
        if one != other:
            evidence = f"its {option} is not what the spec says, and cannot be changed"
            remedy = "Say what it is, or copy its documents into a new collection and rename that"
            yield _blocked(spec, f"gets another {option}", "fixed-option", evidence, remedy)


def _has(stored: Any, said: Any) -> bool:
    """Tell whether an option has what is said of it: the server adds what it chooses itself."""
    if isinstance(said, Mapping):
        return isinstance(stored or {}, Mapping) and all(_has((stored or {}).get(key), said[key]) for key in said)
    if isinstance(said, (list, tuple)):
        several = stored or []
        return isinstance(several, list) and len(said) == len(several) and all(map(_has, several, said))
    return bool(bson_identity(stored) == bson_identity(said))


def _series(spec: CollectionSpec, stored: StoredCollection) -> Iterator[SchemaChange]:
    if spec.timeseries is not None:
        there = stored.options.get("timeseries", {}).get("granularity")
        yield from _granularity(spec, spec.timeseries.granularity, there)
    has = stored.options.get("expireAfterSeconds")
    if spec.seconds is not None and spec.seconds != has:
        risk = f"what is older than {spec.seconds} s is deleted within a minute or so"
        sent = command("collMod", spec.collection, expireAfterSeconds=spec.seconds)
        yield _change(spec, _expiry(spec.seconds), risk, sent, was=_expiry(has))


def _granularity(spec: CollectionSpec, said: str | None, has: str | None) -> Iterator[SchemaChange]:
    if said in (None, has):
        return
    order = _GRANULARITIES
    what = f"granularity {said!r}"
    if has not in order or order.index(has) > order.index(said):
        evidence = f"its granularity is {has!r}, and can be made coarser, but not {said!r}"
        yield _blocked(spec, what, "fixed-option", evidence, "Say what it is, or copy it into a new collection")
        return
    steps = order[order.index(has) + 1 : order.index(said) + 1]
    sent = [command("collMod", spec.collection, timeseries={"granularity": step}) for step in steps]
    yield _change(spec, what, "it cannot be made finer again", *sent, was=f"granularity {has!r}")


def _adjustable(spec: CollectionSpec, stored: StoredCollection, wire: int) -> Iterator[SchemaChange]:
    has = stored.options
    if spec.pre_and_post_images is not None:
        enabled = bool(has.get("changeStreamPreAndPostImages", {}).get("enabled"))
        if enabled is not spec.pre_and_post_images:
            images = {"enabled": spec.pre_and_post_images}
            risk = "each change stores the document as it was" if spec.pre_and_post_images else ""
            sent = command("collMod", spec.collection, changeStreamPreAndPostImages=images)
            yield _change(spec, f"images before and after a change: {spec.pre_and_post_images}", risk, sent)
    if spec.capped_size is None or not has.get("capped"):
        return
    sizes: dict[str, Any] = {}
    if has.get("size") not in (spec.capped_size, -(-spec.capped_size // _ROUNDED) * _ROUNDED):
        sizes["cappedSize"] = spec.capped_size
    if spec.capped_max is not None and has.get("max") != spec.capped_max:
        sizes["cappedMax"] = spec.capped_max
    if sizes and wire < _RESIZES:
        evidence = "its size is not what the spec says, and this server cannot change it before 6.0"
        yield _blocked(spec, "gets another size", "fixed-option", evidence, "Say what it is, or use a newer server")
    elif sizes:
        said = ", ".join(f"{name} {value}" for name, value in sizes.items())
        risk = "if it becomes smaller, the oldest documents are deleted"
        yield _change(spec, f"gets another size: {said}", risk, command("collMod", spec.collection, **sizes))


def _validator(spec: CollectionSpec, stored: StoredCollection) -> Iterator[SchemaChange]:
    if (validator := spec.validator) is None:
        return
    has = stored.options
    level, action = has.get("validationLevel", "strict"), has.get("validationAction", "error")
    same = bson_identity(validator.expression) == bson_identity(has.get("validator", {}))
    if same and (level, action) == (validator.level, validator.action):
        return
    strict = validator.level == "strict" and validator.action == "error"
    risks = {
        "strict": "writes that leave a document unfit fail from then on",
        "moderate": "writes to documents that fit fail if they leave them unfit; those that do not fit now are let be",
    }
    yield SchemaChange(
        SchemaChangeKind.CHANGE_COLLECTION,
        spec.collection,
        f"validator ({validator.level}, {validator.action})",
        "metadata alone: stored documents are not read",
        "unfit writes are logged by the server, and done" if validator.action == "warn" else risks[validator.level],
        commands=(command("collMod", spec.collection, **validator.options),),
        was=f"validator ({level}, {action})" if has.get("validator") else "no validator",
        check=Violations(validator.expression, blocks=strict),
    )


def _expiry(seconds: int | None) -> str:
    return "expires never" if seconds is None else f"expires after {seconds} s"


def _change(spec: CollectionSpec, what: str, risk: str, *commands: Mapping[str, Any], was: str = "") -> SchemaChange:
    kind = SchemaChangeKind.CHANGE_COLLECTION
    return SchemaChange(kind, spec.collection, what, _METADATA, risk, commands=commands, was=was)


def _blocked(spec: CollectionSpec, what: str, code: str, evidence: str, remedy: str) -> SchemaChange:
    finding = Finding(code, Severity.ERROR, spec.collection, evidence, remedy)
    return SchemaChange(SchemaChangeKind.CHANGE_COLLECTION, spec.collection, what, "it cannot be done", blocked=finding)
