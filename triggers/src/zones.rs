//! The time zones by their names: those of the database that is built in, never those of the system, so that a pipeline ticks the same everywhere.

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// What a machine is said to have whose zone nobody has set: listed, and no place's time.
const NOWHERE: &str = "Factory";

/// The zone of exactly this name, as `Europe/Berlin`: the database itself does not mind upper and lower case.
pub(crate) fn find(name: &str) -> Option<TimeZone> {
    let zone = TimeZoneDatabase::bundled().get(name).ok()?;
    (name != NOWHERE && zone.iana_name() == Some(name)).then_some(zone)
}

/// The names that [`find`] takes, in alphabetical order.
pub(crate) fn names() -> Vec<String> {
    let mut all: Vec<_> = TimeZoneDatabase::bundled().available().map(|name| name.to_string()).filter(|name| name != NOWHERE).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_zone_and_nothing_else_is() {
        let names = names();
        assert!(names.len() > 500, "{}", names.len());
        assert!(names.is_sorted());
        for name in &names {
            assert_eq!(find(name).as_ref().and_then(TimeZone::iana_name), Some(name.as_str()));
        }
        for name in ["Factory", "Etc/Unknown", "europe/berlin", "utc", "posixrules", "localtime", "CET-1CEST", "+02:00", ""] {
            assert!(!names.iter().any(|known| known == name), "{name}");
            assert_eq!(find(name), None, "{name}");
        }
    }
}
