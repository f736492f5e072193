//! Many rows at once: the cells of one column after the other, then the lines of them.
//!
//! Cells of one column are made in a loop that knows its type, each in a room of its own, so that the processor is at several of them at a time.
//! A cell stands there with the delimiter or the line end behind it, and all a line takes are copies of whole rooms.

use std::ops::Range;

use pipeline_contract::arrow::array::StringArray;
use pipeline_files::decimal;
use pipeline_files::room::{Room, WIDTH};
use pipeline_files::time::{Date, TimeFormat};
use pipeline_sink_lines::{Column, Lines, Unwritable};

use crate::cell::Style;

/// How many rows are made at once, and how many cells: they stay in the nearest cache.
const ROWS: usize = 128;
const CELLS: usize = 8 << 10;
/// The byte of a room that says how long the cell in it is, with what follows it.
const LEN: usize = WIDTH - 1;
/// The longest text that has room beside what follows it.
const LONGEST: usize = LEN - 2;
/// Stands for the length where a cell is written by itself: it is long, or needs quotes, or cannot be written.
const APART: u8 = u8::MAX;
/// Lines are put together in so many bytes, which grow for none of them.
const PAGE: usize = 8 << 10;

/// What follows a cell.
#[derive(Clone, Copy)]
struct End {
    signs: [u8; 2],
    len: usize,
}

impl End {
    /// Puts it behind a cell of so many signs. Of none, the cell is written by itself.
    #[inline(always)]
    fn put(self, cell: Option<usize>, room: &mut Room) {
        let place = cell.filter(|len| *len <= LONGEST).and_then(|len| Some((len, room.get_mut(len..)?.first_chunk_mut::<2>()?)));
        room[LEN] = match place {
            Some((len, place)) => {
                *place = self.signs;
                (len + self.len) as u8
            }
            None => APART,
        };
    }

    fn bytes(&self) -> &[u8] {
        &self.signs[..self.len]
    }
}

/// The lines of a batch.
pub(crate) struct Columns<'a> {
    style: &'a Style,
    columns: &'a [Column<'a>],
    ends: Vec<End>,
    /// The rows whose cells are made.
    made: Range<usize>,
    /// The cells of these rows, row by row.
    rooms: Vec<Room>,
    page: Vec<u8>,
}

impl<'a> Columns<'a> {
    /// There is a column at least.
    pub(crate) fn new(style: &'a Style, columns: &'a [Column<'a>]) -> Self {
        let end = |at| match (style.newline, at + 1 == columns.len()) {
            (_, false) => End { signs: [style.delimiter, 0], len: 1 },
            ([first, second], _) => End { signs: [*first, *second], len: 2 },
            _ => End { signs: *b"\n\0", len: 1 },
        };
        let ends = (0..columns.len()).map(end).collect();
        Self { style, columns, ends, made: 0..0, rooms: Vec::new(), page: vec![0; PAGE] }
    }

    /// Makes the cells of the rows from this one on.
    fn make(&mut self, first: usize) {
        let rows = self.columns.first().map_or(0, Column::rows);
        self.made = first..rows.min(first + (CELLS / self.columns.len().max(1)).clamp(1, ROWS));
        self.rooms.resize(self.made.len() * self.columns.len(), [0; WIDTH]);
        for (at, (column, end)) in self.columns.iter().zip(&self.ends).enumerate() {
            let mut place = Place { rooms: &mut self.rooms, columns: self.columns.len(), at, end: *end };
            self.style.cells(column, self.made.clone(), &mut place);
        }
    }
}

impl Lines for Columns<'_> {
    fn write(&mut self, mut rows: Range<usize>, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        let count = self.columns.len();
        while !rows.is_empty() {
            if !self.made.contains(&rows.start) {
                self.make(rows.start);
            }
            let part = rows.start..rows.end.min(self.made.end);
            if part.is_empty() {
                // There is no such row.
                break;
            }
            let cells = self.rooms.get((part.start - self.made.start) * count..).unwrap_or_default();
            let mut page = Page { bytes: &mut self.page, len: 0, out };
            for (row, cells) in part.clone().zip(cells.chunks_exact(count)) {
                let from = page.total();
                for (at, cell) in cells.iter().enumerate() {
                    if !page.add(cell) {
                        if !self.style.write(&self.columns[at], row, page.out) {
                            return Err(Unwritable::Instant(at));
                        }
                        page.out.extend_from_slice(self.ends[at].bytes());
                    }
                }
                Unwritable::if_long(page.total() - from)?;
            }
            page.turn();
            rows.start = part.end;
        }
        Ok(())
    }
}

/// Lines that are put together.
struct Page<'a> {
    bytes: &'a mut [u8],
    len: usize,
    out: &'a mut Vec<u8>,
}

