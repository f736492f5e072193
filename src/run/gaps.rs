//! Rows that are missing, asked for in a run of their own: in the source's words, when it is their turn, and why some stay missing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::{Category, Filling, Gap, Refusal, RunContext, Source, StageError, Transform, rfc3339};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schedule::Stop;
use super::{Engine, RunRequest};
use crate::state::{RunRecord, RunStatus, SplitStatus, Store};

/// The note of what the source said it cannot fill: see [`refusals`].
const REFUSED: &str = "fill.refused";
/// How often which gap was asked for.
const TRIES: &str = "fill.tries";
/// So many refusals are kept.
const KEPT: usize = 1000;
/// So many gaps are remembered, and hence asked for by themselves; as many as are ever told.
const TRIED: usize = 10_000;
/// So many refusals of a run are logged one by one.
const LOGGED: usize = 10;

const HOUR: Duration = Duration::from_secs(3600);
/// The wait after the first try, the second ...
const WAITS: [Duration; 3] = [HOUR, HOUR.saturating_mul(6), HOUR.saturating_mul(24)];
/// ... after all others, and after a refusal.
const LONGEST_WAIT: Duration = HOUR.saturating_mul(7 * 24);

/// Rows that are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// The stored column that says of what time a row is: gaps speak of its times.
    pub time: String,
    /// Where, in stored columns.
    pub gaps: Vec<Gap>,
}

/// Finds what is missing from what is stored.
pub type FindMissing = Arc<dyn Fn(&dyn Store) -> Result<Missing, StageError> + Send + Sync>;

/// What could not be filled when it was last asked for, and why: of gaps that may be filled by now, too.
///
/// # Errors
/// `storage` when the state cannot be read.
pub fn refusals(store: &dyn Store) -> Result<Vec<Refusal>, StageError> {
    // What a later version wrote otherwise is worth no error: it is found anew.
    Ok(store.note(REFUSED)?.and_then(|note| serde_json::from_value(note).ok()).unwrap_or_default())
}

/// Why the last try did not fill a gap, where it is known.
pub fn reason<'a>(refused: &'a [Refusal], gap: &Gap) -> Option<&'a str> {
    refused.iter().find(|refusal| overlap(&refusal.gap, gap)).map(|refusal| refusal.reason.as_str())
}

fn overlap(one: &Gap, other: &Gap) -> bool {
    one.series == other.series && one.from < other.to && other.from < one.to
}

/// Keeps why gaps that were asked for stay, in the place of what was known of them.
fn keep_refusals(store: &dyn Store, asked: &[Gap], refused: &[Refusal]) -> Result<(), StageError> {
    let before = refusals(store)?;
    let asked = by_series(asked);
    let stays = |refusal: &&Refusal| !among(&asked, &refusal.gap);
    let kept: Vec<Refusal> = refused.iter().chain(before.iter().filter(stays)).take(KEPT).cloned().collect();
    save_refusals(store, &before, &kept)
}

fn save_refusals(store: &dyn Store, before: &[Refusal], now: &[Refusal]) -> Result<(), StageError> {
    if before == now { Ok(()) } else { store.set_note(REFUSED, &as_note(&now)?) }
}

fn as_note(note: &impl Serialize) -> Result<Value, StageError> {
    serde_json::to_value(note).map_err(|error| StageError::developer(format!("a note cannot be written as JSON: {error}")))
}

fn by_series(gaps: &[Gap]) -> BTreeMap<String, Vec<&Gap>> {
    let mut series: BTreeMap<String, Vec<&Gap>> = BTreeMap::new();
    for gap in gaps {
        series.entry(name_of(&gap.series)).or_default().push(gap);
    }
    series
}

fn among(gaps: &BTreeMap<String, Vec<&Gap>>, gap: &Gap) -> bool {
    gaps.get(&name_of(&gap.series)).is_some_and(|of_series| of_series.iter().any(|other| overlap(other, gap)))
}

fn name_of(series: &Map<String, Value>) -> String {
    Value::Object(series.clone()).to_string()
}

