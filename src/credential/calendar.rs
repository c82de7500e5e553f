//! Days of the Gregorian calendar.

/// The number of days of a month (1 to 12) in the Gregorian calendar, extended back to the year 0000; 0 for any other
/// month.
pub(super) fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 0,
    }
}

/// The number of days from 1970-01-01 to a valid day of the years 0000 to 9999.
///
/// Years are counted from March, so that the leap day is the last day of its year, and in 400-year cycles of 146 097
/// days.
pub(super) fn days_since_epoch(year: u32, month: u32, day: u32) -> i64 {
    let (year, month, day) = (i64::from(year), i64::from(month), i64::from(day));
    let march_year = if month <= 2 { year - 1 } else { year };
    let cycle = march_year.div_euclid(400);
    let year_of_cycle = march_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    cycle * 146_097 + day_of_cycle - DAYS_TO_1970
}

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;

fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_follows_the_day_before() {
        // The reference counts day by day, from a day with a known number.
        let mut expected = -719_528;
        for year in 0..=9999 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month) {
                    assert_eq!(days_since_epoch(year, month, day), expected, "{year}-{month}-{day}");
                    expected += 1;
                }
            }
        }
        assert_eq!(expected, 2_932_897, "one past 9999-12-31");
    }

    #[test]
    fn february_knows_centuries() {
        for (year, days) in [(0, 29), (1900, 28), (2000, 29), (2023, 28), (2024, 29), (2100, 28), (9999, 28)] {
            assert_eq!(days_in_month(year, 2), days, "{year}");
        }
        assert_eq!((days_in_month(2026, 0), days_in_month(2026, 13)), (0, 0));
    }
}