impl Page<'_> {
    #[inline]
    fn total(&self) -> usize {
        self.out.len() + self.len
    }

    /// Adds a cell. False when it is one that is written by itself: to `out`, where all before it is.
    #[inline]
    fn add(&mut self, cell: &Room) -> bool {
        let len = usize::from(cell[LEN]);
        match self.bytes.get_mut(self.len..).and_then(|rest| rest.first_chunk_mut::<WIDTH>()) {
            Some(place) if len <= LEN => {
                *place = *cell;
                self.len += len;
                true
            }
            _ => {
                self.turn();
                cell.get(..len).is_some_and(|cell| {
                    self.out.extend_from_slice(cell);
                    true
                })
            }
        }
    }

    fn turn(&mut self) {
        self.out.extend_from_slice(self.bytes.get(..self.len).unwrap_or_default());
        self.len = 0;
    }
}

/// Where the cells of a column are made.
struct Place<'a> {
    rooms: &'a mut [Room],
    columns: usize,
    at: usize,
    end: End,
}

impl Place<'_> {
    /// The rooms of the column.
    #[inline]
    fn rooms(&mut self) -> impl Iterator<Item = &mut Room> {
        self.rooms.chunks_exact_mut(self.columns).filter_map(|row| row.get_mut(self.at))
    }

    /// Makes the cells of values. `put` says how long each is.
    #[inline(always)]
    fn fill<T>(&mut self, values: impl Iterator<Item = T>, mut put: impl FnMut(T, &mut Room) -> Option<usize>) {
        let end = self.end;
        for (room, value) in self.rooms().zip(values) {
            end.put(put(value, room), room);
        }
    }
}

impl Style {
    /// Makes the cells of a column: none that [`Style::write`] would write in another way.
    fn cells(&self, column: &Column<'_>, rows: Range<usize>, place: &mut Place<'_>) {
        /// The values of these rows, whatever stands where they are null.
        fn of<T>(values: &[T], rows: Range<usize>) -> impl Iterator<Item = &T> {
            values.get(rows).unwrap_or_default().iter()
        }
        match column {
            Column::Text(column) => self.texts(column, rows.clone(), place),
            Column::Bool(column) => place.fill(rows.clone().map(|row| column.value(row)), |value, room| {
                let (text, len) = if value { (*b"true\0", 4) } else { (*b"false", 5) };
                room[..5].copy_from_slice(&text);
                Some(len)
            }),
            Column::Int(column) => place.fill(of(column.values(), rows.clone()), |value, room| Some(decimal::put_whole(*value, room))),
            Column::Float(column) => place.fill(of(column.values(), rows.clone()), |value, room| Some(decimal::put(*value, room))),
            Column::Time(column) => {
                let mut date = Date::default();
                let instants = of(column.values(), rows.clone());
                match &self.time {
                    // Each in a loop of its own.
                    time @ TimeFormat::Rfc3339 => place.fill(instants, |micros, room| time.put(*micros, &mut date, room)),
                    time @ TimeFormat::UnixMs => place.fill(instants, |micros, room| time.put(*micros, &mut date, room)),
                    time => place.fill(instants, |micros, room| time.put(*micros, &mut date, room)),
                }
            }
        }
        if !self.null.is_empty() && !matches!(column, Column::Text(_)) {
            // One that looks like null is quoted.
            let ends = place.end.len;
            let alike = |room: &&mut Room| room.get(..usize::from(room[LEN]).wrapping_sub(ends)) == Some(&self.null);
            place.rooms().filter(alike).for_each(|room| room[LEN] = APART);
        }
        if column.has_nulls() {
            let mut null = [0; WIDTH];
            null.iter_mut().zip(&self.null).for_each(|(place, sign)| *place = *sign);
            place.end.put(Some(self.null.len()), &mut null);
            place.rooms().zip(rows).filter(|(_, row)| column.is_null(*row)).for_each(|(room, _)| *room = null);
        }
    }

    fn texts(&self, column: &StringArray, rows: Range<usize>, place: &mut Place<'_>) {
        let data = column.value_data();
        let offsets = column.value_offsets().get(rows.start..=rows.end).unwrap_or_default();
        let [first, .., last] = offsets else { return };
        let all = data.get(*first as usize..*last as usize).unwrap_or_default();
        // Where all texts are short, most often none of them has a sign that needs quotes.
        let looks = all.len() > rows.len() * WIDTH || self.has_special(all);
        place.fill(offsets.iter().zip(&offsets[1..]), |(from, to), room| {
            let rest = data.get(*from as usize..)?;
            let text = rest.get(..(to - from) as usize)?;
            if text.len() > LONGEST || *text == *self.null || (looks && self.has_special(text)) || self.guarded(text) {
                return None;
            }
            match rest.first_chunk() {
                // What stands behind it in the column is copied, too: of a known length, it takes no call.
                Some(wide) => *room = *wide,
                None => room.iter_mut().zip(text).for_each(|(place, sign)| *place = *sign),
            }
            Some(text.len())
        });
    }
}

