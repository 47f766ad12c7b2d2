"""What callers of both worlds can rely on, whoever else is there."""

from __future__ import annotations

import random
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from pymongo.errors import AutoReconnect, NetworkTimeout, OperationFailure, ServerSelectionTimeoutError

from mongopatterns._grouping import group_size, own_copy, runs
from mongopatterns.errors import DocumentNotFound, NotSent, OutcomeUnknown, StateError, UsageError, may_have_applied

from .conftest import PATIENCE, eventually

if TYPE_CHECKING:
    from .conftest import World


def answers(tickets: Any) -> list[Any]:
    return [ticket.result(PATIENCE) for ticket in tickets]


def errors(tickets: Any) -> list[BaseException]:
    return [ticket.exception(PATIENCE) for ticket in tickets]


# -------------------------------------------------------------------------------------- who goes with whom


def test_a_lone_caller_goes_by_itself_at_once(world: World) -> None:
    """Nobody in flight: the call is sent by `alone`, with its own timeout and context, and leaves nothing behind."""
    ticket = world.start("a", timeout=3.5, who="ann")
    request = world.request(1)
    assert (request.kind, request.calls, request.timeout, request.context) == ("alone", ["a"], 3.5, "ann")
    request.answer()
    assert ticket.result(PATIENCE) == "a@0"
    world.idle()


def test_those_who_wait_go_together_in_order(world: World) -> None:
    """Calls that come while one is in flight are the next request, in their order; each gets its own answer."""
    first = world.start("a")
    others = world.wait("b", "c", "b", "d")
    assert world.sent == [["a"]]
    world.request(1).answer()
    request = world.request(2)
    assert (request.kind, request.calls, request.timeout) == ("together", ["b", "c", "b", "d"], None)
    later = world.start("e")
    request.answer()
    world.request(3).answer()
    assert answers([first, *others, later]) == ["a@0", "b@0", "c@1", "b@2", "d@3", "e@0"]
    assert [request.kind for request in world.requests] == ["alone", "together", "alone"]
    world.idle()


def test_a_group_has_no_more_than_max_calls(world: World) -> None:
    """More than `max_calls` waiting calls are several groups, one after the other."""
    world.make(max_calls=3)
    tickets = world.wait(*"abcdefgh")
    world.automatic = True
    world.request(1).answer()
    assert [answer[0] for answer in answers(tickets)] == list("abcdefgh")
    assert world.sent == [["a"], ["b", "c", "d"], ["e", "f", "g"], ["h"]]


def test_a_group_has_no_more_than_max_runs(world: World) -> None:
    """Equal calls that follow each other are one run, and a group has at most `max_runs` of them."""
    world.make(max_runs=2)
    tickets = world.wait(*"abbbccdbb")
    world.automatic = True
    world.request(1).answer()
    answers(tickets)
    assert world.sent == [["a"], list("bbbcc"), list("dbb")]


def test_lanes_go_side_by_side(world: World) -> None:
    """A request in flight holds up its own lane and no other, and no group has calls of two lanes."""
    held = world.start("a", lane=1)
    waiting = world.wait("b", "c", lane=1)
    other = world.start("x", lane=2)
    world.request(2).answer()
    assert other.result(PATIENCE) == "x@0"
    assert world.sent == [["a"], ["x"]]
    world.request(1).answer()
    world.request(3).answer()
    assert answers([held, *waiting]) == ["a@0", "b@0", "c@1"]


def test_ten_thousand_lanes_leave_nothing(world: World) -> None:
    """A lane is remembered for as long as somebody is on it."""
    world.automatic = True
    if world.name == "tasks":

        async def visit() -> None:
            for lane in range(10_000):
                await world.groups.submit(lane, "a", None)

        world.run(visit())
    else:
        for lane in range(10_000):
            world.groups.submit(lane, "a", None)
    assert len(world.requests) == 10_000
    assert not world.lanes()


class Odd:
    """A call that cannot be compared."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        raise TypeError("odd")


def test_calls_that_cannot_be_compared_go_one_by_one(world: World) -> None:
    """An error of a call's `==` harms nobody: such calls are sent by themselves."""
    tickets = world.wait(*"a", Odd(), Odd(), Odd())
    world.automatic = True
    world.request(1).answer()
    answers(tickets)
    assert [request.kind for request in world.requests] == ["alone"] * 4


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_the_longest_that_fit(seed: int) -> None:
    """Groups cut the queue without a gap, keep both bounds, and stop only where one more call would break one."""
    dice = random.Random(seed)
    calls = [dice.choice("abc") for _ in range(dice.randrange(60))]
    most, most_runs = dice.randrange(1, 12), dice.randrange(1, 6)
    rest = calls
    while rest:
        size = group_size(rest, most, most_runs)
        assert 0 < size <= most
        assert len(runs(rest[:size])) <= most_runs
        more = rest[: size + 1]
        assert size == len(rest) or size == most or len(runs(more)) > most_runs
        rest = rest[size:]
    assert group_size([], most, most_runs) == 0
    assert [call for call, count in runs(calls) for _ in range(count)] == calls


