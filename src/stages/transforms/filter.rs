//! `filter`: the rows for which a condition holds.

use std::ops::Range;
use std::sync::Arc;

use pipeline_contract::arrow::array::BooleanArray;
use pipeline_contract::arrow::{Array, RecordBatch, SchemaRef};
use pipeline_contract::{
    Applied, BuildContext, ConfigTable, Descriptor, Draft, Kind, PlanError, Plugin, Reject, Spanned, Stage, StageError, parse_partial, row_json,
    select_rows,
};
use pipeline_expr::Expr;
use schemars::JsonSchema;
use serde::Deserialize;

use super::stateless::{Planned, Step, all_good, same, stage};
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
            config: || schemars::schema_for!(Config),
            sample: r#"[[transforms]]
type = "filter"
expr = "volume > 0 AND symbol <> 'TEST'"
"#,
        }
    }

    fn build(&self, config: &ConfigTable<'_>, cx: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        self.draft(config, cx).whole()
    }

    fn draft(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Draft {
        let (typed, faults) = parse_partial::<Config>("transform \"filter\"", config);
        Draft::new(typed.map(stage), faults)
    }

    fn outline(&self, _: &ConfigTable<'_>, input: Option<&SchemaRef>) -> Option<SchemaRef> {
        input.cloned()
    }
}

impl Planned for Config {
    fn plan(&self, input: &SchemaRef) -> Result<(SchemaRef, Arc<dyn Step>), Vec<PlanError>> {
        let condition = compile_condition(&self.expr, input)?;
        Ok((input.clone(), Arc::new(Filtered { condition, place: self.expr.span() })))
    }
}

struct Filtered {
    condition: Expr,
    place: Range<usize>,
}

impl Step for Filtered {
    fn origin(&self, input: &SchemaRef, column: &str) -> Option<String> {
        same(input, column)
    }

    fn warnings(&self) -> Vec<PlanError> {
        let (what, so) = match self.condition.constant() {
            None => return Vec::new(),
            Some(Some(true)) => ("true", "every row stays"),
            Some(Some(false)) => ("false", "no row stays"),
            Some(None) => ("unknown (null)", "no row stays"),
        };
        let fault = PlanError::warning("W004", format!("this condition is always {what}: {so}")).at(self.place.clone());
        vec![fault.help(if what.starts_with('u') { "to ask for null write IS NULL" } else { "name a column in it, or take the filter away" })]
    }

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
        Ok(Applied { batch: select_rows(&batch, &stays)?, rejects })
    }
}
