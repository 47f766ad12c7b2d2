"""Documents of several collections together: in a constant number of commands, never one for each row."""

from mongopatterns.joins._cascade_async import AsyncCascade
from mongopatterns.joins._cascade_spec import CascadeResult, CascadeSpec, Child, Orphan, Orphans
from mongopatterns.joins._cascade_sync import Cascade
from mongopatterns.joins._join_async import AsyncJoin
from mongopatterns.joins._join_plan import JoinChoice, JoinExplanation
from mongopatterns.joins._join_spec import CountOf, Exists, JoinPart, JoinSpec, Many, One, Param, SumOf, ValueOf
from mongopatterns.joins._join_sync import Join
from mongopatterns.joins._loader_async import AsyncLoader
from mongopatterns.joins._loader_plan import LoaderSpec
from mongopatterns.joins._loader_sync import Loader

__all__ = [
    "AsyncCascade",
    "AsyncJoin",
    "AsyncLoader",
    "Cascade",
    "CascadeResult",
    "CascadeSpec",
    "Child",
    "CountOf",
    "Exists",
    "Join",
    "JoinChoice",
    "JoinExplanation",
    "JoinPart",
    "JoinSpec",
    "Loader",
    "LoaderSpec",
    "Many",
    "One",
    "Orphan",
    "Orphans",
    "Param",
    "SumOf",
    "ValueOf",
]
