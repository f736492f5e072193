//! What the files look like, once the columns are known.

use std::sync::Arc;

use pipeline_contract::arrow::array::ArrayRef;
use pipeline_contract::arrow::{RecordBatch, Schema, SchemaRef};
use pipeline_contract::{Category, ColumnType, PlanError, SinkInput, SinkPlan, Spanned, StageError, listed, nearest};
use pipeline_files::name::Decoded;
use serde_json::json;

use crate::cell::{Cell, Column};
use crate::config::{Checked, ColumnName};
use crate::format::{Format, LONGEST, Lines, Record, Unwritable};
use crate::paths::Paths;
use crate::template::Piece;

/// A column of the file.
#[derive(Clone, Debug)]
pub struct Written {
    /// Which column of the input it is.
    pub(crate) input: usize,
    /// Its name in the file.
    pub name: String,
    /// Its type.
    pub ty: ColumnType,
    /// May it be null?
    pub nullable: bool,
}

/// Where a column is read back from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    /// The cell with this number.
    Cell(usize),
    /// The value with this number in the path.
    Path(usize),
}

/// A column that can be read back.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) ty: ColumnType,
    pub(crate) nullable: bool,
    pub(crate) from: From,
}

/// Everything that is fixed by [`pipeline_contract::Sink::plan`].
#[derive(Clone)]
pub(crate) struct Layout {
    pub(crate) format: Arc<dyn Format>,
    pub(crate) header: Vec<u8>,
    pub(crate) columns: Vec<Written>,
    pub(crate) paths: Paths,
    pub(crate) stored: Vec<Stored>,
    pub(crate) schema: SchemaRef,
    /// The columns of the file that are part of the key, by their number in the file.
    pub(crate) keys: Vec<usize>,
    /// Of these the timestamps whose format drops something: they must be multiples of so many microseconds.
    coarse_keys: Vec<(usize, i64)>,
}

