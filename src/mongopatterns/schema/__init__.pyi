# What can be imported from `mongopatterns.schema`: read by type checkers, and by `__init__.py` when a name is asked for.

from ._validator import Validator

__all__ = ["Validator"]
