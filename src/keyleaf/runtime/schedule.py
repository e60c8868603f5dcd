"""When a CronJob runs next. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from keyleaf.core.errors import InputError

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def next_run(schedule: str, time_zone: str, after: float) -> float:
    """The first moment past ``after`` that ``schedule`` names; both in seconds since 1970 UTC.

    Args:
        schedule: five fields, or a macro such as ``@hourly``. ``time_zone``: an IANA name; empty is UTC.

    Raises:
        InputError: the schedule or the time zone is not one.

    Syntax: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax
    """
    try:
        zone = ZoneInfo(time_zone) if time_zone else UTC
        expression = _MACROS.get(schedule.strip().lower(), schedule)
        if len(expression.split()) != 5:
            raise CronSimError("not five fields")
        moment: datetime = next(CronSim(expression, datetime.fromtimestamp(after, zone)))
        return moment.timestamp()
    except (CronSimError, StopIteration):
        raise InputError(f"{schedule!r} is not a cron schedule", hint="five fields, as in '*/5 * * * *'") from None
    except (ZoneInfoNotFoundError, ValueError):
        raise InputError(f"{time_zone!r} is not a time zone", hint="an IANA name, as in 'Europe/Berlin'") from None
