//! Dates as templates ask for them: `strftime` on a time given in seconds.

use std::fmt::Write as _;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const SECONDS_PER_DAY: i64 = 86_400;

/// A moment in the Gregorian calendar.
struct Moment {
    year: i64,
    /// 0 is January.
    month: usize,
    /// 1 is the first of the month.
    day: i64,
    /// 0 is the first of January.
    day_of_year: i64,
    /// 0 is Sunday.
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Moment {
    fn new(unix_seconds: i64) -> Self {
        let days = unix_seconds.div_euclid(SECONDS_PER_DAY);
        let seconds = unix_seconds.rem_euclid(SECONDS_PER_DAY);
        // 1970-01-01 was a Thursday. The calendar repeats every 400 years, which are 146,097 days.
        let weekday = (days + 4).rem_euclid(7) as usize;
        let mut year = 1970 + 400 * days.div_euclid(146_097);
        let mut day_of_year = days.rem_euclid(146_097);
        while day_of_year >= days_in_year(year) {
            day_of_year -= days_in_year(year);
            year += 1;
        }
        let mut month = 0;
        let mut day = day_of_year;
        while day >= days_in_month(year, month) {
            day -= days_in_month(year, month);
            month += 1;
        }
        Self {
            year,
            month,
            day: day + 1,
            day_of_year,
            weekday,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_year(year: i64) -> i64 {
    365 + i64::from(is_leap(year))
}

fn days_in_month(year: i64, month: usize) -> i64 {
    match month {
        1 => 28 + i64::from(is_leap(year)),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// Writes the time `unix_seconds` as `format` says, as `strftime` does in the C locale and in UTC.
/// `%-d` leaves out the padding. A directive that is not known is written as it stands.
pub(super) fn strftime(unix_seconds: i64, format: &str) -> String {
    let moment = Moment::new(unix_seconds);
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let (padded, directive) = match after.strip_prefix('-') {
            Some(directive) => (false, directive),
            None => (true, after),
        };
        let mut characters = directive.chars();
        let known = characters.next().is_some_and(|name| moment.write(name, padded, &mut out));
        rest = if known { characters.as_str() } else { after };
        if !known {
            out.push('%');
        }
    }
    out + rest
}

impl Moment {
    /// Appends what the directive `name` stands for; false if it is not known.
    fn write(&self, name: char, padded: bool, out: &mut String) -> bool {
        let mut number = |value: i64, width: usize| {
            let width = if padded { width } else { 0 };
            // Writing to a string cannot fail.
            let _ = write!(out, "{value:0width$}");
        };
        match name {
            'Y' => number(self.year, 4),
            'y' => number(self.year.rem_euclid(100), 2),
            'm' => number(self.month as i64 + 1, 2),
            'd' => number(self.day, 2),
            'H' => number(self.hour, 2),
            'I' => number((self.hour + 11) % 12 + 1, 2),
            'M' => number(self.minute, 2),
            'S' => number(self.second, 2),
            'j' => number(self.day_of_year + 1, 3),
            'w' => number(self.weekday as i64, 1),
            'e' if self.day < 10 && padded => out.push_str(&format!(" {}", self.day)),
            'e' => number(self.day, 0),
            'B' => out.push_str(MONTHS[self.month]),
            'b' | 'h' => out.push_str(&MONTHS[self.month][..3]),
            'A' => out.push_str(WEEKDAYS[self.weekday]),
            'a' => out.push_str(&WEEKDAYS[self.weekday][..3]),
            'p' => out.push_str(if self.hour < 12 { "AM" } else { "PM" }),
            'F' | 'T' | 'D' | 'R' => {
                let expanded = match name {
                    'F' => ['Y', '-', 'm', '-', 'd'].as_slice(),
                    'T' => &['H', ':', 'M', ':', 'S'],
                    'D' => &['m', '/', 'd', '/', 'y'],
                    _ => &['H', ':', 'M'],
                };
                for part in expanded {
                    if !self.write(*part, true, out) {
                        out.push(*part);
                    }
                }
            }
            'n' => out.push('\n'),
            't' => out.push('\t'),
            '%' => out.push('%'),
            _ => return false,
        }
        true
    }
}