/// How often gaps were asked for: a gap that a try left as it was is asked for ever more rarely.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Tries(BTreeMap<String, Try>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Try {
    /// How often.
    #[serde(rename = "n")]
    times: u32,
    /// When last, in seconds of Unix time.
    #[serde(rename = "at")]
    last: i64,
    /// The source could not, then.
    #[serde(rename = "no", default, skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
}

impl Try {
    fn wait(&self) -> Duration {
        let by_number = usize::try_from(self.times).ok().and_then(|times| times.checked_sub(1)).and_then(|place| WAITS.get(place));
        if self.refused { LONGEST_WAIT } else { by_number.copied().unwrap_or(LONGEST_WAIT) }
    }

    /// A try that lies in the future was made by a clock that was ahead.
    fn is_over(&self, now: DateTime<Utc>) -> bool {
        u64::try_from(now.timestamp().saturating_sub(self.last)).is_ok_and(|ago| ago >= self.wait().as_secs()) || now.timestamp() < self.last
    }
}

/// What makes a gap the same gap: one that shrank is another, and asked for at once.
fn identity(gap: &Gap) -> String {
    let text = format!("{}|{}|{}", name_of(&gap.series), gap.from.timestamp_micros(), gap.to.timestamp_micros());
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
}

impl Tries {
    fn load(store: &dyn Store) -> Result<Self, StageError> {
        Ok(store.note(TRIES)?.and_then(|note| serde_json::from_value(note).ok()).unwrap_or_default())
    }

    fn save(&self, store: &dyn Store) -> Result<(), StageError> {
        store.set_note(TRIES, &as_note(self)?)
    }

    /// Forgets gaps that are there no more.
    fn forget(&mut self, gaps: &[Gap]) {
        let there: std::collections::BTreeSet<String> = gaps.iter().map(identity).collect();
        self.0.retain(|gap, _| there.contains(gap));
    }

    /// Those whose turn it is; from now on they count as tried once more.
    fn take(&mut self, gaps: &[Gap], now: DateTime<Utc>) -> Vec<Gap> {
        let mut due = Vec::new();
        for gap in gaps {
            let id = identity(gap);
            let known = self.0.get(&id);
            if known.is_some_and(|known| !known.is_over(now)) || known.is_none() && self.0.len() >= TRIED {
                continue;
            }
            let times = known.map_or(0, |known| known.times).saturating_add(1);
            self.0.insert(id, Try { times, last: now.timestamp(), refused: false });
            due.push(gap.clone());
        }
        due
    }

    fn refuse(&mut self, gap: &Gap, now: DateTime<Utc>) {
        let id = identity(gap);
        if self.0.contains_key(&id) || self.0.len() < TRIED {
            let known = self.0.entry(id).or_insert(Try { times: 1, last: now.timestamp(), refused: true });
            known.refused = true;
        }
    }
}

/// Names of columns, as they are stored and as the source calls them.
type Names = BTreeMap<String, String>;

/// Which columns of the source hold what the stored ones do; else why that cannot be told.
fn trace(missing: &Missing, transforms: &[Box<dyn Transform>]) -> Result<Names, String> {
    let mut names = Names::new();
    let series = missing.gaps.iter().flat_map(|gap| gap.series.keys());
    for stored in series.chain([&missing.time]) {
        if names.contains_key(stored) {
            continue;
        }
        let mut column = stored.clone();
        for (place, transform) in transforms.iter().enumerate().rev() {
            column = transform.origin(&column).ok_or_else(|| {
                format!(
                    "transform {} of the pipeline makes the column `{column}`, so that the source cannot be asked for certain of its values",
                    place + 1
                )
            })?;
        }
        names.insert(stored.clone(), column);
    }
    Ok(names)
}

fn renamed(gap: &Gap, name: impl Fn(&str) -> Option<String>) -> Gap {
    let series = gap.series.iter().map(|(column, value)| (name(column).unwrap_or_else(|| column.clone()), value.clone())).collect();
    Gap { series, ..gap.clone() }
}

