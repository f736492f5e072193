//! Rows of a batch that need not be copied out of it.

use std::borrow::Cow;

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::arrow::array::BooleanArray;
use pipeline_contract::arrow::buffer::BooleanBuffer;
use pipeline_contract::{StageError, select_rows};

/// Where fewer of four rows are wanted, they are copied: whoever goes over all of them would do so in vain for many.
const OF_FOUR: usize = 3;

/// Some rows of a batch, or all of them.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    pub(crate) batch: RecordBatch,
    /// Those that count; all of them do where it is `None`.
    pub(crate) selection: Option<BooleanArray>,
    /// How many count.
    pub(crate) rows: usize,
}

impl From<RecordBatch> for Selected {
    fn from(batch: RecordBatch) -> Self {
        let rows = batch.num_rows();
        Self { batch, selection: None, rows }
    }
}

impl Selected {
    /// The rows of a batch of which this is true. They are as good as copied where they are few.
    ///
    /// # Errors
    /// When rows cannot be copied, which is a fault of the program.
    pub(crate) fn of(batch: &RecordBatch, is_wanted: impl Fn(usize) -> bool) -> Result<Self, StageError> {
        let all = batch.num_rows();
        let selection = BooleanBuffer::collect_bool(all, is_wanted);
        match selection.count_set_bits() {
            0 => Ok(RecordBatch::new_empty(batch.schema()).into()),
            rows if rows == all => Ok(batch.clone().into()),
            rows => {
                let selected = Self { batch: batch.clone(), selection: Some(BooleanArray::new(selection, None)), rows };
                if 4 * rows < OF_FOUR * all { Ok(selected.copied()?.into_owned().into()) } else { Ok(selected) }
            }
        }
    }

    /// A batch of these rows alone.
    ///
    /// # Errors
    /// As [`Selected::of`].
    pub(crate) fn copied(&self) -> Result<Cow<'_, RecordBatch>, StageError> {
        match &self.selection {
            Some(selection) => select_rows(&self.batch, selection).map(Cow::Owned),
            None => Ok(Cow::Borrowed(&self.batch)),
        }
    }
}
