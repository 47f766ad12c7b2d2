# What can be imported from `mongopatterns.paging`: read by type checkers, and by `__init__.py` when one is asked for.

from ._pager_async import AsyncPager
from ._pager_plan import PagerExplanation
from ._pager_spec import Page, PagerSpec
from ._pager_sync import Pager

__all__ = ["AsyncPager", "Page", "Pager", "PagerExplanation", "PagerSpec"]