impl Layout {
    pub(crate) fn plan(checked: &Checked, format: &Arc<dyn Format>, input: &SinkInput) -> Result<(Self, SinkPlan), Vec<PlanError>> {
        let mut faults = Vec::new();
        let columns = written(checked, &input.schema).map_err(|found| faults.extend(found)).ok();
        let paths = Paths::bind(checked, &input.schema).map_err(|found| faults.extend(found)).ok();
        let (Some(columns), Some(paths)) = (columns, paths) else {
            if input.replaces {
                faults.extend(moving(checked, input));
            }
            return Err(faults);
        };
        let stored = stored(checked, input, &columns, &paths);
        if checked.is_path_known() {
            faults.extend(lost_keys(checked, input, &columns, &stored));
        }
        if input.replaces {
            faults.extend(moving(checked, input));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let fields = stored.iter().filter_map(|column| input.schema.field_with_name(&column.name).ok().cloned());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let keys: Vec<usize> =
            input.keys.iter().filter_map(|key| columns.iter().position(|column| input.schema.field(column.input).name() == key)).collect();
        let unit = checked.time.unit().filter(|unit| *unit > 1);
        let coarse_keys = keys.iter().filter_map(|key| columns.get(*key)).filter(|column| column.ty == ColumnType::Timestamp);
        let coarse_keys = coarse_keys.filter_map(|column| Some((column.input, unit?))).collect();
        let plan = SinkPlan {
            stored: stored.iter().map(|column| column.name.clone()).collect(),
            written: columns.iter().map(|c| c.input).chain(paths.columns()).map(|at| input.schema.field(at).name().clone()).collect(),
            identity: identity(checked, &**format, input, &columns),
            targets: vec![checked.options.path.trim_start_matches("./").to_owned()],
            warnings: format.warnings(&columns),
        };
        let header = format.header(&columns);
        Ok((Self { format: format.clone(), header, columns, paths, stored, schema, keys, coarse_keys }, plan))
    }

    /// The columns of a batch, ready to be written.
    pub(crate) fn sources<'a>(&self, batch: &'a RecordBatch) -> Vec<Column<'a>> {
        self.columns.iter().map(|column| Column::of(batch.column(column.input), column.ty)).collect()
    }

    /// The instants of a column, in microseconds since 1970, whatever stands where it is null.
    pub(crate) fn instants<'a>(&self, batch: &'a RecordBatch, column: &Written) -> &'a [i64] {
        match Column::of(batch.column(column.input), column.ty) {
            Column::Time(instants) => instants.values(),
            _ => &[],
        }
    }

    /// What makes lines of the rows of a batch.
    pub(crate) fn lines<'a>(&'a self, sources: &'a [Column<'a>]) -> Box<dyn Lines + 'a> {
        self.format.lines(&self.columns, sources)
    }

    /// What is said of a row that cannot be written.
    pub(crate) fn refuse(&self, why: Unwritable) -> StageError {
        match why {
            Unwritable::Instant(at) => {
                let column = self.columns.get(at).map_or("a timestamp", |column| &column.name);
                StageError::split(Category::Storage, format!("{column}: an instant is outside the years that can be written"))
            }
            Unwritable::Long(len) => {
                let message = format!("a row makes a line of {len} bytes, and more than {} MiB is not read back", LONGEST >> 20);
                StageError::split(Category::Storage, message).help("leave the long column out of `columns`, or reject it: `max_length`")
            }
        }
    }

    /// Are all rows for one file, and is there none whose key would not be read back?
    pub(crate) fn takes_all_alike(&self) -> bool {
        self.paths.is_one() && self.coarse_keys.is_empty()
    }

    /// Refuses rows whose key would not be read back, because the time format drops a part of it.
    pub(crate) fn check_keys(&self, batch: &RecordBatch) -> Result<(), StageError> {
        for (input, unit) in &self.coarse_keys {
            let column: &ArrayRef = batch.column(*input);
            for row in 0..batch.num_rows() {
                if let cell @ Cell::Time(micros) = Cell::of(column, ColumnType::Timestamp, row)
                    && micros.rem_euclid(*unit) != 0
                {
                    let name = batch.schema_ref().field(*input).name();
                    let message = format!("`time_format` drops a part of {name} = {}, which is a dedupe key", cell.show());
                    return Err(StageError::split(Category::Storage, message).help("use `rfc3339`, which drops nothing, or a finer format (`%.6f`)"));
                }
            }
        }
        Ok(())
    }

    /// The key cells of a row, as [`Layout::key_of_record`] has them.
    pub(crate) fn key_of_row(&self, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
        out.clear();
        for column in self.keys.iter().filter_map(|key| self.columns.get(*key)) {
            Cell::of(batch.column(column.input), column.ty, row).sign(out);
        }
    }

    /// The key cells of a stored record.
    pub(crate) fn key_of_record(&self, path: &str, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), StageError> {
        out.clear();
        for key in &self.keys {
            if let Some(column) = self.columns.get(*key) {
                self.cell(path, record, *key, &column.name, column.ty, column.nullable)?.sign(out);
            }
        }
        Ok(())
    }

    /// One cell of a stored record.
    pub(crate) fn cell<'a>(
        &self,
        path: &str,
        record: &Record<'a>,
        at: usize,
        name: &str,
        ty: ColumnType,
        nullable: bool,
    ) -> Result<Cell<'a>, StageError> {
        let cell = match record.cells.fault(&self.columns) {
            None => record.cells.cell(record.raw, at, ty, nullable).map_err(|what| format!("{name}: {what}")),
            Some(what) => Err(what),
        };
        cell.map_err(|what| unreadable(path, record.line, &what))
    }

    /// A line that separates nothing: skipped, unless an empty line is how a row looks.
    pub(crate) fn skips(&self, record: &Record<'_>) -> bool {
        record.is_blank() && self.format.skips_blank(&self.columns)
    }

    /// Columns that are read from the path of a file, as cells.
    pub(crate) fn path_cells(&self, path: &str) -> Result<Vec<Cell<'static>>, StageError> {
        let values = self.paths.values(path).ok_or_else(|| StageError::developer(format!("{path} is not a path of this sink")))?;
        let cells = self.stored.iter().map(|column| {
            let From::Path(at) = column.from else { return Ok(Cell::Null) };
            let read = |text: &str| match column.ty {
                ColumnType::Integer => text.parse().ok().map(Cell::Int),
                ColumnType::Boolean => text.parse().ok().map(Cell::Bool),
                _ => Some(Cell::Text(text.to_owned().into())),
            };
            let cell = match values.get(at) {
                Some(Decoded::Null) if column.nullable => Some(Cell::Null),
                Some(Decoded::Text(text)) => read(text),
                // More is kept nowhere.
                Some(Decoded::Shortened { start, mark }) if column.ty == ColumnType::Text => Some(Cell::Text(format!("{start}{mark}").into())),
                _ => None,
            };
            cell.ok_or_else(|| StageError::split(Category::Storage, format!("{path}: {} cannot be read back from the path", column.name)))
        });
        cells.collect()
    }

    /// Refuses a file whose rows cannot be read back whole: a column is in its name alone, and was too long for it.
    pub(crate) fn check_whole(&self, path: &str) -> Result<(), StageError> {
        let Some(name) = self.shortened(path) else { return Ok(()) };
        let message = format!("{path}: the full value of {name} cannot be read from the file's name, which was too short for it");
        let help = format!("add `{name}` to `columns`, so that files keep it, and move this one away, so that its rows are stored anew");
        Err(StageError::operator(Category::Storage, message).help(help))
    }

    /// Refuses rows of which a stored value would be kept nowhere.
    pub(crate) fn check_written(&self, path: &str) -> Result<(), StageError> {
        let Some(name) = self.shortened(path) else { return Ok(()) };
        let message = format!("{path}: the value of {name} is too long for a file's name, and would be kept nowhere");
        Err(StageError::split(Category::Storage, message).help(format!("add `{name}` to `columns`, so that files keep it")))
    }

    /// The column whose value was too long for the path, and that is kept nowhere else.
    fn shortened(&self, path: &str) -> Option<&str> {
        let values = self.paths.values(path).unwrap_or_default();
        let cut = |column: &&Stored| matches!(column.from, From::Path(at) if matches!(values.get(at), Some(Decoded::Shortened { .. })));
        self.stored.iter().find(cut).map(|column| column.name.as_str())
    }
}