#[cfg(test)]
mod tests {
    use pipeline_contract::arrow::array::{BooleanArray, Float64Array, Int64Array, TimestampMicrosecondArray};
    use pipeline_sink_lines::OneByOne;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::format::Csv;

    #[derive(Clone, Debug)]
    enum Data {
        Bool(BooleanArray),
        Int(Int64Array),
        Float(Float64Array),
        Text(StringArray),
        Time(TimestampMicrosecondArray),
    }

    impl Data {
        fn column(&self) -> Column<'_> {
            match self {
                Self::Bool(column) => Column::Bool(column),
                Self::Int(column) => Column::Int(column),
                Self::Float(column) => Column::Float(column),
                Self::Text(column) => Column::Text(column),
                Self::Time(column) => Column::Time(column),
            }
        }
    }

    const SPECIAL: [f64; 12] =
        [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, -5e-324, 1e15, 1e16, 1e-5, 0.1 + 0.2];
    const SECOND: i64 = 1_000_000;
    const NULLS: [&str; 14] = [
        "",
        "",
        "",
        "NA",
        "0",
        "-",
        "0.0",
        "true",
        "inf",
        "'=1",
        "1970-01-01T00:00:00Z",
        "abcdefghijklmnopqrstuvwxyz012",
        "abcdefghijklmnopqrstuvwxyz0123",
        "a text for null that has room in nothing",
    ];
    const TIMES: [&str; 8] =
        ["rfc3339", "rfc3339", "unix", "unix_ms", "unix_us", "%Y-%m-%d %H:%M:%S", "%d,%m;%Y|%H\t%M \"%S\"", "%A, the %d of %B in the year %Y"];

    fn numbers() -> BoxedStrategy<f64> {
        prop_oneof![
            6 => (-10_000_000_000_i64..10_000_000_000, 0..5_u8).prop_map(|(n, e)| n as f64 / 10_f64.powi(e.into())),
            2 => (-1_000_000_000_000_000_i64..1_000_000_000_000_000, 0..16).prop_map(|(n, e)| n as f64 / 10_f64.powi(e)),
            1 => any::<f64>(),
            1 => select(&SPECIAL[..]),
        ]
        .boxed()
    }

    fn instants(wild: bool) -> BoxedStrategy<i64> {
        let years = prop_oneof![-62_135_596_800_000_000_i64..253_402_300_800_000_000, -5 * SECOND..5 * SECOND, Just(0)];
        let steps = prop_oneof![Just(1), Just(1000), Just(SECOND), Just(86_400 * SECOND)];
        let tame = (years, steps).prop_map(|(micros, step)| micros - micros.rem_euclid(step)).boxed();
        if wild { prop_oneof![200 => tame, 1 => any::<i64>(), 1 => Just(i64::MIN)].boxed() } else { tame }
    }

    fn texts(plain: bool) -> BoxedStrategy<String> {
        let id = "[a-z0-9-]{1,12}";
        if plain {
            return id.boxed();
        }
        let any = "[a-z =+@'\"\r\n,;|\t\u{ff1d}\u{e9}0-]{0,40}";
        prop_oneof![8 => id, 4 => any, 1 => ".{0,8}", 1 => "[a-z]{26,34}", 1 => select(&NULLS[..]).prop_map(str::to_owned), 1 => "[a-z\"]{0,9}".prop_map(|text| text.repeat(50))].boxed()
    }

    /// Some rows more than are shown, so that a column need not begin where its memory begins.
    fn column(rows: usize, before: usize) -> BoxedStrategy<Data> {
        fn some<T: Clone + std::fmt::Debug + 'static>(cells: BoxedStrategy<T>, len: usize, nulls: bool) -> BoxedStrategy<Vec<Option<T>>> {
            let cells = if nulls { prop::option::weighted(0.8, cells).boxed() } else { cells.prop_map(Some).boxed() };
            prop::collection::vec(cells, len).boxed()
        }
        let len = rows + before;
        any::<(bool, bool)>()
            .prop_flat_map(move |(nulls, tame)| {
                prop_oneof![
                    1 => some(any::<bool>().boxed(), len, nulls).prop_map(move |cells| Data::Bool(BooleanArray::from(cells).slice(before, rows))),
                    1 => some((any::<i64>(), 0..64_u32).prop_map(|(n, shift)| n >> shift).boxed(), len, nulls)
                        .prop_map(move |cells| Data::Int(Int64Array::from(cells).slice(before, rows))),
                    3 => some(numbers(), len, nulls).prop_map(move |cells| Data::Float(Float64Array::from(cells).slice(before, rows))),
                    3 => some(texts(tame), len, nulls).prop_map(move |cells| Data::Text(StringArray::from(cells).slice(before, rows))),
                    2 => some(instants(!tame), len, nulls).prop_map(move |cells| Data::Time(TimestampMicrosecondArray::from(cells).slice(before, rows))),
                ]
            })
            .boxed()
    }

    fn batch() -> impl Strategy<Value = Vec<Data>> {
        let rows = prop_oneof![0..20_usize, select(&[ROWS - 1, ROWS, ROWS + 1, 2 * ROWS, 2 * ROWS + 1][..])];
        (rows, prop_oneof![Just(0), 1..9_usize], 1..6_usize)
            .prop_flat_map(|(rows, before, columns)| prop::collection::vec(column(rows, before), columns))
    }

    fn style() -> impl Strategy<Value = Style> {
        let delimiters = prop_oneof![3 => Just(b','), 1 => select(&b";|\t /_#="[..])];
        (delimiters, select(&NULLS[..]), prop::bool::weighted(0.3), any::<bool>(), select(&TIMES[..])).prop_map(
            |(delimiter, null, guard, crlf, time)| Style {
                delimiter,
                null: null.bytes().filter(|sign| *sign != delimiter).collect(),
                guard,
                newline: if crlf { b"\r\n" } else { b"\n" },
                time: TimeFormat::parse(time).unwrap(),
            },
        )
    }

    fn csv(style: Style) -> Csv {
        Csv { style, header: false, path: 0..0 }
    }

    /// What comes of rows that are written in parts, one of which may lie in another file.
    fn parts(mut lines: impl Lines, rows: usize, cuts: &[usize]) -> Result<Vec<u8>, Unwritable> {
        let (mut from, mut out) = (0, Vec::new());
        for cut in cuts.iter().copied().chain([rows]).map(|cut| cut.min(rows)) {
            let to = cut.max(from);
            lines.write(from..to, &mut out)?;
            from = to;
        }
        Ok(out)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn many_rows_are_written_as_one_by_one(data in batch(), style in style(), mut cuts in prop::collection::vec(0..300_usize, 0..4), singly in prop::bool::weighted(0.1)) {
            let cells: Vec<Column<'_>> = data.iter().map(Data::column).collect();
            let rows = cells[0].rows();
            let format = csv(style);
            let slowly = parts(OneByOne { format: &format, columns: &[], cells: &cells }, rows, &[]);
            cuts.sort_unstable();
            if singly {
                cuts = (0..rows).collect();
            }
            let quickly = parts(Columns::new(&format.style, &cells), rows, &cuts);
            let shown = |made: &Result<Vec<u8>, Unwritable>| made.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).map_err(|why| *why);
            prop_assert_eq!(shown(&quickly), shown(&slowly));
            prop_assert_eq!(quickly, slowly);
        }
    }

    #[test]
    fn rows_of_very_many_columns_and_of_none() {
        let one = Data::Int(Int64Array::from_iter_values(0..3));
        let cells = vec![one.column(); CELLS + 1];
        let format = csv(Style { delimiter: b';', null: Vec::new(), guard: false, newline: b"\n", time: TimeFormat::Rfc3339 });
        let slowly = parts(OneByOne { format: &format, columns: &[], cells: &cells }, 3, &[]);
        assert_eq!(parts(Columns::new(&format.style, &cells), 3, &[]), slowly);
        let mut out = Vec::new();
        pipeline_sink_lines::Format::lines(&format, &[], &[]).write(0..2, &mut out).unwrap();
        assert_eq!(out, b"\n\n");
    }

    #[test]
    fn a_line_that_is_not_read_back_is_told_by_its_length() {
        let long = StringArray::from(vec!["x", "y".repeat(pipeline_sink_lines::LONGEST).as_str()]);
        let numbers = Data::Float(Float64Array::from(vec![1.5, 2.5]));
        let cells = [numbers.column(), Column::Text(&long)];
        let format = csv(Style { delimiter: b',', null: Vec::new(), guard: false, newline: b"\n", time: TimeFormat::Rfc3339 });
        let slowly = parts(OneByOne { format: &format, columns: &[], cells: &cells }, 2, &[]);
        assert_eq!(slowly, Err(Unwritable::Long(pipeline_sink_lines::LONGEST + 5)));
        assert_eq!(parts(Columns::new(&format.style, &cells), 2, &[]), slowly);
    }
}
