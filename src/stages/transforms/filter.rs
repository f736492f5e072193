//! `filter`: the rows for which a condition holds.

use std::sync::Arc;

use pipeline_contract::arrow::array::BooleanArray;
use pipeline_contract::arrow::{Array, RecordBatch, SchemaRef};
use pipeline_contract::{
    Applied, BuildContext, ConfigTable, Descriptor, Kind, PlanError, Plugin, Reject, Spanned, Stage, StageError, parse_config, row_json,
};
use pipeline_expr::Expr;
use schemars::JsonSchema;
use serde::Deserialize;

use super::stateless::{Planned, Step, all_good, stage};
use crate::stages::columns::keep;
use crate::stages::expression::{compile_condition, unfit};

pub(super) struct Filter;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The condition: rows for which it is true stay. The others, also those for which it is unknown (null), are left out; they are not
    /// rejects.
    expr: Spanned<String>,
}

impl Plugin for Filter {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Transform,
            type_name: "filter",
            summary: "Keeps the rows for which a condition is true",
            config: schemars::schema_for!(Config),
            sample: r#"[[transforms]]
type = "filter"
expr = "volume > 0 AND symbol <> 'TEST'"
"#,
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let config: Config = parse_config("transform \"filter\"", config)?;
        Ok(stage(config))
    }
}

impl Planned for Config {
    fn plan(&self, input: &SchemaRef) -> Result<(SchemaRef, Arc<dyn Step>), Vec<PlanError>> {
        let condition = compile_condition(&self.expr, input)?;
        Ok((input.clone(), Arc::new(Filtered { condition })))
    }
}

struct Filtered {
    condition: Expr,
}

impl Step for Filtered {
    fn apply(&self, batch: RecordBatch) -> Result<Applied, StageError> {
        // A row without an answer is null in `holds`, hence left out, and a reject besides: nobody knows whether it was wanted.
        let (holds, errors) = self.condition.matches_each(&batch).map_err(|error| unfit(&error))?;
        let stays: BooleanArray = match holds.nulls() {
            Some(known) => BooleanArray::new(holds.values() & known.inner(), None),
            None => holds,
        };
        if stays.true_count() == batch.num_rows() {
            return Ok(all_good(batch));
        }
        let reject = |error: pipeline_expr::EvalError| error.row.map(|row| Reject::of_row(row_json(&batch, row), "filter", error.message));
        let rejects = errors.into_iter().filter_map(reject).collect();
        Ok(Applied { batch: keep(&batch, &stays)?, rejects })
    }
}
