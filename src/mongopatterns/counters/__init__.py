"""Counters, quotas and rate limiters: numbers that many callers raise at once, exactly.

`Counter` adds up. `Quota` grants while there is room in every one of its windows, and banks what a window leaves
unused. `RateLimiter` admits so much in so much time. All take one command a call, on documents of their own or on
fields of yours.

What can be imported from here is listed in `__init__.pyi`. A name is imported from its home when it is first asked
for, so that nobody waits for patterns that they do not use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
