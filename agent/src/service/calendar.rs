//! Days as a city counts them: in its own time zone, so that a card made after midnight knows who has a birthday.

use einmal_didcomm::UnixSeconds;
use einmal_register::Date;
use jiff::{Timestamp, tz::TimeZone};

/// The days of one time zone. Zones come with the program: what the machine has installed changes no card.
#[derive(Clone, Debug)]
pub(crate) struct Calendar(TimeZone);

impl Calendar {
    /// The days of a zone by its IANA name, of UTC where none is named; `None` if there is no such zone.
    pub(crate) fn of(zone: Option<&str>) -> Option<Self> {
        match zone {
            None => Some(Self(TimeZone::UTC)),
            Some(name) => TimeZone::get(name).ok().map(Self),
        }
    }

    /// The day it is at a moment; `None` if that is out of range.
    pub(crate) fn day_at(&self, moment: UnixSeconds) -> Option<Date> {
        let moment = moment.0;
        let offset = self.0.to_offset(Timestamp::from_second(i64::try_from(moment).ok()?).ok()?);
        Date::from_unix_seconds(moment.checked_add_signed(offset.seconds().into())?)
    }

    /// The first moment after a day; `None` if that is out of range.
    pub(crate) fn end_of(&self, day: Date) -> Option<UnixSeconds> {
        let midnight = Timestamp::from_second(day.plus_days(1)?.unix_seconds()).ok()?;
        let moment = self.0.to_timestamp(TimeZone::UTC.to_datetime(midnight)).ok()?;
        u64::try_from(moment.as_second()).ok().map(UnixSeconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Midnight in UTC that begins the 1st of February and of July 2026.
    const FEBRUARY: u64 = 1_769_904_000;
    const JULY: u64 = 1_782_864_000;

    #[test]
    fn a_day_begins_and_ends_at_midnight_of_its_own_zone() {
        let day = |month, day| Date::new(2026, month, day).unwrap();
        for (zone, winter, summer) in [(None, 0, 0), (Some("Europe/Berlin"), 3600, 7200)] {
            let calendar = Calendar::of(zone).unwrap();
            for (midnight, ahead, before, after) in
                [(FEBRUARY, winter, day(1, 31), day(2, 1)), (JULY, summer, day(6, 30), day(7, 1))]
            {
                let begins = UnixSeconds(midnight - ahead);
                assert_eq!(calendar.day_at(begins), Some(after), "{zone:?}");
                assert_eq!(calendar.day_at(UnixSeconds(begins.0 - 1)), Some(before), "{zone:?}");
                assert_eq!(calendar.end_of(before), Some(begins), "{zone:?}");
            }
        }
    }

    #[test]
    fn a_zone_there_is_none_of_is_no_calendar_and_times_out_of_range_are_no_days() {
        assert!(Calendar::of(Some("Europe/Wetzlar")).is_none());
        let calendar = Calendar::of(Some("America/New_York")).unwrap();
        assert_eq!(calendar.day_at(UnixSeconds(u64::MAX)), None);
        assert_eq!(calendar.day_at(UnixSeconds(0)), None, "the day before the first");
        assert_eq!(calendar.end_of(Date::new(9999, 12, 31).unwrap()), None);
    }
}