/// A stored line that makes no row.
pub(crate) fn unreadable(path: &str, line: u64, what: &str) -> StageError {
    StageError::split(Category::Storage, format!("{path} line {line}: {what}"))
        .help("mend the line or take it out, or move the file away; then `pipeline state rebuild FILE`")
}

fn written(checked: &Checked, schema: &SchemaRef) -> Result<Vec<Written>, Vec<PlanError>> {
    let mut faults = Vec::new();
    let mut columns: Vec<Written> = Vec::new();
    let mut add = |input: usize, name: &str, fault: &dyn Fn(String) -> PlanError| {
        let field = schema.field(input);
        let Some(ty) = ColumnType::of(field.data_type()) else {
            faults.push(fault(format!("`{}` has the type {}, which pipelines do not speak", field.name(), field.data_type())));
            return;
        };
        if columns.iter().any(|column| column.name == name) {
            faults.push(fault(format!("two columns of the file are named `{name}`")).help("rename one with `as`"));
        }
        columns.push(Written { input, name: name.to_owned(), ty, nullable: field.is_nullable() });
    };
    let mut unknown = Vec::new();
    match &checked.options.columns {
        None => (0..schema.fields().len()).for_each(|input| add(input, schema.field(input).name(), &|message| PlanError::new("E032", message))),
        Some(list) if list.is_empty() => return Err(vec![list.error("E032", "`columns` names no column").help("leave it out to write all columns")]),
        Some(list) => {
            for column in list.iter() {
                match schema.index_of(&column.column) {
                    Ok(input) => add(input, &column.name, &|message| column.error("E032", message)),
                    Err(_) => unknown.push(no_column(column, schema)),
                }
            }
        }
    }
    faults.extend(unknown);
    if faults.is_empty() { Ok(columns) } else { Err(faults) }
}

