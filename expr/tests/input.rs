//! Expressions that others wrote.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands, its helpers too")]

mod common;

use common::{batch, compile, show};
use pipeline_contract::testkit::{Draw, Fuzz};

const SAMPLES: [&str; 8] = [
    "n <= least(f, price) AND f >= greatest(price, volume_24h)",
    "CASE WHEN f > 1 THEN round(f, 2) ELSE CAST(i AS FLOAT) END",
    "s LIKE 'a%' ESCAPE '!' OR regexp_matches(s, '^[a-z]+$')",
    "t + INTERVAL '1 hour' > TIMESTAMP '2026-01-01T00:00:00Z'",
    "coalesce(i, n, 3) BETWEEN -1 AND 5 OR i IN (1, 2, 3)",
    "date_trunc('day', t) = '2026-01-01' AND NOT (b IS NULL)",
    "\"coin id\" || '-' || CAST(i AS TEXT) <> ''",
    "substr(lower(s), 1, 2) = 'ab' AND i % 3 = 0 AND -i * 2 / 3 IS NOT DISTINCT FROM n",
];

#[rustfmt::skip]
const WORDS: [&str; 62] = [
    "(", ")", ",", "'", "\"", "''", "--", "/*", "*/", ";", "=", "<>", "<=", "+", "-", "*", "/", "%", "||", ".", "AND ", "OR ", "NOT ", "IN (", "IS NULL",
    "BETWEEN ", "LIKE ", "CASE ", "WHEN ", "THEN ", "ELSE ", "END ", "CAST(", " AS ", "INTERVAL '1 day'", "TIMESTAMP '", "EXTRACT(", "NULL", "TRUE",
    "i", "f", "s", "b", "t", "9223372036854775807", "-9223372036854775808", "1e308", "0.0", "1e-400", "regexp_matches(s, '", "(a{99}){99}", "round(",
    "date_trunc('", "substr(", "abs(", "power(", "least(", "é", "日本", "\0", "SELECT ", "now()",
];

fn made(draw: &mut Draw, depth: usize) -> String {
    if depth == 0 || draw.once_in(4) {
        return draw.of(&["i", "f", "n", "price", "1", "-1", "0", "2.5", "9223372036854775807", "NULL"]).to_owned();
    }
    let (a, b) = (made(draw, depth - 1), made(draw, depth - 1));
    match draw.below(8) {
        0 => format!("CASE WHEN {a} > {b} THEN {a} ELSE {b} END"),
        1 => format!("coalesce({a}, {b})"),
        2 => format!("greatest({a}, {b})"),
        3 => format!("abs({a})"),
        4 => format!("round({a}, 3)"),
        _ => format!("({a} {} {b})", draw.of(&["+", "-", "*", "/", "%"])),
    }
}

#[test]
fn fuzzed_expressions_give_each_row_its_value_or_their_faults_stand_in_them() {
    let all = batch();
    let fuzz = Fuzz { name: "expressions", samples: &SAMPLES, words: &WORDS, cases: 500, cost: 10 };
    fuzz.run_text(
        |draw| made(draw, 4),
        |text| {
            let expr = match compile(text) {
                Ok(expr) => expr,
                Err(faults) => {
                    for fault in faults {
                        assert!(text.get(fault.span.clone()).is_some(), "{fault:?}");
                        assert!(fault.message.len() <= 4 * text.len() + 500, "{fault:?}");
                    }
                    return false;
                }
            };
            // A row's value does not depend on those around it.
            let (whole, errors) = expr.evaluate_each(&all).unwrap();
            let whole = show(&whole);
            assert_eq!(whole.len(), all.num_rows());
            let mut failed = 0;
            for row in 0..all.num_rows() {
                let (one, error) = expr.evaluate_each(&all.slice(row, 1)).unwrap();
                assert_eq!(show(&one), whole[row..=row], "row {row}");
                failed += error.len();
            }
            assert_eq!(failed, errors.len());
            true
        },
    );
}
