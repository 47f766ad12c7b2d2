# What can be imported from `mongopatterns.joins`: read by type checkers, and by `__init__.py` when a name is asked for.

from ._cascade_async import AsyncCascade
from ._cascade_spec import CascadeResult, CascadeSpec, Child, Orphan, Orphans
from ._cascade_sync import Cascade
from ._join_async import AsyncJoin
from ._join_plan import JoinExplanation
from ._join_spec import CountOf, Exists, JoinPart, JoinSpec, Many, One, Param, SumOf, ValueOf
from ._join_sync import Join
from ._join_ways import JoinChoice
from ._loader_async import AsyncLoader
from ._loader_plan import LoaderSpec
from ._loader_sync import Loader

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