fn no_column(column: &Spanned<ColumnName>, schema: &SchemaRef) -> PlanError {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    let error = column.error("E032", format!("there is no column `{}`", column.column));
    match nearest(&column.column, names()) {
        // The name stands alone where the file has it as it is; a table has it beside its other name.
        Some(near) if column.span().len() == column.column.len() + 2 => error.meant(format_args!("`{near}`"), format!("\"{near}\"")),
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help(format!("the columns are {}", listed(names()))),
    }
}

/// The columns that are read back as they were, in the order of the schema.
fn stored(checked: &Checked, input: &SinkInput, columns: &[Written], paths: &Paths) -> Vec<Stored> {
    let fields = input.schema.fields().iter().enumerate();
    let stored = fields.filter_map(|(i, field)| {
        let ty = ColumnType::of(field.data_type())?;
        // A key whose instants the format would change is refused when it comes; another column is not, and so does not count as stored.
        let is_key = input.keys.contains(field.name());
        let whole = ty != ColumnType::Timestamp || checked.time.unit().is_some_and(|unit| unit == 1 || is_key);
        let cell = columns.iter().position(|column| column.input == i).filter(|_| whole).map(From::Cell);
        let from = cell.or_else(|| paths.kept().position(|column| column == i).map(From::Path))?;
        Some(Stored { name: field.name().clone(), ty, nullable: field.is_nullable(), from })
    });
    stored.collect()
}

fn lost_keys(checked: &Checked, input: &SinkInput, columns: &[Written], stored: &[Stored]) -> Vec<PlanError> {
    let lost = input.keys.iter().filter(|key| !stored.iter().any(|column| column.name == **key));
    lost.map(|key| {
        let written = columns.iter().any(|column| input.schema.field(column.input).name() == key);
        let message = format!("the dedupe key `{key}` could not be read back from the files");
        match (&checked.options.columns, &checked.options.time_format) {
            (_, Some(format)) if written => {
                format.error("E033", message).help("use `rfc3339`, or a format with date and time down to what the key needs")
            }
            (Some(list), _) => PlanError::new("E033", message).at(list.span()).help(format!("add `{key}` to `columns`")),
            (None, _) => checked.options.path.error("E033", message).help(format!("`{key}` must be a column")),
        }
    })
    .collect()
}

/// A row that is replaced must stay in its file.
fn moving(checked: &Checked, input: &SinkInput) -> Vec<PlanError> {
    let columns =
        checked.pieces.iter().filter_map(|piece| if let Piece::Column { name, name_at, .. } = piece { Some((name, name_at)) } else { None });
    let moving = columns.filter(|(name, _)| !input.keys.contains(name) && input.schema.index_of(name).is_ok());
    moving
        .map(|(name, at)| {
            let message = format!("rows are replaced, but their file depends on `{name}`, which is not a dedupe key");
            let help = format!("take `{name}` out of `path` or into `dedupe.keys`, or set `on_conflict = \"keep_first\"`");
            PlanError::new("E035", message).at(checked.in_path(at.clone())).help(help)
        })
        .collect()
}

/// What state is bound to.
fn identity(checked: &Checked, format: &dyn Format, input: &SinkInput, columns: &[Written]) -> serde_json::Value {
    let mut identity = format.identity();
    identity.insert("path".to_owned(), json!(*checked.options.path));
    identity.insert("columns".to_owned(), columns.iter().map(|c| json!([input.schema.field(c.input).name(), c.name])).collect());
    identity.insert("time_format".to_owned(), json!(checked.options.time_format.as_ref().map_or("rfc3339", |text| text.as_str())));
    identity.into()
}
