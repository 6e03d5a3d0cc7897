//! Calendar days without a clock: validation, age, and the incomplete birth dates in German registers.

use std::fmt;

use zeroize::Zeroize;

/// Days in 400 Gregorian years.
const DAYS_PER_ERA: i64 = 146_097;

/// A text is not a calendar day. The text itself is withheld: it may be someone's birthday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DateError {
    /// Neither `dd.mm.yyyy` nor `yyyy-mm-dd`.
    #[error("not a date; write dd.mm.yyyy or yyyy-mm-dd")]
    Shape,
    /// The shape is right, but the calendar has no such day (31 February, month 13, year 0).
    #[error("the calendar has no such day")]
    NoSuchDay,
    /// Part of the date is unknown (`00`), but a complete date is needed.
    #[error("part of the date is 00, and a complete date is needed here")]
    Incomplete,
}

/// A day of the proleptic Gregorian calendar, year 1 to 9999. Ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Zeroize)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// The first day there is.
    pub const MIN: Self = Self { year: 1, month: 1, day: 1 };

    /// The day `day` of `month` in `year`.
    ///
    /// # Errors
    ///
    /// [`DateError::NoSuchDay`] unless the calendar has it and the year is 1 to 9999.
    pub fn new(year: u16, month: u8, day: u8) -> Result<Self, DateError> {
        let known = (1..=9999).contains(&year) && (1..=12).contains(&month);
        if !known || day == 0 || day > days_in_month(year, month) {
            return Err(DateError::NoSuchDay);
        }
        Ok(Self { year, month, day })
    }

    /// Reads `dd.mm.yyyy` or `yyyy-mm-dd`; the separators tell which.
    ///
    /// # Errors
    ///
    /// Each [`DateError`]; [`DateError::Incomplete`] for day, month or year `00`.
    pub fn parse(text: &str) -> Result<Self, DateError> {
        match PartialDate::parse(text)? {
            PartialDate::Day(date) => Ok(date),
            _ => Err(DateError::Incomplete),
        }
    }

    /// The day `seconds` after 1970-01-01T00:00Z; `None` after the year 9999.
    pub fn from_unix_seconds(seconds: u64) -> Option<Self> {
        Self::from_days(i64::try_from(seconds / 86_400).ok()?)
    }

    /// The day `days` after this one; `None` after the year 9999.
    pub fn plus_days(self, days: u32) -> Option<Self> {
        Self::from_days(self.days().checked_add(i64::from(days))?)
    }

    /// The day before this one; `None` before the year 1.
    pub fn day_before(self) -> Option<Self> {
        Self::from_days(self.days().checked_sub(1)?)
    }

    /// Seconds from 1970-01-01T00:00Z to the beginning of this day in UTC; negative before.
    pub fn unix_seconds(self) -> i64 {
        self.days() * 86_400
    }

    /// Completed years of life on `today` of someone born on this day; 0 if `today` is earlier.
    ///
    /// A year of life ends with the day before the birthday. Someone born on 29 February therefore turns a year older
    /// on 29 February, or on 1 March in a common year.
    ///
    /// # Specification
    ///
    /// German Civil Code (BGB), § 187(2) second sentence and § 188(2).
    pub fn age_on(self, today: Self) -> u16 {
        let before_birthday = (today.month, today.day) < (self.month, self.day);
        today.year.saturating_sub(self.year).saturating_sub(u16::from(before_birthday))
    }

    /// Days from 1970-01-01 to this day. Counts years from 1 March, so that the leap day comes last.
    fn days(self) -> i64 {
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        era * DAYS_PER_ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }

    fn from_days(days: i64) -> Option<Self> {
        let shifted = days.checked_add(719_468)?;
        let (era, of_era) = (shifted.div_euclid(DAYS_PER_ERA), shifted.rem_euclid(DAYS_PER_ERA));
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era.checked_mul(400)?.checked_add(year + i64::from(month <= 2))?;
        Self::new(u16::try_from(year).ok()?, u8::try_from(month).ok()?, u8::try_from(day).ok()?).ok()
    }
}

