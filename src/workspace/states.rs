//! The state of a pipeline: who has it, and whether it fits the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeline_contract::{Clock, Ports, RealDisk, Transport};

use super::Refused;
use crate::run::{CreditStore, RealClock, RealRandom, SharedBudget};
use crate::state::{Binding, LockError, ModelStore, PipelineLock, SqliteCredits, SqliteStore, Store};

/// The folder of one pipeline under the state directory.
pub fn state_dir(all: &Path, name: &str) -> PathBuf {
    all.join(name)
}

/// The world outside, and where the month's requests are counted.
pub fn ports(transport: Arc<dyn Transport>, state_dir: &Path) -> (Ports, Arc<dyn CreditStore>) {
    let clock: Arc<dyn Clock> = Arc::new(RealClock::default());
    let credits: Arc<dyn CreditStore> = Arc::new(SqliteCredits::new(state_dir.join("credits.db")));
    let ports = Ports {
        budget: Arc::new(SharedBudget::new(Arc::clone(&clock), Arc::clone(&credits))),
        clock,
        random: Arc::new(RealRandom::default()),
        disk: Arc::new(RealDisk),
        transport,
    };
    (ports, credits)
}

/// A part of the binding while `state rebuild --fill` copies rows: it fits no pipeline file, so that nothing runs before it is done.
pub const UNFINISHED: &str = "state rebuild";

/// A pipeline's state, opened for writing: nobody else has it.
pub struct OpenState {
    /// What is in it.
    pub store: Arc<dyn Store>,
    /// Its folder.
    pub dir: PathBuf,
    _lock: PipelineLock,
}

/// Takes the lock of a pipeline, or says who has it.
///
/// # Errors
/// When another process, or another part of this one, has it, or it cannot be locked at all.
pub fn lock(all: &Path, name: &str) -> Result<PipelineLock, Refused> {
    PipelineLock::acquire(&state_dir(all, name), chrono::Utc::now()).map_err(|error| Refused {
        // A disk that does not let us is no fault of the configuration.
        config: matches!(error, LockError::Held { .. }),
        message: format!("pipeline \"{name}\": {error}"),
        help: Some(error.help().to_owned()),
    })
}

/// Opens the state of a planned pipeline for writing. `all` is the state directory, `path` the pipeline file.
///
/// # Errors
/// When another process has it, or when it does not fit the pipeline file; nothing was written then.
pub fn open_state(all: &Path, name: &str, binding: &Binding, path: &Path) -> Result<OpenState, Refused> {
    let lock = lock(all, name)?;
    let dir = state_dir(all, name);
    let store = SqliteStore::open(&dir)?;
    bind(&store, name, binding, path)?;
    Ok(OpenState { store: Arc::new(store), dir, _lock: lock })
}

/// Binds a state to the pipeline file, if it fits.
///
/// # Errors
/// As [`fits`].
pub fn bind(store: &dyn Store, name: &str, binding: &Binding, path: &Path) -> Result<(), Refused> {
    fits(store, name, binding, path)?;
    if store.binding()?.as_ref() != Some(binding) {
        store.bind(binding)?;
    }
    Ok(())
}

/// Does what is remembered fit the pipeline file? One that is new, or under which nothing was stored, fits all.
///
/// # Errors
/// What changed, and what to do about it; or when the state cannot be read.
pub fn fits(store: &dyn Store, name: &str, planned: &Binding, path: &Path) -> Result<(), Refused> {
    match store.binding()? {
        None => Ok(()),
        Some(bound) if bound == *planned => Ok(()),
        Some(bound) if bound.0.contains_key(UNFINISHED) => {
            let text = format!("`state rebuild --fill` of pipeline \"{name}\" was begun and not finished: a sink still lacks rows");
            Err(Refused::config(text).help(Some(format!("`pipeline state rebuild {} --fill` goes on with it", path.display()))))
        }
        // Nothing was stored under the old one: there is nothing that would not fit.
        Some(_) if store.last_epoch()?.is_none() => Ok(()),
        Some(bound) => Err(misfit(path, name, &bound, planned)),
    }
}

fn misfit(path: &Path, name: &str, bound: &Binding, planned: &Binding) -> Refused {
    let mut changes = Vec::new();
    let parts: std::collections::BTreeSet<&String> = bound.0.keys().chain(planned.0.keys()).collect();
    for part in parts {
        let (was, is) = (bound.0.get(part), planned.0.get(part));
        if was != is {
            let show = |value: Option<&serde_json::Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
            changes.push(format!("\n  {part}: was {}, is {}", show(was), show(is)));
        }
    }
    let file = path.display();
    Refused::config(format!("the state of pipeline \"{name}\" does not fit {file} any more:{}", changes.concat())).help(Some(format!(
        "put the file back as it was; or, when the stored files have been moved or rewritten to fit it, `pipeline state rebuild {file}`; or give the pipeline a new name"
    )))
}

/// The state in a pipeline's own folder, for looking only; an empty one when there is none.
///
/// # Errors
/// When it cannot be read, is damaged, or is from a newer program.
pub fn peek_dir(dir: &Path) -> Result<Arc<dyn Store>, Refused> {
    Ok(match SqliteStore::open_read_only(dir)? {
        Some(store) => Arc::new(store),
        None => Arc::new(ModelStore::default()),
    })
}
