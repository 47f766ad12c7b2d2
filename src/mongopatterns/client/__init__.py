"""A connection within the limits of its server, and what an application wants to know about it while it runs.

What can be imported from here is listed in `__init__.pyi`. A name is imported from its home when it is first asked
for, so that nobody waits for patterns that they do not use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