/// What the source makes of gaps; refusals speak of stored columns again.
pub(super) async fn filling(
    source: &dyn Source,
    transforms: &[Box<dyn Transform>],
    missing: &Missing,
    context: &RunContext,
) -> Result<Filling, StageError> {
    let names = match trace(missing, transforms) {
        Ok(names) => names,
        Err(reason) => return Ok(Filling::refuse(&missing.gaps, &reason)),
    };
    let asked: Vec<Gap> = missing.gaps.iter().map(|gap| renamed(gap, |column| names.get(column).cloned())).collect();
    let mut filling = source.fill(&asked, context).await?;
    let stored = |column: &str| names.iter().find(|(_, of_source)| *of_source == column).map(|(stored, _)| stored.clone());
    for refusal in &mut filling.refused {
        refusal.gap = renamed(&refusal.gap, stored);
    }
    Ok(filling)
}

/// Nothing of what is missing can be had.
pub(super) fn nothing_to_ask(missing: &Missing, refused: &[Refusal]) -> StageError {
    let why = refused.first().map_or("it names neither splits nor a reason", |refusal| refusal.reason.as_str());
    StageError::operator(Category::ClientError, format!("the source can fill none of {}: {why}", counted(missing.gaps.len())))
        .help("nothing was asked for and nothing was stored; what nobody can bring any more is no gap once `[expect] accept` names it")
}

fn counted(gaps: usize) -> String {
    if gaps == 1 { "1 gap".to_owned() } else { format!("{gaps} gaps") }
}

impl Engine {
    /// A request for a run now that asks for what is missing alone.
    pub fn now_missing(&self, missing: Missing) -> RunRequest {
        RunRequest { missing: Some(missing), ..self.now(None) }
    }

    /// What the source refused to fill in the last run that asked for what is missing, in stored columns.
    pub fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// Forgets what is known of gaps that are there no more. `gaps` are all that there are.
    ///
    /// # Errors
    /// `storage` when the state cannot be read or written.
    pub fn forget_filled(&self, gaps: &[Gap]) -> Result<(), StageError> {
        let mut tries = Tries::load(self.store.as_ref())?;
        let before = tries.clone();
        tries.forget(gaps);
        if tries != before {
            tries.save(self.store.as_ref())?;
        }
        let before = refusals(self.store.as_ref())?;
        let there = by_series(gaps);
        let left: Vec<Refusal> = before.iter().filter(|refusal| among(&there, &refusal.gap)).cloned().collect();
        save_refusals(self.store.as_ref(), &before, &left)
    }

    /// Says what cannot be filled, and keeps it.
    pub(super) fn note_refused(&mut self, missing: &Missing, refused: Vec<Refusal>) -> Result<(), StageError> {
        for Refusal { gap, reason } in refused.iter().take(LOGGED) {
            let (from, to) = (rfc3339(gap.from), rfc3339(gap.to));
            tracing::warn!(series = %name_of(&gap.series), %from, %to, missing = gap.missing, reason, "a gap cannot be filled");
        }
        if let Some(more) = refused.len().checked_sub(LOGGED).filter(|more| *more > 0) {
            tracing::warn!(gaps = more, "more gaps cannot be filled");
        }
        self.refused = refused;
        if self.dry { Ok(()) } else { keep_refusals(self.store.as_ref(), &missing.gaps, &self.refused) }
    }

    /// Asks for those gaps whose turn it is, in a run that ends before the next tick. `None` when there was no such run.
    pub(super) async fn fill_due(&mut self, stop: &Stop) -> Option<RunRecord> {
        let find = self.find_missing.clone()?;
        if stop.idle.is_cancelled() {
            return None;
        }
        match self.fill_what(&find, stop).await {
            Ok(record) => record,
            Err(error) => {
                // The schedule goes on without.
                tracing::warn!(reason = %error, help = error.help.as_deref(), "what is missing could not be looked for; the next run tries again");
                None
            }
        }
    }

