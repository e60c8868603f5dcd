"""The power goes: 1,000 cuts on a simulated disk, and two controls that show that the harness would have noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash.power_cut import power_cuts

from keyleaf.ledger import connect
from keyleaf.store import Database

CUTS = 1000


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_in_a_power_cut() -> None:
    figures = power_cuts(CUTS)
    assert (figures.cuts, figures.lost, figures.corrupt, dict(figures.problems)) == (CUTS, 0, 0, {})
    assert figures.acknowledged > 20 * CUTS


def test_synchronous_normal_loses_acknowledged_writes() -> None:
    figures = power_cuts(100, synchronous="NORMAL")
    assert figures.lost > 50
    assert figures.corrupt == 0


def test_a_disk_that_ignores_syncs_corrupts() -> None:
    figures = power_cuts(60, ignores_syncs=True)
    assert figures.corrupt > 10


def test_the_real_connections_sync_every_commit(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    connection = connect(url)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    database = Database.open(url)
    with database.write() as opened:
        assert opened.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert opened.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    database.close()
