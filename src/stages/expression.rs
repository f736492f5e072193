//! Expressions of a pipeline file: compiled, with their faults at the right bytes of the file.

use pipeline_contract::arrow::Schema;
use pipeline_contract::{PlanError, Spanned, StageError};
use pipeline_expr::{EvalError, Expr, ExprError};

/// A value for each row.
pub(crate) fn compile(text: &Spanned<String>, schema: &Schema) -> Result<Expr, Vec<PlanError>> {
    Expr::compile(text, schema).map_err(|faults| in_file(text, faults))
}

/// A condition for each row.
pub(crate) fn compile_condition(text: &Spanned<String>, schema: &Schema) -> Result<Expr, Vec<PlanError>> {
    Expr::compile_predicate(text, schema).map_err(|faults| in_file(text, faults))
}

/// The batch does not fit the expression: it was compiled for another schema.
pub(crate) fn unfit(error: &EvalError) -> StageError {
    StageError::developer(format!("a batch does not have its planned schema: {}", error.message))
}

fn in_file(text: &Spanned<String>, faults: Vec<ExprError>) -> Vec<PlanError> {
    let plan_error = |fault: ExprError| {
        let error = PlanError::new("E040", fault.message).at_part(text, fault.span, fault.replacement);
        PlanError { help: fault.help, ..error }
    };
    faults.into_iter().map(plan_error).collect()
}

#[cfg(test)]
mod tests {
    use pipeline_contract::{ColumnType, parse_config, schema, table_from_str};
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, JsonSchema)]
    struct Config {
        expr: Spanned<String>,
    }

    #[test]
    fn faults_point_into_the_file_where_the_text_stands_there_as_it_is() {
        let columns = schema([("low", ColumnType::Float, false), ("name", ColumnType::Text, false)]);
        for (file, pointed) in [
            (r#"expr = "low > hgih""#, "hgih"),
            (r#"expr   =   'low > hgih'"#, "hgih"),
            (r#"expr = "näme > 1 and hgih > 1""#, "näme"),
            (r#"expr = "low > \"hgih\"""#, r#""low > \"hgih\"""#),
            ("expr = \"\"\"low > hgih\"\"\"", "\"\"\"low > hgih\"\"\""),
            ("expr = '''\nlow > hgih'''", "'''\nlow > hgih'''"),
        ] {
            let config: Config = parse_config("test", &table_from_str(file).unwrap()).unwrap();
            let faults = compile(&config.expr, &columns).unwrap_err();
            assert_eq!(faults[0].code, "E040");
            assert_eq!(&file[faults[0].span.clone().unwrap()], pointed, "{file}: {faults:?}");
        }
    }
}