/// ISO 8601: `yyyy-mm-dd`.
impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

fn days_in_month(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A day whose day, month or all parts may be unknown, as registers store it: `00.00.1950`.
///
/// Used for birth and death, so `Debug` prints only how much is known.
#[derive(Clone, Copy, PartialEq, Eq, Zeroize)]
pub enum PartialDate {
    /// Completely known.
    Day(Date),
    /// Day unknown: `00.07.1971`. Year and month are valid.
    Month {
        /// Year, 1 to 9999.
        year: u16,
        /// Month, 1 to 12.
        month: u8,
    },
    /// Day and month unknown: `00.00.1950`.
    Year(u16),
    /// Nothing known: `00.00.0000`.
    Unknown,
}

impl PartialDate {
    /// Reads `dd.mm.yyyy` or `yyyy-mm-dd`, with zeros for unknown parts.
    ///
    /// # Errors
    ///
    /// [`DateError::Shape`], or [`DateError::NoSuchDay`], also if the day is known but the month is not.
    pub fn parse(text: &str) -> Result<Self, DateError> {
        let (year, month, day) = split(text).ok_or(DateError::Shape)?;
        match (year, month, day) {
            (0, 0, 0) => Ok(Self::Unknown),
            (year, 0, 0) => Ok(Self::Year(year)),
            (year, month, 0) => Date::new(year, month, 1).map(|_| Self::Month { year, month }),
            (year, month, day) => Date::new(year, month, day).map(Self::Day),
        }
    }

    /// The earliest day this can be; `None` if nothing is known.
    pub fn earliest(self) -> Option<Date> {
        match self {
            Self::Day(date) => Some(date),
            Self::Month { year, month } => Some(Date { year, month, day: 1 }),
            Self::Year(year) => Some(Date { year, month: 1, day: 1 }),
            Self::Unknown => None,
        }
    }

    /// The latest day this can be; `None` if nothing is known.
    pub fn latest(self) -> Option<Date> {
        match self {
            Self::Day(date) => Some(date),
            Self::Month { year, month } => Some(Date { year, month, day: days_in_month(year, month) }),
            Self::Year(year) => Some(Date { year, month: 12, day: 31 }),
            Self::Unknown => None,
        }
    }

    /// The lowest age on `today` that is consistent with what is known; 0 if nothing is.
    ///
    /// So nobody is ever certified to be older than the register can prove.
    pub fn youngest_age_on(self, today: Date) -> u16 {
        self.latest().map_or(0, |born| born.age_on(today))
    }
}

impl fmt::Debug for PartialDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Day(_) => "PartialDate::Day(..)",
            Self::Month { .. } => "PartialDate::Month(..)",
            Self::Year(_) => "PartialDate::Year(..)",
            Self::Unknown => "PartialDate::Unknown",
        })
    }
}

