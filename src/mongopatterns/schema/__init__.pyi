# What can be imported from `mongopatterns.schema`: for type checkers, and for `__init__.py` when a name is asked for.

from ._changes import SchemaChange, SchemaChangeKind, SchemaPlan, SchemaProgress
from ._collection_spec import CollectionSpec, SchemaSpec, SearchIndex, TimeSeries
from ._merging import MergeResult
from ._schema_async import AsyncSchema
from ._schema_sync import Schema
from ._validator import Validator

__all__ = [
    "AsyncSchema",
    "CollectionSpec",
    "MergeResult",
    "Schema",
    "SchemaChange",
    "SchemaChangeKind",
    "SchemaPlan",
    "SchemaProgress",
    "SchemaSpec",
    "SearchIndex",
    "TimeSeries",
    "Validator",
]