@pytest.mark.parametrize("bound", ["max_calls", "max_runs"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, None])
def test_bounds_are_checked(world: World, bound: str, value: Any) -> None:
    """A bound that would let nothing through is refused when the groups are made."""
    with pytest.raises(UsageError, match=f"^{bound}: expected a whole number from 1"):
        world.make(**{bound: value})


# ------------------------------------------------------------------------------------------------- time


def test_out_of_time_in_the_queue_is_not_sent(world: World) -> None:
    """A call whose time runs out while it waits raises NotSent, and is never sent; the others are."""
    first, short, long = world.start("a"), world.start("b", timeout=0.05), world.start("c")
    error = short.exception(PATIENCE)
    assert type(error) is NotSent
    assert not may_have_applied(error)
    assert list(world.queue().values()) == ["c"]
    world.request(1).answer()
    world.request(2).answer()
    assert answers([first, long]) == ["a@0", "c@0"]
    assert world.sent == [["a"], ["c"]]
    world.idle()


def test_out_of_time_in_flight_is_unknown(world: World) -> None:
    """A call whose time runs out after its group was sent raises OutcomeUnknown; the others get their answers."""
    first, long, short = world.start("a"), world.start("b"), world.start("c", timeout=0.75)
    world.request(1).answer()
    assert world.request(2).calls == ["b", "c"]
    error = short.exception(PATIENCE)
    assert type(error) is OutcomeUnknown
    assert isinstance(error.__cause__, TimeoutError)
    assert may_have_applied(error)
    world.request(2).answer()
    assert answers([first, long]) == ["a@0", "b@0"]
    world.idle()


def test_a_group_has_the_longest_time_of_its_members(world: World) -> None:
    """A group's command may take as long as its most patient member; a member without a timeout sets no bound."""
    tickets = [world.start("a"), *[world.start("b", timeout=seconds) for seconds in (5, 30, 2)]]
    world.request(1).answer()
    timeout = world.request(2).timeout
    assert timeout is not None
    assert 20 < timeout <= 30
    tickets += [world.start("c", timeout=5), world.start("d"), world.start("e", timeout=5)]
    world.request(2).answer()
    assert world.request(3).calls == ["c", "d", "e"]
    assert world.request(3).timeout is None
    world.request(3).answer()
    answers(tickets)


def test_one_that_waited_has_what_is_left_of_its_time(world: World) -> None:
    """Waiting is part of the timeout: what is sent after it has less."""
    tickets = [world.start("a"), world.start("b", timeout=10)]
    eventually(lambda: len(world.queue()) == 1)
    world.request(1).answer()
    timeout = world.request(2).timeout
    assert timeout is not None
    assert 0 < timeout < 10
    world.request(2).answer()
    answers(tickets)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "5"])
def test_a_bad_timeout_is_refused_alone_and_in_company(world: World, timeout: Any) -> None:
    """What is no number of seconds is a UsageError that names `timeout`, before anything is sent or queued."""
    with pytest.raises(UsageError, match=r"^timeout: "):
        world.start("a", timeout=timeout).result(PATIENCE)
    assert not world.lanes()
    first = world.start("a")
    with pytest.raises(UsageError, match=r"^timeout: "):
        world.start("b", timeout=timeout).result(PATIENCE)
    assert not world.queue()
    world.request(1).answer()
    answers([first])


# ------------------------------------------------------------------------------------------------ errors

OPEN = [AutoReconnect("gone"), NetworkTimeout("late"), TimeoutError("own clock"), KeyError("reply")]
PLAIN = [
    OperationFailure("no", 14, {"errmsg": "no", "code": 14}),
    ServerSelectionTimeoutError("nobody"),
    UsageError("amount", "is wrong"),
    StateError("c", "k", "a.b", "is wrong"),
    DocumentNotFound("c", "k"),
]


def by_type(error: BaseException) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", OPEN, ids=by_type)
def test_an_open_outcome_is_unknown_to_everybody(world: World, error: Exception) -> None:
    """A lost answer, or one that could not be read, is OutcomeUnknown with its cause: alone as well as in a group."""
    first, *others = world.wait("a", "b", "c")
    world.request(1).fail(error)
    world.request(2).fail(error)
    found = errors([first, *others])
    assert [type(each) for each in found] == [OutcomeUnknown] * 3
    assert all(each.__cause__ is error for each in found)
    assert len(set(map(id, found))) == 3
    assert type(error).__name__ in str(found[0])
    world.idle()


