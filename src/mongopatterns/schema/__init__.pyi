# What can be imported from `mongopatterns.schema`: read by type checkers, and by `__init__.py` when a name is asked for.

__all__: list[str] = []
