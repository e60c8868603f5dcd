"""Orchestrations for the kills: every effect goes into a bank of its own, with and without the idempotency key."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from pathlib import Path

from keyleaf import Retry, activity, activity_info, gather, orchestration, sleep, wait_for_event


def _bank() -> sqlite3.Connection:
    bank = sqlite3.connect(os.environ["KILLS_BANK"], timeout=60, isolation_level=None)
    bank.execute("PRAGMA synchronous=OFF")
    return bank


def open_bank(path: Path) -> None:
    """Make the tables: transfers are unique by idempotency key, runs are not."""
    with sqlite3.connect(path) as bank:
        bank.execute("PRAGMA journal_mode=WAL")
        bank.execute("CREATE TABLE transfers (key TEXT PRIMARY KEY, instance TEXT, activity TEXT)")
        bank.execute("CREATE TABLE runs (instance TEXT, activity TEXT, key TEXT, worker INTEGER, at REAL)")


def _effect() -> None:
    info = activity_info()
    bank = _bank()
    try:
        bank.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?)",
            (info.instance, info.activity, info.idempotency_key, os.getpid(), time.time()),
        )
        bank.execute(
            "INSERT OR IGNORE INTO transfers VALUES (?, ?, ?)", (info.idempotency_key, info.instance, info.activity)
        )
    finally:
        bank.close()


@activity
def debit(amount: int) -> int:
    """Takes money."""
    _effect()
    time.sleep(random.random() * 0.02)
    return amount


@activity(retry=Retry(max_attempts=5, first=0.01))
async def credit(amount: int) -> int:
    """Gives money; fails now and then."""
    _effect()
    if activity_info().attempt < 4 and random.random() < 0.2:
        raise ConnectionError("the bank is busy")
    return amount


@orchestration
async def transfer(amount: int) -> int:
    """A transfer: one debit, three credits at once, a pause, a sub-orchestration, an event."""
    taken = await debit(amount)
    parts = await gather(*[credit(taken + each) for each in range(3)])
    await sleep(0.05)
    booked = await book(sum(parts))
    await wait_for_event("release")
    return int(booked)


@orchestration
async def book(amount: int) -> int:
    """The end of a transfer."""
    return int(await debit(amount))
