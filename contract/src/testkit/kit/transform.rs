//! The kit of transforms.

use arrow_array::RecordBatch;

use super::options::Subject;
use super::{Promise, Report, batch_fault, difference, ensure, reject_fault, rows_text, schema_fault};
use crate::{Kind, Plugin, Split, Stage, Transform};

/// Runs a transform through every promise of [`Promise::PLUGIN`] and [`Promise::TRANSFORM`].
pub struct TransformKit {
    subject: Subject,
    input: RecordBatch,
}

/// Rows and rejects, in words.
type Out = (Vec<String>, Vec<String>);

impl TransformKit {
    /// A kit for the transform that `toml`, a table of `[[transforms]]` with or without its `type`, builds, and rows for it.
    pub fn new(plugin: impl Plugin + 'static, toml: &str, input: RecordBatch) -> Self {
        Self { subject: Subject::new(Box::new(plugin), Kind::Transform, toml), input }
    }

    /// Tries everything, and panics with everything that was broken.
    #[track_caller]
    pub fn assert(&self) {
        self.check().assert();
    }

    fn transform(&self) -> Result<(Box<dyn Transform>, arrow_schema::SchemaRef), String> {
        let Stage::Transform(mut transform) = self.subject.build()? else { return Err("it builds no transform".to_owned()) };
        let schema = transform.plan(&self.input.schema()).map_err(|faults| format!("the plan fails: {faults:?}"))?;
        Ok((transform, schema))
    }

    /// Takes batches through one split.
    fn apply(&self, batches: &[RecordBatch]) -> Result<Out, String> {
        let (transform, schema) = self.transform()?;
        let mut run = transform.start(&Split::new("kit"));
        let mut out: Out = Default::default();
        let mut applied = Vec::new();
        for batch in batches {
            applied.push(run.apply(batch.clone()).map_err(|error| format!("it fails: {error}"))?);
        }
        applied.extend(run.finish().map_err(|error| format!("it fails at the end: {error}"))?);
        for applied in applied {
            if let Some(fault) = batch_fault(&applied.batch, &schema).or_else(|| reject_fault(&applied.rejects)) {
                return Err(fault);
            }
            out.0.extend(rows_text(&applied.batch, &[]));
            out.1.extend(applied.rejects.iter().map(|reject| format!("{reject:?}")));
        }
        let (rows, given) = (out.0.len() + out.1.len(), batches.iter().map(RecordBatch::num_rows).sum::<usize>());
        ensure(rows <= given, || format!("of {given} rows it made {rows}"))?;
        Ok(out)
    }

    /// Tries everything.
    pub fn check(&self) -> Report {
        let mut report = Report::default();
        self.subject.check(&mut report);
        let whole = std::slice::from_ref(&self.input);
        let mut expected = None;
        report.case(
            Promise::Applies,
            || "all rows".to_owned(),
            || {
                if let Some(fault) = schema_fault(&self.transform()?.1) {
                    return Err(fault);
                }
                expected = Some(self.apply(whole)?);
                Ok(())
            },
        );
        report.case(Promise::Applies, || "no rows".to_owned(), || self.apply(&[self.input.slice(0, 0)]).map(drop));
        let Some(expected) = expected else { return report };
        let same = |found: Out| {
            difference(&found.0, &expected.0).map_or(Ok(()), Err)?;
            difference(&found.1, &expected.1).map_or(Ok(()), |how| Err(format!("rejects: {how}")))
        };
        report.case(Promise::Pure, || "once more".to_owned(), || same(self.apply(whole)?));
        for size in [1, 2, 3, 7] {
            let cut = || {
                let rows = self.input.num_rows();
                (0..rows).step_by(size).map(|at| self.input.slice(at, size.min(rows - at))).collect::<Vec<_>>()
            };
            report.case(Promise::Batches, || format!("in batches of {size}"), || same(self.apply(&cut())?));
        }
        report
    }
}