    async fn fill_what(&mut self, find: &FindMissing, stop: &Stop) -> Result<Option<RunRecord>, StageError> {
        // Reading all keys takes a while where there are many.
        let (find, store) = (Arc::clone(find), Arc::clone(&self.store));
        let found = tokio::task::spawn_blocking(move || find(store.as_ref())).await;
        let found = found.map_err(|error| StageError::developer(format!("looking for gaps ended without a word: {error}")))??;
        self.forget_filled(&found.gaps)?;
        let now = self.ports.clock.now();
        let left = self.trigger.next(now).map_or(self.settings.deadline, |next| (next - now).to_std().unwrap_or_default());
        let before = Tries::load(self.store.as_ref())?;
        let mut tries = before.clone();
        let due = tries.take(&found.gaps, now);
        if due.is_empty() || left.is_zero() {
            return Ok(None);
        }
        // Before the run: one that takes the process down counts as a try, too.
        tries.save(self.store.as_ref())?;
        let missing = Missing { time: found.time, gaps: due };
        let request = RunRequest { within: Some(left.min(self.settings.deadline)), ..self.now_missing(missing) };
        let record = self.run(&request, &stop.now).await;
        if was_cut_short(&record) {
            // Which gaps it came to nobody knows; what it stored is missing no more, so that this ends.
            before.save(self.store.as_ref())?;
            return Ok(Some(record));
        }
        self.refused.iter().for_each(|refusal| tries.refuse(&refusal.gap, now));
        tries.save(self.store.as_ref())?;
        Ok(Some(record).filter(|record| !record.splits.is_empty() || record.status == RunStatus::Failed))
    }
}

