"""What a client of the driver is given: the caller's options, the URI's and a profile's, within a budget. Pure.

No value of an option is shown in an error, and nothing of a URI: a password that was not written as URIs want it may
look like anything else of it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import unquote_plus

from mongopatterns.client._budget_plan import PoolBudget
from mongopatterns.client._profiles import Monitoring, Profile
from mongopatterns.errors import UsageError

_SCHEMES: Final = ("mongodb://", "mongodb+srv://")
_LONGEST_NUMBER: Final = 18
_LONGEST_NAME: Final = 128  # bytes, by the server's own bound
_SYNONYMS: Final[Mapping[str, str]] = {"readPreference": "read_preference"}
_MANY: Final = ("readPreferenceTags",)  # a URI says it once for each set of tags
_MAX_TIME: Final = "maxtimems"
_HINTS: Final[Mapping[str, str]] = {
    _MAX_TIME: "maxTimeMS is none of a client: timeoutMS bounds each call, waiting and sending again included",
    "host": "hosts and ports belong in the URI",
    "port": "hosts and ports belong in the URI",
    "appname": "say it as app_name=",
}


@dataclass(frozen=True)
class ClientSettings:
    """What a client is made of.

    Attributes:
        kind: Its class.
        uri: The URI.
        options: Everything else.
    """

    kind: Any = field(repr=False)
    uri: str = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)

    def make(self, **more: Any) -> Any:
        """Make a client."""
        return self.kind(self.uri, **{**self.options, **more})

    @property
    def key(self) -> Hashable:
        """What is equal for two clients that can be one. A value that has no `==` of its own is equal to itself."""
        return self.kind, self.uri, _comparable(self.options)


class ClientPlan:
    """Work out what a client is given.

    Args:
        known: The options that the driver knows, by their names in lower case.
        takes: Tells whether the driver takes a value in a URI.
        usual: The class that is taken where none is given. Others have to be of the same world.
    """

    def __init__(self, known: Mapping[str, str], takes: Callable[[str, str], bool], usual: type[Any]) -> None:
        self._known = known
        self._takes = takes
        self._usual = usual

    def settle(
        self,
        kind: Any,
        uri: str,
        profile: Profile,
        *,
        app_name: str,
        budget: PoolBudget | None,
        w: str | int | None,
        options: Mapping[str, Any],
    ) -> ClientSettings:
        """Put everything together: what the caller says, then what the URI says, then what the profile says.

        Raises:
            UsageError: If something is no option, cannot work, or does not fit the budget.
        """
        kind = self._usual if kind is None else kind
        self._check_kind(kind)
        if not isinstance(profile, Profile):
            raise UsageError("profile", f"expected a Profile such as Profile.WEB, got a {type(profile).__name__}")
        if budget is not None and not isinstance(budget, PoolBudget):
            raise UsageError("budget", f"expected a PoolBudget or None, got a {type(budget).__name__}")
        _check_app_name(app_name)
        said = self._options(options)
        in_uri = self._uri_options(uri)
        if w is not None and "w" in said:
            raise UsageError("durability", "w= says it too: leave one of them out")
        settled = {**_rest_of(profile, {*said, *in_uri}), **said, "appName": app_name}
        if w is None and "w" not in {*said, *in_uri}:
            w = "majority"
        if w is not None:
            settled["w"] = w
        if budget is not None:
            settled |= _within(budget, profile, {**in_uri, **said})
        size = settled.get("maxPoolSize", in_uri.get("maxPoolSize"))
        if size is not None and not _is_whole(size):
            raise UsageError("maxPoolSize", "expected a whole number from 0, or None")
        if settled.get("minPoolSize") == profile.minPoolSize:
            settled["minPoolSize"] = min(profile.minPoolSize, int(size or 0) or profile.minPoolSize)
        return ClientSettings(kind, uri, settled)

    def _check_kind(self, kind: Any) -> None:
        if not isinstance(kind, type) or not hasattr(kind, "list_database_names"):
            raise UsageError("client_class", "expected a class of clients, such as Motor's AsyncIOMotorClient")
        asynchronous = _is_asynchronous(kind)
        if asynchronous is not _is_asynchronous(self._usual):
            world = "an asynchronous" if asynchronous else "a synchronous"
            other = "make_async_client" if asynchronous else "make_client"
            raise UsageError("client_class", f"{kind.__name__} belongs to {world} driver: use {other}")

    def _options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options by the names that they are known by."""
        said: dict[str, Any] = {}
        for given, value in options.items():
            name = self._known.get(given.lower())
            if hint := _HINTS.get(given.lower()):
                raise UsageError(given, hint)
            if name is None:
                raise UsageError(given, f"the driver knows no such option{self._nearest(given)}")
            if name in said:
                raise UsageError(given, f"it is said twice, as {name} too")
            said[name] = value
        return said

    def _uri_options(self, uri: object) -> dict[str, str]:
        """Return what a URI says in its options, as text."""
        if not isinstance(uri, str) or not uri.startswith(_SCHEMES):
            raise UsageError("uri", f"expected text that begins with {' or '.join(_SCHEMES)}")
        rest = uri.partition("://")[2]
        authority = re.split("[/?]", rest, maxsplit=1)[0]
        # The driver would take a part of the password for a host, a port or an option, and might say so.
        problem = None
        if "@" in rest.removeprefix(authority):
            problem = "there is an @ behind a / or a ?"
        elif authority.count("@") > 1:
            problem = "there are two @ before the first / or ?"
        if problem is not None:
            how = "percent-encode the password (and other values): @, / and ? are written as %40, %2F and %3F"
            raise UsageError("uri", f"{problem}: {how} (urllib.parse.quote_plus does that)")
        said: dict[str, str] = {}
        for part in filter(None, re.split("[&;]", rest.partition("?")[2])):
            given, _, value = part.partition("=")
            name = self._known.get(given.lower())
            if name is None:
                hint = f": {_HINTS[_MAX_TIME]}" if given.lower() == _MAX_TIME else self._nearest(given)
                raise UsageError("uri", f"it has an option that the driver does not know{hint}")
            if not self._takes(name, value):
                raise UsageError("uri", f"the driver does not take the value of {name}")
            if name in said and name not in _MANY:  # it would warn, and take the last one
                raise UsageError("uri", f"it says {name} twice")
            said[name] = unquote_plus(value)
        return said

    def _nearest(self, given: str) -> str:
        near = get_close_matches(given.lower(), self._known, n=1)
        return f": did you mean {self._known[near[0]]}?" if near else ""