/// Year, month and day as written; `None` unless each has the right number of digits and only digits.
fn split(text: &str) -> Option<(u16, u8, u8)> {
    let parts = |separator| -> Option<[&str; 3]> {
        let mut parts = text.split(separator);
        let three = [parts.next()?, parts.next()?, parts.next()?];
        parts.next().is_none().then_some(three)
    };
    let [year, month, day] = match parts('.') {
        Some([day, month, year]) => [year, month, day],
        None => parts('-')?,
    };
    let digits = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
        return None;
    }
    Some((year.parse().ok()?, month.parse().ok()?, day.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn date(text: &str) -> Date {
        Date::parse(text).unwrap()
    }

    #[test]
    fn both_ways_of_writing_name_the_same_day() {
        assert_eq!(date("09.11.1989"), date("1989-11-09"));
        assert_eq!(date("09.11.1989").to_string(), "1989-11-09");
    }

    #[test]
    fn days_the_calendar_lacks_are_refused() {
        for text in
            ["31.02.1987", "29.02.1900", "29.02.2023", "31.04.2020", "2020-13-01", "12.00.1950", "01.01.0000"]
        {
            assert_eq!(PartialDate::parse(text), Err(DateError::NoSuchDay), "{text}");
        }
        assert!(Date::new(2000, 2, 29).is_ok());
        assert_eq!(Date::new(10_000, 1, 1), Err(DateError::NoSuchDay));
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in [
            "",
            "1.2.1990",
            "01.02.90",
            "01.02.1990 ",
            "1990-2-1",
            "+1.02.1990",
            "01.02.19٩0",
            "01.02.1990.1",
        ] {
            assert_eq!(PartialDate::parse(text), Err(DateError::Shape), "{text}");
        }
    }

    #[test]
    fn a_leap_day_child_grows_older_on_the_first_of_march() {
        let born = date("29.02.2008");
        assert_eq!(born.age_on(date("28.02.2026")), 17);
        assert_eq!(born.age_on(date("01.03.2026")), 18);
        assert_eq!(born.age_on(date("28.02.2024")), 15);
        assert_eq!(born.age_on(date("29.02.2024")), 16);
    }

    #[test]
    fn unknown_parts_count_as_the_youngest_age() {
        let today = date("23.11.2026");
        let age = |text| PartialDate::parse(text).unwrap().youngest_age_on(today);
        assert_eq!(age("00.00.2008"), 17);
        assert_eq!(age("00.11.2008"), 17);
        assert_eq!(age("00.10.2008"), 18);
        assert_eq!(age("00.00.2026"), 0);
        assert_eq!(age("00.00.0000"), 0);
        assert_eq!(Date::parse("00.00.2008"), Err(DateError::Incomplete));
    }

    #[test]
    fn debug_of_a_birth_date_prints_no_date() {
        let printed = format!("{:?}", PartialDate::parse("09.11.1989").unwrap());
        assert!(!printed.chars().any(|c| c.is_ascii_digit()), "{printed}");
    }

    #[test]
    fn unix_seconds_agree_with_known_days() {
        assert_eq!(date("01.01.1970").unix_seconds(), 0);
        assert_eq!(date("23.11.2026").unix_seconds(), 1_795_392_000);
        assert_eq!(Date::from_unix_seconds(1_795_392_000 + 86_399), Some(date("23.11.2026")));
        assert_eq!(date("31.12.9999").plus_days(1), None);
        assert_eq!(Date::from_unix_seconds(u64::MAX), None);
    }

    fn any_date() -> impl Strategy<Value = Date> {
        (1u16..=9999, 1u8..=12, 1u8..=31).prop_filter_map("no such day", |(y, m, d)| Date::new(y, m, d).ok())
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,16}") {
            let _ = PartialDate::parse(&text);
        }

        #[test]
        fn what_is_printed_is_read_back(day in any_date()) {
            prop_assert_eq!(Date::parse(&day.to_string()), Ok(day));
        }

        #[test]
        fn counting_days_goes_there_and_back(day in any_date(), step in 0u32..400_000) {
            prop_assert_eq!(Date::from_days(day.days()), Some(day));
            if let Some(later) = day.plus_days(step) {
                prop_assert_eq!(later.days() - day.days(), i64::from(step));
                prop_assert!(later >= day);
            }
        }

        #[test]
        fn age_never_falls_and_rises_by_one_year_at_most(born in any_date(), today in any_date()) {
            if let Some(tomorrow) = today.plus_days(1) {
                let (now, then) = (born.age_on(today), born.age_on(tomorrow));
                prop_assert!(then == now || then == now + 1);
            }
        }

        #[test]
        fn knowing_less_never_makes_older(born in any_date(), today in any_date()) {
            let whole = PartialDate::Day(born).youngest_age_on(today);
            let month = PartialDate::Month { year: born.year, month: born.month }.youngest_age_on(today);
            let year = PartialDate::Year(born.year).youngest_age_on(today);
            prop_assert!(year <= month && month <= whole && whole <= year + 1);
        }
    }
}
