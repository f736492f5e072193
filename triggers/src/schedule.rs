//! Cron schedules: five fields, and the wall-clock times that they name.

use std::ops::Range;

use chrono::{DateTime, NaiveDateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use pipeline_contract::{PlanError, Spanned, nearest};

/// The fields in their order: name, what may stand there.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, or L for the last"),
    ("month", "1 to 12 or JAN to DEC"),
    ("day of the week", "0 to 7 or SUN to SAT"),
];

const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * SUN"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// The wall-clock times that five fields name.
pub(crate) struct Schedule {
    cron: Cron,
    /// The hours are named, rather than `*`, `*/2` or all 24.
    pub(crate) named_hours: bool,
}

impl Schedule {
    pub(crate) fn parse(text: &Spanned<String>) -> Result<Self, Vec<PlanError>> {
        let written = text.trim();
        let fields = if written.starts_with('@') {
            match NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(written)) {
                Some((_, fields)) => fields,
                None => return Err(vec![unknown_nickname(text, written)]),
            }
        } else {
            check_fields(text)?;
            written
        };
        let cron = parser().parse(fields).map_err(|fault| vec![text.error("E020", format!("`schedule`: {fault}"))])?;
        let named_hours = !fields.split_whitespace().nth(1).is_some_and(|hour| hour.contains('*')) && cron.pattern.hours.values().len() < 24;
        let schedule = Self { cron, named_hours };
        // The calendar repeats itself: what does not happen after 2000 never does.
        if schedule.next(DateTime::from_timestamp(946_684_800, 0).unwrap_or_default().naive_utc(), true).is_none() {
            return Err(vec![text.error("E020", format!("`schedule`: \"{written}\" never fires: no month has such a day"))]);
        }
        Ok(schedule)
    }

    /// The first time named after `after`, or at it.
    pub(crate) fn next(&self, after: NaiveDateTime, inclusive: bool) -> Option<NaiveDateTime> {
        // To croner it is UTC, which never shifts: shifts are our own affair.
        self.cron.find_next_occurrence::<DateTime<Utc>>(&after.and_utc(), inclusive).ok().map(|at| at.naive_utc())
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build()
}

fn unknown_nickname(text: &Spanned<String>, written: &str) -> PlanError {
    let names = NICKNAMES.map(|(name, _)| name);
    let fault = text.error("E020", format!("`schedule`: nothing is called {written}"));
    match nearest(written, names) {
        Some(name) => fault.meant(format_args!("\"{name}\""), format!("\"{name}\"")),
        None => fault.help(format!("there are {}", names.join(", "))),
    }
}

/// The fields, each with its place in the text.
fn fields(text: &str) -> Vec<(Range<usize>, &str)> {
    let place = |field: &str| field.as_ptr() as usize - text.as_ptr() as usize;
    text.split_whitespace().map(|field| (place(field)..place(field) + field.len(), field)).collect()
}