/// It stored something, and there was no time for the rest.
fn was_cut_short(record: &RunRecord) -> bool {
    record.rows.written > 0 && record.splits.iter().any(|split| split.attempts == 0 && split.status != SplitStatus::Ok)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use pipeline_contract::{BuildContext, ColumnType, Stage, schema, table_from_str};

    use super::*;

    fn gap(series: &str, from: i64, to: i64) -> Gap {
        let at = |hour| DateTime::UNIX_EPOCH + TimeDelta::hours(hour);
        let series = Map::from_iter([("coin".to_owned(), Value::from(series))]);
        Gap { series, from: at(from), to: at(to), missing: to.abs_diff(from) }
    }

    /// In which hours a gap is asked for, when it is looked for every hour and the tries are written and read in between.
    fn asked(hours: i64, gap_at: impl Fn(i64) -> Gap, refuse: bool) -> Vec<i64> {
        let mut tries = Tries::default();
        let mut asked = Vec::new();
        for hour in 0..hours {
            let now = DateTime::UNIX_EPOCH + TimeDelta::hours(hour);
            tries = serde_json::from_value(as_note(&tries).unwrap()).unwrap();
            let gap = gap_at(hour);
            tries.forget(std::slice::from_ref(&gap));
            if !tries.take(std::slice::from_ref(&gap), now).is_empty() {
                asked.push(hour);
                if refuse {
                    tries.refuse(&gap, now);
                }
            }
            assert_eq!(tries.0.len(), 1);
        }
        asked
    }

    #[test]
    fn the_waits_between_tries_grow_to_a_week() {
        let week = 7 * 24;
        assert_eq!(asked(600, |_| gap("a", 1, 9), false), [0, 1, 7, 31, 31 + week, 31 + 2 * week, 31 + 3 * week]);
        assert_eq!(asked(600, |_| gap("a", 1, 9), true), [0, week, 2 * week, 3 * week]);
    }

    #[test]
    fn a_gap_that_shrank_is_asked_for_at_once() {
        assert_eq!(asked(20, |hour| gap("a", if hour < 10 { 1 } else { 2 }, 9), false), [0, 1, 7, 10, 11, 17]);
        assert_eq!(asked(20, |hour| gap("a", 1, if hour < 10 { 9 } else { 8 }), true), [0, 10]);
    }

    #[test]
    fn a_try_by_a_clock_that_was_ahead_blocks_nothing() {
        let mut tries = Tries::default();
        let (gaps, now) = ([gap("a", 1, 9)], DateTime::UNIX_EPOCH + TimeDelta::days(400));
        assert_eq!(tries.take(&gaps, now).len(), 1);
        assert_eq!(tries.take(&gaps, now - TimeDelta::days(30)).len(), 1);
        assert_eq!(tries.take(&gaps, now - TimeDelta::days(30)).len(), 0);
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let mut tries = Tries::default();
        let gaps: Vec<Gap> = (0..12_000).map(|n| gap("a", n * 10, n * 10 + 2)).collect();
        assert_eq!(tries.take(&gaps, DateTime::UNIX_EPOCH).len(), TRIED);
        // Those that are not remembered are not asked for at each look either.
        assert_eq!(tries.take(&gaps, DateTime::UNIX_EPOCH).len(), 0);
        gaps.iter().for_each(|gap| tries.refuse(gap, DateTime::UNIX_EPOCH));
        assert_eq!(tries.0.len(), TRIED);
        assert!(as_note(&tries).unwrap().to_string().len() < 500_000);
        tries.forget(&gaps[11_000..]);
        assert_eq!(tries.take(&gaps[11_000..], DateTime::UNIX_EPOCH).len(), 1000);

        let store = crate::state::ModelStore::default();
        let refused: Vec<_> = gaps.iter().map(|gap| Refusal { gap: gap.clone(), reason: "no".to_owned() }).collect();
        keep_refusals(&store, &gaps, &refused).unwrap();
        assert_eq!(refusals(&store).unwrap(), refused[..KEPT]);
    }

    #[test]
    fn a_note_of_another_version_is_no_error() {
        let store = crate::state::ModelStore::default();
        for note in [serde_json::json!("?"), serde_json::json!([{"gap": 1}])] {
            store.set_note(REFUSED, &note).unwrap();
            store.set_note(TRIES, &note).unwrap();
            assert_eq!((refusals(&store).unwrap(), Tries::load(&store).unwrap()), (vec![], Tries::default()));
        }
    }

    #[test]
    fn stored_columns_are_traced_to_those_of_the_source() {
        let source = schema([("coin_id", ColumnType::Text, false), ("time", ColumnType::Timestamp, false)]);
        let wired = |stages: &[(&str, &str)]| {
            let mut input = source.clone();
            let mut transforms = Vec::new();
            for (type_name, toml) in stages {
                let plugins = crate::stages::transforms::plugins();
                let plugin = plugins.iter().find(|plugin| plugin.describe().type_name == *type_name).unwrap();
                let built = plugin.build(&table_from_str(toml).unwrap(), &BuildContext { pipeline: "test".into() }).unwrap();
                let Stage::Transform(mut transform) = built else { panic!("{type_name} is no transform") };
                input = transform.plan(&input).unwrap();
                transforms.push(transform);
            }
            transforms
        };
        let missing = Missing { time: "at".to_owned(), gaps: vec![gap("bitcoin", 1, 2)] };
        let rename = ("rename", "columns = { coin_id = 'coin', time = 'at' }");
        let names = trace(&missing, &wired(&[("filter", "expr = \"coin_id <> 'x'\""), rename])).unwrap();
        assert_eq!(names, Names::from([("coin".to_owned(), "coin_id".to_owned()), ("at".to_owned(), "time".to_owned())]));
        let upper = wired(&[("derive", "columns = { coin_id = 'upper(coin_id)' }\nreplace = true"), rename]);
        let why = trace(&missing, &upper).unwrap_err();
        assert_eq!(why, "transform 1 of the pipeline makes the column `coin_id`, so that the source cannot be asked for certain of its values");
        // A time that was shifted is another one, too.
        let shifted = wired(&[rename, ("cast", "columns = { at = 'integer' }")]);
        assert!(trace(&missing, &shifted).unwrap_err().contains("transform 2 of the pipeline makes the column `at`"));
    }
}
