//! What was expected against what was found, line by line.

/// One line of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Expected, and found: places in both.
    Same(usize),
    /// Expected, and not found.
    Missing(usize),
    /// Found, and not expected.
    Extra(usize),
}

/// Beyond so many comparisons the difference is not the shortest.
const MOST: usize = 1_000_000;

/// A shortest difference (longest common subsequence) of `expected` things and `found` ones. `Same` and `Extra` hold places of what was found.
pub(super) fn lines(expected: usize, found: usize, same: impl Fn(usize, usize) -> bool) -> Vec<Line> {
    let most = expected.min(found);
    let head = (0..most).take_while(|n| same(*n, *n)).count();
    let tail = (0..most - head).take_while(|n| same(expected - 1 - n, found - 1 - n)).count();
    let (left, right) = (expected - head - tail, found - head - tail);
    let mut lines: Vec<Line> = (0..head).map(Line::Same).collect();
    if left.saturating_mul(right) > MOST {
        lines.extend((head..head + left).map(Line::Missing));
        lines.extend((head..head + right).map(Line::Extra));
    } else {
        // best[i][j]: how many can be paired of the expected from i on and the found from j on.
        let mut best = vec![vec![0_usize; right + 1]; left + 1];
        for i in (0..left).rev() {
            for j in (0..right).rev() {
                best[i][j] = if same(head + i, head + j) { best[i + 1][j + 1] + 1 } else { best[i + 1][j].max(best[i][j + 1]) };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < left || j < right {
            if i < left && j < right && same(head + i, head + j) {
                lines.push(Line::Same(head + j));
                (i, j) = (i + 1, j + 1);
            } else if j == right || i < left && best[i + 1][j] >= best[i][j + 1] {
                lines.push(Line::Missing(head + i));
                i += 1;
            } else {
                lines.push(Line::Extra(head + j));
                j += 1;
            }
        }
    }
    lines.extend((found - tail..found).map(Line::Same));
    lines
}

/// Equal lines next to a difference that are shown.
const CONTEXT: usize = 2;
/// More lines are not shown.
const LONGEST: usize = 60;

/// The difference as text: cells in columns, `-` before what was expected, `+` before what was found. `cells` are those of a line.
pub(super) fn text(header: &[String], lines: &[Line], cells: impl Fn(Line) -> Vec<String>) -> Vec<String> {
    let near = |n: usize| lines.iter().skip(n.saturating_sub(CONTEXT)).take(2 * CONTEXT + 1).any(|line| !matches!(line, Line::Same(_)));
    let mut table: Vec<(char, Vec<String>)> = Vec::new();
    if !header.is_empty() {
        table.push((' ', header.to_vec()));
    }
    let mut skipped = 0;
    let mut notes = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        if table.len() > LONGEST {
            notes.push(format!("  ... and {} more lines", lines.len() - n));
            break;
        }
        if !near(n) {
            skipped += 1;
            continue;
        }
        if skipped > 0 {
            table.push((' ', vec![format!("... {skipped} as expected")]));
            skipped = 0;
        }
        let sign = match line {
            Line::Same(_) => ' ',
            Line::Missing(_) => '-',
            Line::Extra(_) => '+',
        };
        table.push((sign, cells(*line)));
    }
    if skipped > 0 {
        table.push((' ', vec![format!("... {skipped} as expected")]));
    }
    let columns = table.iter().map(|(_, row)| row.len()).max().unwrap_or_default();
    // A note stands alone in its row and sets no width.
    let wide = |row: &&(char, Vec<String>)| row.1.len() == columns;
    let width = |place: usize| table.iter().filter(wide).filter_map(|(_, row)| row.get(place)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |(sign, row): &(char, Vec<String>)| {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{sign} {}", padded.join("  ")).trim_end().to_owned()
    };
    table.iter().map(line).chain(notes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(expected: &str, found: &str) -> String {
        let (expected, found): (Vec<char>, Vec<char>) = (expected.chars().collect(), found.chars().collect());
        let lines = lines(expected.len(), found.len(), |e, f| expected[e] == found[f]);
        let sign = |line: Line| match line {
            Line::Same(f) => format!(" {}", found[f]),
            Line::Missing(e) => format!("-{}", expected[e]),
            Line::Extra(f) => format!("+{}", found[f]),
        };
        lines.into_iter().map(sign).collect()
    }

    #[test]
    fn a_difference_is_the_shortest() {
        for (expected, found, difference) in [
            ("abc", "abc", " a b c"),
            ("abc", "axc", " a-b+x c"),
            ("abc", "ac", " a-b c"),
            ("ac", "abc", " a+b c"),
            ("", "ab", "+a+b"),
            ("ab", "", "-a-b"),
            ("aa", "a", " a-a"),
        ] {
            assert_eq!(of(expected, found), difference);
        }
    }

    #[test]
    fn what_is_as_expected_is_shown_only_near_a_difference() {
        let lines = lines(20, 20, |e, f| e == f && e != 9);
        let text = text(&["n".to_owned()], &lines, |line| match line {
            Line::Same(n) | Line::Missing(n) | Line::Extra(n) => vec![n.to_string()],
        });
        assert_eq!(text, ["  n", "  ... 7 as expected", "  7", "  8", "- 9", "+ 9", "  10", "  11", "  ... 8 as expected"]);
    }
}
