"""Cron expressions that mean the same wherever they are read.

Programs differ in what they take beyond the five fields of ``crontab`` (``L``, ``W``, ``#``, seconds, names such as
``@daily``), in ranges of one value, and in whether ``*/2`` limits the day of the month where the day of the week is
limited too (https://pubs.opengroup.org/onlinepubs/9799919799/utilities/crontab.html). What they differ in is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from keyleaf.orchestrate.errors import DefinitionError

_FIELDS = 5
_ITEM = re.compile(r"\*(/\d+)?|(?P<first>\d+|[a-z]{3})(-(?P<last>\d+|[a-z]{3})(/\d+)?)?", re.IGNORECASE)


def require_cron(what: str, cron: object) -> None:
    """Raises DefinitionError unless ``cron`` is five fields that can be relied on, in UTC."""
    fields = cron.split() if isinstance(cron, str) else []
    if len(fields) != _FIELDS:
        raise DefinitionError(
            f"{what}: cron {cron!r} is not usable",
            hint="write five fields: minute, hour, day of the month, month, day of the week; in UTC",
        )
    for item in (item for field in fields for item in field.split(",")):
        found = _ITEM.fullmatch(item)
        if found is None:
            raise DefinitionError(
                f"{what}: cron {cron!r} is not usable: {item!r}", hint="use numbers, names, '*', '-', '/' and ','"
            )
        if found["first"] and found["last"] and found["first"].casefold() == found["last"].casefold():
            raise DefinitionError(f"{what}: cron {cron!r} is not usable: {item!r}", hint=f"write {found['first']}")
    month_day, week_day = fields[2], fields[4]
    if month_day != "*" and week_day != "*" and "*" in month_day + week_day:
        raise DefinitionError(
            f"{what}: cron {cron!r} can be read in two ways: {month_day!r} beside {week_day!r}",
            hint="limit the day of the month or the day of the week, or list the days",
        )
    try:
        CronSim(str(cron), datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise DefinitionError(f"{what}: cron {cron!r} is not usable: {error}") from None