fn check_fields(text: &Spanned<String>) -> Result<(), Vec<PlanError>> {
    let fields = fields(text);
    let wanted = "a schedule has five fields: minute, hour, day of the month, month, day of the week, as \"20 * * * *\"";
    match fields.len() {
        0 => return Err(vec![text.error("E020", "`schedule` is empty").help(wanted)]),
        5 => {}
        6 => {
            let fault = text.error("E020", "`schedule` has six fields: there are no seconds");
            return Err(vec![fault.help(format!("{wanted}; for less than a minute take `type = \"interval\"`"))]);
        }
        other => return Err(vec![text.error("E020", format!("`schedule` has {other} fields")).help(wanted)]),
    }
    let mut faults = Vec::new();
    for (n, ((place, field), (name, range))) in fields.into_iter().zip(FIELDS).enumerate() {
        // Each field alone, among fields that name everything, so that the fault can point at it.
        let alone: Vec<&str> = (0..5).map(|other| if other == n { field } else { "*" }).collect();
        if field.split(',').any(str::is_empty) || parser().parse(&alone.join(" ")).is_err() {
            let article = if name == "hour" { "an" } else { "a" };
            let message = format!("`schedule`: \"{field}\" is not {article} {name}");
            let help = format!("{article} {name} is {range}; `*` is every one, `*/5` every fifth, `1-5` a range, `1,3` a list");
            faults.push(PlanError::new("E020", message).at_part(text, place, None).help(help));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Schedule, String> {
        let quoted = format!("\"{text}\"");
        Schedule::parse(&Spanned::new(text.into(), 0..text.len() + 2)).map_err(|faults| {
            let told = faults.into_iter().map(|fault| {
                let place = fault.span.clone().map(|span| quoted[span].to_owned()).unwrap_or_default();
                format!("[{place}] {} / {}", fault.message, fault.help.unwrap_or_default())
            });
            told.collect::<Vec<_>>().join("\n")
        })
    }

    #[test]
    fn good_schedules_are_read() {
        for (text, named) in [
            ("20 * * * *", false),
            ("*/5 * * * *", false),
            ("0 */2 * * *", false),
            ("0 0-23 * * *", false),
            ("*/5 2 * * *", true),
            ("30 6 * * MON-FRI", true),
            ("0,30 2,14 1 jan *", true),
            ("0 0 L * *", true),
            ("0 0 29 2 *", true),
            ("0 0 * * 7", true),
            ("0 9 * * 1#1", true),
            ("  0  9 * * *  ", true),
            ("@hourly", false),
            ("@Midnight", true),
        ] {
            assert_eq!(parse(text).map(|schedule| schedule.named_hours), Ok(named), "{text}");
        }
    }

    #[test]
    fn bad_schedules_say_what_is_wrong_with_which_field() {
        let starts = |text: &str, expected: &str| {
            let told = parse(text).err().unwrap_or_default();
            assert!(told.starts_with(expected), "{text}: {told}");
        };
        starts("60 * * * *", "[60] `schedule`: \"60\" is not a minute / a minute is 0 to 59; ");
        starts("0 24 * * *", "[24] `schedule`: \"24\" is not an hour / ");
        starts("0 0 0 * *", "[0] `schedule`: \"0\" is not a day of the month / ");
        starts("0 0 1 13 *", "[13] `schedule`: \"13\" is not a month / ");
        starts("0 0 * * 8", "[8] `schedule`: \"8\" is not a day of the week / ");
        starts("1, * * * *", "[1,] `schedule`: \"1,\" is not a minute / ");
        starts(", * * * *", "[,] ");
        starts("*/0 * * * *", "[*/0] ");
        starts("x * * * *", "[x] ");
        starts("0 0 * * MONDAY", "[MONDAY] ");
        starts("0 0 12 * * *", "[\"0 0 12 * * *\"] `schedule` has six fields: there are no seconds / a schedule has five fields: ");
        starts("* * *", "[\"* * *\"] `schedule` has 3 fields / ");
        starts("", "[\"\"] `schedule` is empty / ");
        let all = parse("61 25 * * mon-fry").err().unwrap_or_default();
        assert_eq!(
            all.lines().map(|line| line.split(" / ").next().unwrap()).collect::<Vec<_>>(),
            [
                "[61] `schedule`: \"61\" is not a minute",
                "[25] `schedule`: \"25\" is not an hour",
                "[mon-fry] `schedule`: \"mon-fry\" is not a day of the week",
            ]
        );
        starts("@dayly", "[\"@dayly\"] `schedule`: nothing is called @dayly / did you mean \"@daily\"?");
        starts("@reboot", "[\"@reboot\"] `schedule`: nothing is called @reboot / there are @hourly, ");
        starts("0 0 30 2 *", "[\"0 0 30 2 *\"] `schedule`: \"0 0 30 2 *\" never fires: no month has such a day");
        starts("0 0 31 2,4,6,9,11 *", "[\"0 0 31 2,4,6,9,11 *\"] `schedule`: \"0 0 31 2,4,6,9,11 *\" never fires");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-0-9*/,LW#?+@A-F ]{0,24}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_five_fields_make_it_panic(fields in prop::collection::vec("[*]|[*]/[0-9]{1,2}|[0-9]{1,2}(-[0-9]{1,2})?(/[0-9])?|[0-9](,[0-9])*|L|[0-9]{1,2}W|[0-9]#[0-9]|[0-9]L|[+]MON", 5)) {
            let _ = parse(&fields.join(" "));
        }
    }
}
