"""The circuit breaker by itself, and what Retry-After means."""

from __future__ import annotations

import math
import random
from email.utils import format_datetime, formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyleaf.client.breaker import BreakerSettings, CircuitBreaker, retry_after_seconds

ALWAYS = BreakerSettings()


def breaker(jitter: float = 1.0) -> CircuitBreaker:
    return CircuitBreaker(lambda: jitter)


def test_it_opens_tries_once_and_closes() -> None:
    subject = breaker()
    assert subject.refuses(0.0) is None
    assert subject.failed(subject.leave(0.0), 0.1)
    assert subject.state(0.1) == "open"
    assert subject.refuses(0.2) == pytest.approx(0.4)
    assert subject.refuses(0.6) is None
    trying = subject.leave(0.6)
    assert subject.state(0.6) == "half-open"
    assert subject.refuses(0.61) == ALWAYS.spacing, "exactly one is let through"
    with pytest.raises(ValueError, match="nothing through"):
        subject.leave(0.61)
    assert subject.succeeded(trying, 0.7)
    assert subject.state(0.7) == "closed"
    assert subject.refuses(0.7) is None


def test_each_failure_in_a_row_doubles_the_backoff_up_to_the_longest() -> None:
    subject, now, waits = breaker(), 0.0, []
    for _ in range(10):
        subject.failed(subject.leave(now), now)
        waits.append(subject.refuses(now) or 0.0)
        now += waits[-1] + 1e-9
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30])


def test_a_failure_soon_after_closing_goes_on_where_the_backoff_was() -> None:
    for calm, expected in ((7.9, 2.0), (8.0, 0.5)):
        subject, now = breaker(), 0.0
        for _ in range(2):
            subject.failed(subject.leave(now), now)
            now += (subject.refuses(now) or 0.0) + 1e-9
        subject.succeeded(subject.leave(now), now)
        now += calm + 1e-9
        subject.failed(subject.leave(now), now)
        assert subject.refuses(now) == pytest.approx(expected)


def test_a_longer_retry_after_wins() -> None:
    subject = breaker()
    subject.failed(subject.leave(0.0), 0.0, wait=12)
    assert subject.refuses(0.0) == 12
    subject = breaker()
    subject.failed(subject.leave(0.0), 0.0, wait=0.1)
    assert subject.refuses(0.0) == 0.5
    subject = breaker()
    subject.failed(subject.leave(0.0), 0.0, wait=1e9)
    assert subject.refuses(0.0) == ALWAYS.longest_wait


def test_late_results_change_nothing_but_the_asked_for_wait() -> None:
    subject = breaker()
    tickets = [subject.leave(0.0) for _ in range(4)]
    assert subject.failed(tickets[0], 0.1)
    assert not subject.failed(tickets[1], 0.2)
    assert subject.refuses(0.2) == pytest.approx(0.4), "one outage, one step of the backoff"
    assert not subject.succeeded(tickets[2], 0.2)
    assert subject.state(0.2) == "open"
    assert not subject.failed(tickets[3], 0.3, wait=5)
    assert subject.refuses(0.3) == pytest.approx(5.0)


def test_a_failure_from_before_the_outage_does_not_open_it_again() -> None:
    subject = breaker()
    early, late = subject.leave(0.0), subject.leave(0.0)
    subject.failed(early, 0.1)
    assert subject.succeeded(subject.leave(1.0), 1.1)
    assert not subject.failed(late, 1.2)
    assert subject.state(1.2) == "closed"


def test_a_try_that_was_given_up_lets_another_one_try() -> None:
    subject = breaker()
    subject.failed(subject.leave(0.0), 0.0)
    given_up = subject.leave(1.0)
    subject.dropped(given_up)
    assert subject.refuses(1.1) is None
    second = subject.leave(1.1)
    subject.dropped(given_up)
    assert subject.refuses(1.2) is not None, "only who tries can give up"
    assert not subject.succeeded(given_up, 1.3)
    assert subject.succeeded(second, 1.4)


@settings(deadline=None)
@given(st.integers(), st.lists(st.tuples(st.floats(0, 0.4), st.floats(0, 3)), min_size=30, max_size=300))
def test_while_failing_no_second_holds_more_than_two_tries(seed: int, steps: list[tuple[float, float]]) -> None:
    """Whatever the jitter, however often somebody wants to ask, and however long each failure takes."""
    subject = CircuitBreaker(random.Random(seed).random)
    subject.failed(subject.leave(0.0), 0.0)
    now, left = 0.0, []
    for step, latency in steps:
        now += step
        if subject.refuses(now) is None:
            left.append(now)
            ticket = subject.leave(now)
            now += latency
            assert subject.failed(ticket, now)
    assert left == sorted(left)
    for start in left:
        assert sum(1 for time in left if start <= time < start + 1) <= 2


def test_retry_after_is_a_number_of_seconds_or_a_date() -> None:
    now = 1_700_000_000.0
    assert retry_after_seconds("7", now) == 7
    assert retry_after_seconds(" 0.5 ", now) == 0.5
    assert retry_after_seconds(formatdate(now + 90, usegmt=True), now) == 90
    assert retry_after_seconds(formatdate(now + 90), now) == 90, "a date without a zone is in UTC"
    assert retry_after_seconds(formatdate(now - 90, usegmt=True), now) == 0


@settings(deadline=None)
@given(
    st.one_of(
        st.text(max_size=40), st.sampled_from(["-5", "nan", "inf", "1e999", ""]), st.datetimes().map(format_datetime)
    )
)
def test_retry_after_of_any_text_is_a_time(text: str) -> None:
    wait = retry_after_seconds(text, 1_700_000_000.0)
    assert wait >= 0
    assert math.isfinite(wait)
