"""The system clock."""

from datetime import UTC, datetime, timedelta, tzinfo


class SystemClock:
    """Implements the port `Clock`."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class SystemZone(tzinfo):
    """The time zone of this host, with the changes of its clocks."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        if moment is None:
            return None
        return moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        at = moment.replace(tzinfo=UTC)
        shown = at.astimezone().replace(tzinfo=None)
        # Of an hour that the clocks show twice, this may be the second.
        second = shown.replace(fold=0).astimezone(UTC) != at
        return shown.replace(tzinfo=self, fold=int(second))
