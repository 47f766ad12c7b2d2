"""From a model to the `$jsonSchema` of its documents. Pure.

What is read is what Pydantic itself works with, its core schema, and not the JSON schema that it makes of it: in that,
a datetime, a Decimal, an ObjectId and a UUID are all text, and bytes are text too, while the documents hold BSON. Nor
the annotations: in the core schema, names, generics and constraints are resolved already.

Two rules. What the schema says must hold of every document that the model dumps and reads back: where that cannot be
told, the schema takes everything there. And whatever it does not say is noted, so that nobody takes it for checked.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from operator import attrgetter
from typing import Any, Final

from bson import Decimal128, ObjectId

from mongopatterns.errors import UsageError
from mongopatterns.findings import Finding, Severity
from mongopatterns.models import core_schema_of, object_id_text, stored
from mongopatterns.schema._model_nodes import (
    function,
    has_default,
    innermost,
    is_own,
    is_pydantics,
    name_of,
    reached,
    returned,
    writer,
)
from mongopatterns.schema._model_scalars import SCALARS, Say, limited, of_class
from mongopatterns.schema._schema_parts import (
    Schema,
    admits,
    any_of,
    enum_of,
    kinds_of,
    lengths,
    nullable,
    of_types,
    types_of,
)

__all__ = ["model_schema"]

Node = Mapping[str, Any]

# Items of these types that are different in Python are different to the server: a date may lose its microseconds.
_TOLD_APART: Final = frozenset({"string", "int", "long", "bool", "objectId", "binData"})
# How many models that hold themselves are checked within each other: kinds of nodes that hold each other would come to
# as many schemas as there are paths through them.
_LEVELS: Final = 2
_DOCUMENTS: Final = frozenset({"model", "dataclass", "typed-dict", "dict"})
# The wrappers of what they hold, in which nothing happens to the value that is dumped.
_WITHIN: Final = {
    "custom-error": "schema",
    "function-before": "schema",
    "json": "schema",
    "json-or-python": "python_schema",
    "lax-or-strict": "strict_schema",
    "nullable": "schema",
}
# The serializers of Pydantic's that write text.
_AS_TEXT: Final = frozenset({"to-string", "format"})
_LENGTH_NAMES: Final = frozenset({"min_length", "max_length"})
# What factories that are types give, as it is stored.
_EMPTY: Final[dict[type[Any], Any]] = {
    **{kind: [] for kind in (list, set, frozenset, tuple, deque)},
    **{kind: {} for kind in (dict, defaultdict, Counter)},
    ObjectId: ObjectId("0" * 24),
    Decimal: Decimal128("0"),
    str: "",
    int: 0,
    float: 0.0,
    bool: False,
}
_BOUND_NAMES: Final = frozenset({"ge", "gt", "le", "lt"})


def model_schema(model: Any, *, by_alias: bool = True) -> tuple[Schema, tuple[Finding, ...]]:
    """Build the schema of the documents of a model, a dataclass or a typed dict.

    Returns:
        The schema, and what it does not say.

    Raises:
        UsageError: If it is no model, if a document of it is no document, if a field cannot be one of a document, or
            if it holds naive datetimes.
    """
    name = getattr(model, "__name__", str(model))
    findings: list[Finding] = []
    schema = _Walk(by_alias=by_alias).of(core_schema_of(model), Say(findings, name))
    for choice in schema["anyOf"] if schema.keys() == {"anyOf"} else [schema]:
        if types_of(choice) != ["object"]:
            kinds = " or ".join(types_of(choice)) or "anything"
            problem = f"{name} is dumped as {kinds}, and a document is a dict of fields"
            remedy = "" if choice else ". If a serializer of the model writes it, annotate it `-> dict[str, Any]`"
            raise UsageError("model", f"{problem}{remedy}")
        if "additionalProperties" in choice and "_id" not in choice.get("properties", {}):
            choice["properties"] = {"_id": {}, **choice.get("properties", {})}  # (every document has one)
    return schema, tuple(findings)


class _Walk:
    """Goes through a core schema."""

    def __init__(self, *, by_alias: bool) -> None:
        self._by_alias = by_alias
        self._known: dict[str, Node] = {}
        self._holds_itself: dict[str, bool] = {}
        self._under_way: list[str] = []
        self._config: Mapping[str, Any] = {}

    def of(self, node: Node, say: Say) -> Schema:
        """Build the schema of what a node describes, as it is dumped."""
        if (written := self._serialized(node, say)) is not None:
            return written
        kind = str(node["type"])
        if kind in SCALARS:
            return SCALARS[kind](self._configured(node), say)
        build: Callable[[Node, Say], Schema] | None = getattr(self, f"_{kind.replace('-', '_')}", None)
        if build is not None:
            return build(node, say)
        if kind in _WITHIN:
            return self._within(node, kind, say)
        say("any-type", f"takes everything: of a {kind} nothing is known", severity=Severity.WARNING)
        return {}

    def _within(self, node: Node, kind: str, say: Say) -> Schema:
        if kind == "function-before" and function(node) is object_id_text:
            evidence = "is text when it is dumped, and an ObjectId when it was stored by others: both are taken"
            remedy = "In models that are stored, use bson.ObjectId (arbitrary_types_allowed=True)"
            say("text-of-objectid", evidence, remedy)
            return any_of([of_types("objectId"), self.of(node["schema"], say)])
        if kind == "function-before" and not is_own(function(node)):
            self._say_function(function(node), say)
        # (`Json` without a type has nothing within)
        inner = self.of(node.get(_WITHIN[kind]) or {"type": "any"}, say)
        return nullable(inner) if kind == "nullable" else inner

    def _configured(self, node: Node) -> Node:
        """Add what the model says of all its text and numbers."""
        if node["type"] == "str":
            given = {name: self._config.get(f"str_{name}") for name in _LENGTH_NAMES}
            return {**given, "regex_engine": self._config.get("regex_engine"), **node}
        if node["type"] in ("float", "decimal") and "allow_inf_nan" in self._config:
            return {"allow_inf_nan": self._config["allow_inf_nan"], **node}
        return node

    # Documents ---------------------------------------------------------------------------------------------------

    def _model(self, node: Node, say: Say) -> Schema:
        above, self._config = self._config, node.get("config") or {}
        try:
            return self.of(node["schema"], say)
        finally:
            self._config = above

    _dataclass = _model

    def _model_fields(self, node: Node, say: Say) -> Schema:
        return self._fields(node, node["fields"].items(), say)

    def _typed_dict(self, node: Node, say: Say) -> Schema:
        return self._model({**node, "schema": {**node, "type": "model-fields"}}, say)

    def _dataclass_args(self, node: Node, say: Say) -> Schema:
        kept = [field for field in node["fields"] if not field.get("init_only")]
        return self._fields(node, [(field["name"], field) for field in kept], say)

    def _fields(self, node: Node, fields: Iterable[tuple[str, Node]], say: Say) -> Schema:
        properties: Schema = {}
        required: list[str] = []
        for own, field in fields:
            if field.get("serialization_exclude"):
                continue
            name = self._name(field.get("serialization_alias"), own, say)
            properties[name] = self.of(field["schema"], say.at(f".{name}"))
            if name == "_id":
                properties[name] = self._identity(field["schema"], properties[name], say.at(f".{name}"))
            left_out = field.get("serialization_exclude_if") is not None
            if field.get("required", not has_default(field["schema"])) and not left_out:
                required.append(name)
        for field in node.get("computed_fields") or ():
            name = self._name(field.get("alias"), field["property_name"], say)
            below = say.at(f".{name}")
            below("computed", "is computed: the model does not check it, and it is held to its declared type")
            properties[name] = self.of(field["return_schema"], below)
        schema = {**of_types("object"), **({"required": required} if required else {}), "properties": properties}
        return {**schema, **self._others(node, say)}

    @staticmethod
    def _identity(node: Node, schema: Schema, say: Say) -> Schema:
        """Add the ObjectId that a driver gives to a document without one, where a validator may read it."""
        inner: Any = node
        while inner["type"] != "function-before" and isinstance(inner.get("schema"), Mapping):
            inner = inner["schema"]
        if inner["type"] != "function-before" or admits(schema, ObjectId("0" * 24)):
            return schema
        evidence = "may be an ObjectId as well, which the driver gives to a document without one"
        say("text-of-objectid", evidence, "In models that are stored, use bson.ObjectId (arbitrary_types_allowed=True)")
        return any_of([of_types("objectId"), schema])

    def _name(self, alias: str | None, own: str, say: Say) -> str:
        name = alias if alias is not None and self._by_alias else own
        if not name or "." in name or "\0" in name or name.startswith("$"):
            problem = "a validator reads a dot as a path, and an operator's name cannot be checked"
            raise UsageError("model", f"{say.path} has a field that is stored as {name!r}: {problem}")
        return name

    def _others(self, node: Node, say: Say) -> Schema:
        """Say what fields there may be beside those of the model."""
        extra = node.get("extra_behavior") or self._config.get("extra_fields_behavior")
        if extra == "forbid":
            return {"additionalProperties": False}
        if extra == "allow" and node.get("extras_schema") is not None:
            others = self.of(node["extras_schema"], say.at(".*"))
            return {"additionalProperties": others} if others else {}
        return {}

    def _dict(self, node: Node, say: Say) -> Schema:
        keys = node.get("keys_schema") or {"type": "any"}
        if keys["type"] != "any" and (keys["type"] != "str" or keys.keys() & {"pattern", *_LENGTH_NAMES}):
            say("keys", "its keys are not checked")
        values = self.of(node["values_schema"], say.at(".*")) if "values_schema" in node else {}
        return self._sized(node, {**of_types("object"), **({"additionalProperties": values} if values else {})})

    def _counter(self, node: Node, say: Say) -> Schema:
        return self._dict({**node, "values_schema": {"type": "int"}}, say)

    # Lists -------------------------------------------------------------------------------------------------------

    def _list(self, node: Node, say: Say) -> Schema:
        items = self.of(node["items_schema"], say.at("[]")) if "items_schema" in node else {}
        return self._sized(node, {**of_types("array"), **({"items": items} if items else {})})

    _deque = _list

    def _set(self, node: Node, say: Say) -> Schema:
        schema = self._list(node, say)
        items = schema.get("items", {})
        if items and set(types_of(items)) <= _TOLD_APART and types_of(items):
            return {**schema, "uniqueItems": True}
        say("unique-items", "may hold an item twice: what differs in Python may be equal to the server")
        return schema

    _frozenset = _set

    def _tuple(self, node: Node, say: Say) -> Schema:
        items = [self.of(item, say.at(f"[{place}]")) for place, item in enumerate(node["items_schema"])]
        variadic = node.get("variadic_item_index")
        if variadic is None:
            bound = {"minItems": len(items), "maxItems": len(items)} if items else {"maxItems": 0}
            return {**of_types("array"), **({"items": items} if items else {}), **bound}
        schema: Schema = of_types("array")
        if len(items) == 1:
            schema |= {"items": items[0]} if items[0] else {}
        elif variadic == len(items) - 1:
            schema |= {"items": items[:-1], "additionalItems": items[-1], "minItems": len(items) - 1}
        else:
            say("items", "its items are not checked after the one of any number")
            schema |= {"items": items[:variadic], "minItems": len(items) - 1}
        return self._sized(node, schema)

    @staticmethod
    def _sized(node: Node, schema: Schema) -> Schema:
        return lengths(schema, node.get("min_length"), node.get("max_length")) or schema

    # Alternatives and defaults -----------------------------------------------------------------------------------

    def _union(self, node: Node, say: Say) -> Schema:
        return any_of([self.of(choice[0] if isinstance(choice, tuple) else choice, say) for choice in node["choices"]])

    def _tagged_union(self, node: Node, say: Say) -> Schema:
        # (a choice may stand for another by its tag)
        return any_of([self.of(choice, say) for choice in node["choices"].values() if isinstance(choice, Mapping)])

    def _chain(self, node: Node, say: Say) -> Schema:
        first, *others = node["steps"]
        notes: list[Finding] = []
        schema = self.of(first, Say(notes, say.path))
        for note in notes:
            if note.code != "any-type":  # (what a step leaves open, the next one decides)
                say(note.code, note.evidence, note.remedy, note.severity, note.subject)
        for step in others:
            last = self.of(step, say)
            text = types_of(schema) == types_of(last) == ["string"] and is_pydantics(_code_of(step))
            schema = self._both(schema, last, innermost(step), say) if text else last
        return schema

    @staticmethod
    def _both(schema: Schema, last: Schema, step: Node, say: Say) -> Schema:
        """Add to what is said of text what a further step of Pydantic's own says."""
        if step.get("to_lower") or step.get("to_upper") or step.get("strip_whitespace"):
            if schema.keys() > {"bsonType"}:
                say("steps", "what is said of it before it is stripped, or its case is changed, is not checked")
            return last
        if schema.keys() & last.keys() > {"bsonType"}:
            say("steps", "of two patterns the second is not checked")
        return {**last, **schema}

    def _default(self, node: Node, say: Say) -> Schema:
        schema = self.of(node["schema"], say)
        if (how := writer(node["schema"])) is not None:  # (what it makes of the default is not known)
            none = "default" in node and node["default"] is None and how.get("when_used") == "unless-none"
            return nullable(schema) if none else schema
        if "default" not in node:
            self._factory(node, schema, say)
            return schema
        try:
            default = stored(node["default"])
        except UsageError:
            say("default", "takes everything: its default cannot be stored", severity=Severity.WARNING)
            return {}
        if admits(schema, default):
            return schema
        say("default", f"{default!r:.50} is taken as well: it is the default", "Let the annotation say so")
        return nullable(schema) if default is None else any_of([schema, enum_of([default])])

    def _factory(self, node: Node, schema: Schema, say: Say) -> None:
        """Note what is not known of a factory's value: it is not called, for it may read a clock."""
        factory = node["default_factory"]
        if node.get("validate_default", self._config.get("validate_default")):
            return
        empty = _EMPTY.get(factory) if isinstance(factory, type) else None
        if (empty is not None and admits(schema, empty)) or factory is innermost(node["schema"]).get("cls"):
            return
        evidence = f"what {name_of(factory)}() gives is not known: another type than the field's is refused"
        say("default-factory", evidence, "Give what the field takes, or set validate_default=True")

    # Definitions, which the server does not know -----------------------------------------------------------------

    def _definitions(self, node: Node, say: Say) -> Schema:
        self._holds_itself.clear()
        self._known.update({each["ref"]: each for each in node["definitions"]})
        return self.of(node["schema"], say)

    def _definition_ref(self, node: Node, say: Say) -> Schema:
        name = node["schema_ref"]
        known = self._known[name]
        if name not in self._holds_itself:
            self._holds_itself[name] = name in reached(known, self._known)
        if not self._holds_itself[name]:
            return self.of(known, say)
        if name in self._under_way or len(self._under_way) >= _LEVELS:
            say("recursive", "what lies below is not checked: the model holds itself, and a validator cannot")
            return of_types("object") if innermost(known)["type"] in _DOCUMENTS else {}
        self._under_way.append(name)
        try:
            return self.of(known, say)
        finally:
            self._under_way.pop()

    # Code of the caller's ----------------------------------------------------------------------------------------

    def _function_after(self, node: Node, say: Say) -> Schema:
        code = function(node)
        counted = code is Counter and node["schema"]["type"] == "dict"  # (a Counter of a model, before Pydantic 2.14)
        if isinstance(code, type) and not counted:  # (the value becomes an instance, such as of a path)
            return of_class(code, say)
        schema = self.of(node["schema"], say)
        if isinstance(code, attrgetter) or counted:  # (`use_enum_values`)
            return schema
        if isinstance(code, partial) and is_pydantics(code):
            if code.keywords.keys() <= _LENGTH_NAMES:
                bounded = lengths(schema, code.keywords.get("min_length"), code.keywords.get("max_length"))
            else:
                bounded = _bounded(schema, code.keywords, say)
            if bounded is not None:
                return bounded
        self._say_function(code, say)
        other = None if innermost(node)["type"] in _DOCUMENTS else self._returned(code)
        return schema if other is None or kinds_of(other) <= kinds_of(schema) else other

    def _returned(self, code: Any) -> Schema | None:
        """Build the schema of the type that a function says it gives; None if it says nothing that can be used."""
        given = returned(code)
        if given is None:
            return None
        try:
            return _Walk(by_alias=self._by_alias).of(core_schema_of(given), Say([], ""))
        except UsageError:
            return None

    def _function_wrap(self, node: Node, say: Say) -> Schema:
        code = function(node)
        if is_pydantics(code) or innermost(node)["type"] in _DOCUMENTS:
            if not is_pydantics(code):
                self._say_function(code, say)
            return self.of(node["schema"], say)
        if (given := self._returned(code)) is not None:
            self._say_function(code, say)
            return given
        evidence = f"takes everything: {name_of(code)}() may give what it likes, and does not say what"
        say("custom-validator", evidence, "Annotate what the validator returns", Severity.WARNING)
        return {}

    def _function_plain(self, node: Node, say: Say) -> Schema:
        owner = getattr(function(node), "__self__", None)
        if isinstance(owner, type) and issubclass(owner, (ObjectId, Decimal128)):  # (as Beanie's PydanticObjectId is)
            return of_class(owner, say)
        evidence = f"takes everything: {name_of(function(node))}() alone decides what it is"
        say("custom-validator", evidence, "Validate after a type", Severity.WARNING)
        return {}

    @staticmethod
    def _say_function(code: Any, say: Say) -> None:
        say("custom-validator", f"{name_of(code)}() is not run by the server")

    def _serialized(self, node: Node, say: Say) -> Schema | None:  # noqa: PLR0911  # one for each way to write
        """Build the schema of what a serializer gives; None if there is none for documents."""
        how = node.get("serialization") or {}
        kind = how.get("type", "")
        used = how.get("when_used", "json-unless-none" if kind in _AS_TEXT else "always")
        if used.startswith("json"):
            return None
        if kind in _AS_TEXT:
            return self._or_none(of_types("string"), node, used)
        # (`SerializeAsAny`, in newer versions of Pydantic and in older ones)
        wrapped = how.get("schema") if kind == "function-wrap" and node["type"] != "function-plain" else None
        if kind == "any" or (wrapped or {}).get("type") == "any":
            say("any-type", "takes everything: it is dumped as what it happens to be", severity=Severity.WARNING)
            return {}
        if not kind.startswith("function-"):
            return None
        own = is_pydantics(how["function"])
        given = how.get("return_schema")
        if given is None or given["type"] == "any":
            if own:
                return None
            evidence = f"takes everything: {name_of(how['function'])}() writes it, and does not say as what"
            say("custom-serializer", evidence, "Annotate what the serializer returns", Severity.WARNING)
            return {}
        if not own:
            say("custom-serializer", f"{name_of(how['function'])}() writes it: it is held to the declared type")
        elif node["type"] == "function-plain" and not is_pydantics(function(node)):
            say("custom-validator", f"{name_of(function(node))}() decides what it is: it is held to the declared type")
        return self._or_none(self.of(given, say), node, used)

    def _or_none(self, schema: Schema, node: Node, used: str) -> Schema:
        """Add the null that is not written by a serializer."""
        if used != "unless-none":
            return schema
        try:
            unwritten = self.of({**node, "serialization": None}, Say([], ""))
        except UsageError:
            unwritten = {}
        return nullable(schema) if admits(unwritten, None) else schema


def _code_of(step: Node) -> Any:
    return function(step) if "function" in step else None


def _bounded(schema: Schema, given: Mapping[str, Any], say: Say) -> Schema | None:
    """Add the bounds that Pydantic checks by a function of its own; None if they are no bounds of a number."""
    if not given.keys() <= _BOUND_NAMES or not set(types_of(schema)) & {"double", "int", "long", "decimal"}:
        return None
    added = limited(given, say)
    return None if schema.keys() & added.keys() else {**schema, **added}