@pytest.mark.parametrize("error", PLAIN, ids=by_type)
def test_a_refusal_reaches_everybody_as_a_copy(world: World, error: Exception) -> None:
    """A plain refusal stays what it is, and each member raises one of its own that tells where it came from."""
    first, *others = world.wait("a", "b", "c")
    world.request(1).fail(error)
    assert first.exception(PATIENCE) is error
    error.__cause__ = cause = ValueError("why")
    before = len(traceback.extract_tb(error.__traceback__))
    world.request(2).fail(error)
    found = errors(others)
    for each in found:
        assert type(each) is type(error)
        assert str(each) == str(error)
        assert each.__cause__ is cause
        assert vars(each) == vars(error)
        assert "together" in [line.name for line in traceback.extract_tb(each.__traceback__)]
    assert len({id(each) for each in [error, *found]}) == 3
    one, other = (traceback.extract_tb(each.__traceback__) for each in found)
    assert abs(len(one) - len(other)) <= 2, "a traceback is shared, and grows"
    error.__cause__ = None
    assert before <= len(one)


class Uncopyable(OperationFailure):
    """An error that cannot be made anew from its own arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


class Swapped(OperationFailure):
    """An error whose copy is something else."""

    def __copy__(self) -> Exception:
        return ValueError("not me")


@pytest.mark.parametrize("error", [Uncopyable(1, 2), Swapped("me")], ids=by_type)
def test_an_error_that_cannot_be_copied_is_shared(world: World, error: Exception) -> None:
    """Where copying does not work, each member raises the error itself."""
    assert own_copy(error) is error
    tickets = world.wait("a", "b", "c")
    world.request(1).answer()
    world.request(2).fail(error)
    assert all(each is error for each in errors(tickets[1:]))


@pytest.mark.parametrize("reply", [[], ["one"], ["one", "two", "three"], None, 5], ids=repr)
def test_a_wrong_number_of_answers_is_unknown(world: World, reply: Any) -> None:
    """If there is not one answer to each call, nobody is given that of another: the outcome is unknown."""
    tickets = world.wait("a", "b", "c")
    world.request(1).answer()
    request = world.request(2)
    request.reply.set_result(reply)
    found = errors(tickets[1:])
    assert [type(each) for each in found] == [OutcomeUnknown] * 2
    assert isinstance(found[0].__cause__, (RuntimeError, TypeError))
    world.idle()


def test_unknown_is_passed_on_as_it_is(world: World) -> None:
    """An OutcomeUnknown of the functions themselves is not wrapped in another one."""
    tickets = world.wait("a", "b", "c")
    error = OutcomeUnknown("nobody knows")
    error.__cause__ = cause = AutoReconnect("gone")
    world.request(1).fail(error)
    world.request(2).fail(error)
    for each in errors(tickets):
        assert type(each) is OutcomeUnknown
        assert str(each) == "nobody knows"
        assert each.__cause__ is cause


def test_a_lane_goes_on_after_an_error(world: World) -> None:
    """An error is that of its own request: those that wait are sent."""
    first, *others = world.wait("a", "b", "c")
    world.request(1).fail(OperationFailure("no", 14))
    world.request(2).answer()
    assert answers(others) == ["b@0", "c@1"]
    assert isinstance(first.exception(PATIENCE), OperationFailure)
    world.idle()


# ----------------------------------------------------------------------------------------- context, close


def test_a_group_has_the_context_of_nobody(world: World) -> None:
    """What a caller has in its context, such as the driver's deadline, does not reach a group."""
    tickets = [world.start(call, who=f"caller {call}") for call in "abc"]
    world.request(1).answer()
    assert world.request(1).context == "caller a"
    assert world.request(2).context == "nobody"
    world.request(2).answer()
    answers(tickets)


def test_close_waits_and_refuses(world: World) -> None:
    """`close` ends when every call that was accepted has its answer; later calls are refused by name."""
    tickets = world.wait("a", "b", "c")
    other = world.start("x", lane="other")
    closing = [world.start_close(), world.start_close()]
    eventually(lambda: world.closers() == 2)
    with pytest.raises(UsageError, match=r"^puppet: is closed"):
        world.start("d").result(PATIENCE)
    world.request(1).answer()
    world.request(3)
    assert world.closers() == 2
    world.request(2).answer()
    eventually(lambda: world.queue("other") is None)
    assert world.closers() == 2
    assert not any(each.done() for each in closing)
    world.request(3).answer()
    assert answers([*tickets, other]) == ["a@0", "b@0", "c@1", "x@0"]
    assert answers([*closing, world.start_close()]) == [None] * 3
    assert not world.lanes()
    with pytest.raises(UsageError, match=r"^puppet: is closed"):
        world.start("d").result(PATIENCE)


def test_close_with_nobody_there_is_immediate(world: World) -> None:
    """Groups that were never used, or are idle, close at once."""
    assert world.start_close().result(PATIENCE) is None
