"""Virtual time: timers fire in order, once, at the charge that reaches them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore.clock import VirtualClock


def test_timers_fire_in_order_of_time_then_of_creation() -> None:
    clock, fired = VirtualClock(), []
    for name, when in (("b", 20), ("a", 10), ("c", 20), ("d", 30)):
        clock.at(when, lambda name=name: fired.append((name, clock.now)))
    clock.charge(9)
    assert fired == [] and clock.next_due() == 10
    clock.charge(1)
    assert fired == [("a", 10)]
    clock.charge(15)
    assert fired == [("a", 10), ("b", 25), ("c", 25)]
    clock.advance_to(30)
    assert fired[-1] == ("d", 30) and clock.next_due() is None


def test_a_cancelled_timer_does_not_fire() -> None:
    clock, fired = VirtualClock(), []
    first = clock.at(10, lambda: fired.append(1))
    clock.at(20, lambda: fired.append(2))
    clock.cancel(first)
    clock.cancel(None)
    assert clock.next_due() == 20
    clock.charge(100)
    assert fired == [2]
    clock.cancel(first)


def test_a_timer_may_charge_set_and_cancel() -> None:
    """What falls due while a timer runs waits for it, and runs in the same sweep."""
    clock, order = VirtualClock(), []

    def first() -> None:
        order.append("first begins")
        clock.charge(50)
        clock.at(clock.now, lambda: order.append("child"))
        clock.cancel(doomed)
        order.append("first ends")

    clock.at(10, first)
    doomed = clock.at(30, lambda: order.append("never"))
    clock.at(40, lambda: order.append("second"))
    clock.charge(10)
    assert order == ["first begins", "first ends", "second", "child"] and clock.now == 60


def test_time_never_goes_back() -> None:
    clock = VirtualClock()
    clock.charge(100)
    clock.advance_to(50)
    assert clock.now == 100
    fired = []
    clock.at(20, lambda: fired.append(clock.now))
    clock.charge(0)
    assert fired == [100], "a timer for the past fires at the next charge"


def test_a_timer_that_fails_does_not_stop_the_clock() -> None:
    clock, fired = VirtualClock(), []

    def fail() -> None:
        raise ValueError

    clock.at(10, fail)
    clock.at(20, lambda: fired.append(clock.now))
    try:
        clock.charge(10)
    except ValueError:
        pass
    clock.charge(10)
    assert fired == [20]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=30), st.lists(st.integers(0, 20), max_size=20))
def test_any_schedule(timers: list[tuple[int, bool]], charges: list[int]) -> None:
    clock = VirtualClock()
    fired: list[int] = []
    live = []
    for k, (when, keep) in enumerate(timers):
        timer = clock.at(when, lambda k=k: fired.append(k))
        if keep:
            live.append((when, k))
        else:
            clock.cancel(timer)
    now = 0
    for ns in charges:
        now += ns
        clock.charge(ns)
        due = sorted(t for t in live if t[0] <= now)
        assert fired == [k for _, k in due] or ns == 0
        later = [when for when, _ in live if when > now]
        if ns:
            assert clock.next_due() == (min(later) if later else None)


def test_cancelled_timers_do_not_pile_up() -> None:
    clock = VirtualClock()
    fired: list[int] = []
    for k in (5, 3, 4):
        clock.at(k * 1000, lambda k=k: fired.append(k))  # type: ignore[misc]
    for _ in range(10_000):
        clock.cancel(clock.at(10**12, lambda: fired.append(0)))
    assert len(clock._heap) < 200
    assert clock.next_due() == 3000
    clock.advance_to(10_000)
    assert fired == [3, 4, 5] and clock.next_due() is None
    twice = clock.at(20_000, lambda: fired.append(1))
    clock.cancel(twice)
    clock.cancel(twice)
    assert clock.next_due() is None and clock._cancelled == 0
