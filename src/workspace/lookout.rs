//! How new and how complete what a pipeline stored is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::TimestampMicrosecondType;
use pipeline_contract::{Category, Filter, Ports, StageError, row_json};
use serde_json::{Map, Value};

use crate::plan::Plan;
use crate::run::sink_context;
use crate::state::{ChunkKey, Store};
use crate::watch::{Coverage, Found, Held};

/// Who looks at what a pipeline stored: once at everything, and then at what changed.
pub struct Lookout {
    coverage: Coverage,
    held: Held,
    loaded: bool,
}

impl Lookout {
    /// Nothing is looked at yet.
    pub fn new(plan: &Plan) -> Self {
        Self { coverage: Coverage::new(&plan.expected), held: plan.expected.held, loaded: false }
    }

    /// Looks at what dedupe holds: at everything the first time, then at these chunks.
    ///
    /// # Errors
    /// `storage` when the state cannot be read.
    pub fn look(&mut self, store: &dyn Store, changed: &[ChunkKey]) -> Result<Found, StageError> {
        if self.held != Held::Keys {
            return Ok(Found::default());
        }
        // After an error it is not known what changed: everything is looked at again.
        if std::mem::take(&mut self.loaded) {
            self.coverage.touch(store, changed)?;
        } else {
            self.coverage.load(store)?;
        }
        self.loaded = true;
        self.coverage.found()
    }

    /// As [`Lookout::look`], and where dedupe does not hold times, from the rows of the first sink. `state_dir` is the pipeline's own folder.
    ///
    /// # Errors
    /// When the state or the rows cannot be read.
    pub async fn look_or_read(
        &mut self,
        plan: &Plan,
        store: &Arc<dyn Store>,
        ports: &Ports,
        state_dir: &Path,
        changed: &[ChunkKey],
    ) -> Result<Found, StageError> {
        match self.held {
            Held::Rows => self.read(plan, store, ports, state_dir).await,
            Held::Keys | Held::Unknown => self.look(store.as_ref(), changed),
        }
    }

    async fn read(&self, plan: &Plan, store: &Arc<dyn Store>, ports: &Ports, state_dir: &Path) -> Result<Found, StageError> {
        let (Some(time), Some(part)) = (&plan.expected.time, plan.parts.sinks.first()) else { return Ok(Found::default()) };
        let context = sink_context(&plan.parts.name, &part.id, ports, store, state_dir);
        let mut stream = part.sink.read_back(&context, &Filter::default()).await?;
        let mut series: BTreeMap<String, (Map<String, Value>, Vec<i64>)> = BTreeMap::new();
        while let Some(batch) = stream.next().await? {
            let times = batch.column_by_name(time).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
            let times = times.ok_or_else(|| StageError::operator(Category::Storage, format!("`{time}` was not read back as a timestamp")))?;
            let places: Vec<usize> = plan.expected.series.iter().filter_map(|name| batch.schema().index_of(name).ok()).collect();
            let names = batch.project(&places).map_err(|error| StageError::developer(error.to_string()))?;
            for (row, at) in times.iter().enumerate() {
                let Some(at) = at else { continue };
                let name = row_json(&names, row);
                let key = Value::Object(name.clone()).to_string();
                series.entry(key).or_insert_with(|| (name, Vec::new())).1.push(at);
            }
        }
        Ok(self.coverage.found_in(series.into_values().collect()))
    }
}