def _is_asynchronous(kind: Any) -> bool:
    return inspect.iscoroutinefunction(kind.list_database_names) or hasattr(kind, "get_io_loop")


def _check_app_name(name: object) -> None:
    if not isinstance(name, str) or not 0 < len(name.encode()) <= _LONGEST_NAME:
        problem = f"expected text of 1 to {_LONGEST_NAME} bytes, by which the server's log tells who is connected"
        raise UsageError("app_name", f"{problem}, got {name!r:.100}")


def _rest_of(profile: Profile, said: set[str]) -> dict[str, Any]:
    """Return what a profile says and nobody else does."""
    return {
        name: value for name, value in profile.options().items() if said.isdisjoint({name, _SYNONYMS.get(name, name)})
    }


def _is_whole(size: object) -> bool:
    """Tell whether the driver would read a number from 0 in it."""
    if isinstance(size, str):
        return size.isdecimal() and len(size) <= _LONGEST_NUMBER
    return isinstance(size, int) and size >= 0


def _within(budget: PoolBudget, profile: Profile, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a budget bounds.

    Raises:
        UsageError: If what was said is more than the budget has.
    """
    size = said.get("maxPoolSize", profile.maxPoolSize)
    if not _is_whole(size) or not int(size):
        problem = "0 and None are without a bound" if size in (0, "0", None) else "expected a whole number"
        raise UsageError("maxPoolSize", f"{problem}, and there is a budget")
    mode: Monitoring = profile.serverMonitoringMode
    if "serverMonitoringMode" in said:  # "auto" is one or the other
        mode = "poll" if said["serverMonitoringMode"] == "poll" else "stream"
    if "serverMonitoringMode" in said and mode == "stream" and budget.monitoring == "poll":
        raise UsageError("serverMonitoringMode", "the budget is made for 'poll', which is one connection less")
    smallest = min(profile.minPoolSize, int(size))
    wanted = replace(profile, maxPoolSize=int(size), minPoolSize=smallest, serverMonitoringMode=mode)
    plan = budget.plan(wanted)
    if "maxPoolSize" in said and int(size) > plan.max_pool_size:
        raise UsageError("maxPoolSize", f"{size} is more than the budget's {plan.max_pool_size}:\n{plan}")
    return {"maxPoolSize": plan.max_pool_size, "serverMonitoringMode": plan.monitoring}


def _comparable(value: Any) -> Hashable:
    if isinstance(value, Mapping):
        return "mapping", frozenset((key, _comparable(each)) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return "list", tuple(_comparable(each) for each in value)
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return type(value), value


class _Same:
    """An object that is equal to itself alone. It is held: the number of one that is gone may be another's."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)
