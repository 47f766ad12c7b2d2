"""Pure: what stays the same when one command is sent again and again for different values.

A shape is a readable line: the command, its collection, and the structure of what it asks for, with every
value replaced by `?`. Two rules keep shapes few: the order of keys does not matter, and a list is the set of
the shapes in it, so that `$in` has one shape for any number of values.

Names are shown: of collections and fields, and paths such as `$price` in an expression. What is a name is told by its
looks alone, so a key or a path that does not look like one is hidden too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final, cast

__all__ = ["shape_of"]

# What makes the shape of each command that is counted. All else (comment, session, transaction, limit, batch
# size, concerns) is not part of it, and neither are the documents of an insert.
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "find": ("filter", "sort", "projection"),
    "aggregate": ("pipeline",),
    "count": ("query",),
    "distinct": ("key", "query"),
    "insert": (),
    "update": ("updates",),
    "delete": ("deletes",),
    "findAndModify": ("query", "sort", "update"),
    "bulkWrite": (),
}
# Stages that hold expressions. Those that are not known are described as data are: text in them may begin with `$`.
_EXPRESSIONS: Final = frozenset(
    {"$addFields", "$bucket", "$bucketAuto", "$fill", "$group", "$project", "$redact", "$replaceRoot", "$replaceWith"}
    | {"$set", "$setWindowFields", "$sortByCount", "$unwind"}
)
# Stages whose strings are names of collections and fields, not values.
_NAMING: Final = frozenset({"$lookup", "$graphLookup", "$unionWith", "$merge", "$out", "$count"})
_NAMES_IN_NAMING: Final = frozenset(
    {"as", "coll", "connectFromField", "connectToField", "db", "depthField", "foreignField", "from", "into"}
    | {"localField", "on", "whenNotMatched"}
)
# Stages that put the results of several pipelines together.
_FUSING: Final = frozenset({"$rankFusion", "$scoreFusion"})
# Operators of expressions that take text, and under which keys: it is none of the structure if it begins with `$`.
_TEXTS: Final[Mapping[str, frozenset[str]]] = {
    "$accumulator": frozenset({"init", "accumulate", "merge", "finalize", "lang"}),
    "$function": frozenset({"body", "lang"}),
    **dict.fromkeys(("$getField", "$setField", "$unsetField"), frozenset({"field", "input"})),
    **dict.fromkeys(("$regexFind", "$regexFindAll", "$regexMatch"), frozenset({"input", "regex", "options"})),
    **dict.fromkeys(("$replaceAll", "$replaceOne"), frozenset({"input", "find", "replacement"})),
    **dict.fromkeys(("$ltrim", "$rtrim", "$trim"), frozenset({"input", "chars"})),
}
_LITERALS: Final = frozenset({"$literal", "$const"})
# What looks like the path of a field or a variable, and what looks like the name of a field or an operator; in an
# update a name has placeholders such as `$[]`.
_PATH: Final = re.compile(r"\$\$?[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_NAME: Final = re.compile(r"\$?[A-Za-z_]\w*(\.(\w+|\$|\$\[\w*\]))*")
_LONGEST_NAME: Final = 64
_LONGEST_PATH: Final = 128
# The client's own bulk: what one of its operations does to the collection that it names by a number.
_BULK_KINDS: Final = ("insert", "update", "delete")
# A shape is made to be read, and made for every command: a large document must not make it long or slow.
_LONGEST: Final = 1000
_DEEPEST: Final = 30
_SAMPLE: Final = 100

_VALUE: Final = "?"


def shape_of(name: str, database: str, command: Mapping[str, Any]) -> str | None:
    """Describe a command without its values.

    Args:
        name: The command, as the driver reports it.
        database: The database that it runs on.
        command: The command's document.

    Returns:
        One line of about 1,000 characters at most; None for a command that is not counted.
    """
    parts = _PARTS.get(name)
    if parts is None:
        return None
    # A bulk of the client runs on `admin`, and its operations name the collections.
    bulk = name == "bulkWrite"
    text = f"{name} ops={_operations(command)}" if bulk else f"{name} {database}.{_place(command.get(name))}"
    for part in parts:
        if part in command:
            text += f" {part}={_part(part, command[part])}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _place(collection: Any) -> str:
    """Return the name of a collection, or the 1 in its place. Other things are a mistake, such as a filter."""
    return str(collection) if isinstance(collection, (str, int)) else _VALUE


def _part(part: str, value: Any) -> str:
    if part == "key":
        return _name(value)
    if part == "pipeline":
        return _pipeline(value, 0)
    if part == "update":
        return _update(value)
    if part in ("updates", "deletes"):
        return _distinct(map(_statement, islice(cast("Iterable[Any]", value), _SAMPLE)))
    return _data(value, 0)


def _statement(statement: Mapping[str, Any]) -> str:
    """Describe one of the updates or deletes of a command."""
    query = _data(statement.get("q"), 0)
    return f"{{q: {query}, u: {_update(statement['u'])}}}" if "u" in statement else f"{{q: {query}}}"


def _operations(command: Mapping[str, Any]) -> str:
    """Describe what a client-level bulk does, each operation with its collection."""
    spaces = [_place(space.get("ns")) for space in command.get("nsInfo", ())]
    return _distinct(_operation(each, spaces) for each in islice(command.get("ops", ()), _SAMPLE))


def _operation(operation: Mapping[str, Any], spaces: list[str]) -> str:
    kind = next((kind for kind in _BULK_KINDS if kind in operation), _VALUE)
    place = operation.get(kind)
    text = f"{kind} {spaces[place] if isinstance(place, int) and place in range(len(spaces)) else _VALUE}"
    if "filter" in operation:
        text += f" q: {_data(operation['filter'], 0)}"
    if "updateMods" in operation:
        text += f" u: {_update(operation['updateMods'])}"
    return f"{{{text}}}"


def _update(value: Any) -> str:
    """Describe an update: a pipeline, operators or a replacement."""
    return _pipeline(value, 0) if isinstance(value, list) else _data(value, 0)


def _data(value: Any, depth: int) -> str:
    """Describe a filter or a document: its keys and operators, none of its values."""
    return _walk(value, depth, lambda key: _expression if key == "$expr" else _data, _hidden)


def _expression(value: Any, depth: int) -> str:
    """Describe an expression: as `_data` does, but field paths such as `$price` belong to the structure."""
    return _walk(value, depth, _operator, _path_or_hidden)


def _operator(key: str) -> _Describe:
    """Return how what an operator of an expression is given, or a field of it, is described."""
    if key in _LITERALS:
        return _hidden
    texts = _TEXTS.get(key)
    if texts is None:
        return _expression
    return lambda value, depth: _walk(value, depth, lambda name: _no_text if name in texts else _expression, _hidden)


def _no_text(value: Any, depth: int) -> str:
    """Describe what is given for a text: nothing of it, unless it is worked out."""
    return _expression(value, depth) if isinstance(value, Mapping) else _VALUE


def _naming(value: Any, depth: int) -> str:
    """Describe a stage whose strings are names, and which may hold a pipeline."""
    return _walk(value, depth, _part_of_naming, _name_or_hidden)


def _part_of_naming(key: str) -> _Describe:
    return _naming if key in _NAMES_IN_NAMING else _IN_NAMING.get(key, _data)


def _when_matched(value: Any, depth: int) -> str:
    """Describe what `$merge` does with a document that is there: the name of an action, or a pipeline."""
    return _name(value) if isinstance(value, str) else _pipeline(value, depth)


def _pipeline(stages: Any, depth: int) -> str:
    """Describe the stages of a pipeline, in their order."""
    if not isinstance(stages, (list, tuple)) or depth > _DEEPEST:
        return _VALUE
    items = islice(cast("Iterable[Any]", stages), _SAMPLE)
    return f"[{', '.join(_stage(stage, depth + 1) for stage in items)}]"


def _stage(stage: Any, depth: int) -> str:
    return _walk(stage, depth, _describer, _hidden)


def _describer(stage: str) -> _Describe:
    """Return how the content of a stage is described."""
    if stage == "$facet":
        return _facet
    if stage == "$geoNear":
        return _geo_near
    if stage in _FUSING:
        return _fusion
    if stage in _NAMING:
        return _naming
    return _expression if stage in _EXPRESSIONS else _data


def _facet(value: Any, depth: int) -> str:
    return _walk(value, depth, lambda _: _pipeline, _hidden)


def _fusion(value: Any, depth: int) -> str:
    return _walk(value, depth, lambda key: _fused if key == "input" else _data, _hidden)


def _fused(value: Any, depth: int) -> str:
    return _walk(value, depth, lambda key: _facet if key == "pipelines" else _data, _hidden)


def _geo_near(value: Any, depth: int) -> str:
    return _walk(value, depth, lambda key: _data if key == "query" else _expression, _hidden)


_Describe = Callable[[Any, int], str]

# What is no name in a stage of names.
_IN_NAMING: Final[Mapping[str, _Describe]] = {
    "pipeline": _pipeline,
    "let": _expression,
    "startWith": _expression,
    "restrictSearchWithMatch": _data,
    "whenMatched": _when_matched,
}


def _walk(value: Any, depth: int, describer: Callable[[str], _Describe], leaf: _Describe) -> str:
    """Describe a value: a document key by key, a list as the set of what is in it, the rest as a leaf."""
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        described = {(_name(key), describer(key)(fields[key], depth + 1)) for key in islice(fields, _SAMPLE)}
        return f"{{{', '.join(f'{name}: {text}' for name, text in sorted(described))}}}"
    if isinstance(value, (list, tuple)):
        items = islice(cast("Iterable[Any]", value), _SAMPLE)
        return _distinct(_walk(item, depth + 1, describer, leaf) for item in items)
    return leaf(value, depth)


def _distinct(shapes: Iterable[str]) -> str:
    """Describe a list by the different shapes in it; one of values alone looks like an empty one."""
    different = dict.fromkeys(shapes) or {_VALUE: None}
    return f"[{', '.join(different)}]"


def _hidden(_value: Any, _depth: int) -> str:
    return _VALUE


def _path_or_hidden(value: Any, _depth: int) -> str:
    shown = isinstance(value, str) and len(value) <= _LONGEST_PATH and _PATH.fullmatch(value)
    return value if shown else _VALUE


def _name_or_hidden(value: Any, _depth: int) -> str:
    return value if isinstance(value, str) else _VALUE


def _name(key: Any) -> str:
    """Return a key if it looks like a name: one that is made of data is a value."""
    return key if isinstance(key, str) and len(key) <= _LONGEST_NAME and _NAME.fullmatch(key) else _VALUE
