//! What is said of a wrong expression, and of which part of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands, its helpers too")]

mod common;

use common::{columns, compile};
use pipeline_expr::{Expr, ExprError, MAX_OPERATORS, MAX_TEXT};

/// One fault as "message | the text it is about | help".
fn described(text: &str, fault: &ExprError) -> String {
    let about = text.get(fault.span.clone()).unwrap_or_else(|| panic!("{text}: bad span {:?}", fault.span));
    format!("{} | {about} | {}", fault.message, fault.help.as_deref().unwrap_or("-"))
}

#[track_caller]
fn faults(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        let found = match compile(text) {
            Ok(_) => panic!("{text} compiles"),
            Err(found) => found.iter().map(|fault| described(text, fault)).collect::<Vec<_>>(),
        };
        assert_eq!(found, *expected, "{text}");
    }
}

#[test]
fn names() {
    faults(&[
        ("volume_24 > 1", &["unknown column `volume_24` | volume_24 | did you mean `volume_24h`?"]),
        ("Price > 1", &["unknown column `Price` | Price | did you mean `price`?"]),
        ("coin_id = 'x'", &["unknown column `coin_id` | coin_id | did you mean `\"coin id\"`?"]),
        ("zzzzzz > 1", &["unknown column `zzzzzz` | zzzzzz | columns: i, f, s, b, t, n, price, volume_24h and 3 more"]),
        ("s = \"hello world\"", &["unknown column `hello world` | \"hello world\" | double quotes are for names; text is written in single quotes"]),
        ("grestest(f, 1) > 1", &["unknown function `grestest` | grestest | did you mean `greatest`?"]),
        (
            "qqqqqqqqqq(1) > 1",
            &[
                "unknown function `qqqqqqqqqq` | qqqqqqqqqq | the functions are abs, round, floor, ceil, sign, sqrt, ln, log10, exp, power, is_finite, is_nan, least, greatest, coalesce, nullif, if, lower, upper, trim, ltrim, rtrim, length, substr, replace, starts_with, ends_with, contains, concat, split_part, regexp_matches, year, month, day, hour, minute, second, day_of_week, date_trunc, seconds_between, to_timestamp, from_unix, from_unix_ms, unix, unix_ms",
            ],
        ),
        (
            "t < now()",
            &[
                "unknown function `now` | now | there is no clock: the same rows must give the same result in every run; compare with a TIMESTAMP literal or another column",
            ],
        ),
        (
            "t < CURRENT_TIMESTAMP",
            &[
                "`CURRENT_TIMESTAMP` is not supported | CURRENT_TIMESTAMP | there is no clock: the same rows must give the same result in every run; compare with a TIMESTAMP literal or another column",
            ],
        ),
        ("max(f) > 1", &["unknown function `max` | max | aggregates are not supported; for the largest of several values in a row: greatest(a, b)"]),
        ("count(*) > 1", &["unknown function `count` | count | aggregates are not supported: an expression sees one row at a time"]),
        ("substring(s, 1) = ''", &["unknown function `substring` | substring | use substr(text, start, length)"]),
    ]);
}

#[test]
fn comparisons() {
    faults(&[
        ("s > f", &["cannot compare text with float | s | cast it: CAST(s AS FLOAT)"]),
        ("f > s", &["cannot compare text with float | s | cast it: CAST(s AS FLOAT)"]),
        ("f > '5'", &["cannot compare text with float | '5' | write it without quotes: 5"]),
        ("f > 'abc'", &["cannot compare text with float | 'abc' | -"]),
        ("lower(s) = i", &["cannot compare text with integer | lower(s) | cast it: CAST(lower(s) AS INTEGER)"]),
        ("(s || 'x') = i", &["cannot compare text with integer | (s || 'x') | cast it: CAST((s || 'x') AS INTEGER)"]),
        ("1 < f < 5", &["cannot compare boolean with integer | 1 < f | join two comparisons with AND: 1 < x AND x < 5"]),
        ("t > 5", &["cannot compare integer with timestamp | 5 | from_unix(5) or from_unix_ms(5) is a timestamp"]),
        ("t > s", &["cannot compare text with timestamp | s | cast it: CAST(s AS TIMESTAMP)"]),
        ("t > 'yesterday'", &["'yesterday' is not a timestamp | 'yesterday' | write RFC 3339 or a date: '2026-01-31T12:00:00Z', '2026-01-31'"]),
        ("t IN ('2026-01-01', 'x')", &["'x' is not a timestamp | 'x' | write RFC 3339 or a date: '2026-01-31T12:00:00Z', '2026-01-31'"]),
        ("f = NULL", &["a comparison with NULL is never true | NULL | use IS NULL or IS NOT NULL"]),
        ("b = 'true'", &["cannot compare text with boolean | 'true' | write it without quotes: true"]),
        ("f BETWEEN 1 AND s", &["BETWEEN cannot mix text with float | s | cast it: CAST(s AS FLOAT)"]),
        ("i IN (1, s, 2)", &["IN cannot mix text with integer | s | cast it: CAST(s AS INTEGER)"]),
    ]);
}

#[test]
fn operators() {
    faults(&[
        ("s + 1", &["`+` needs numbers, found text | s | text is joined with `||`"]),
        ("f * b", &["`*` needs numbers, found boolean | b | -"]),
        ("-s", &["`-` needs numbers, found text | s | cast it: CAST(s AS FLOAT)"]),
        ("t - t", &["a timestamp minus a timestamp has no type | t - t | use seconds_between(t, t)"]),
        ("t + 1", &["`+` needs numbers, found timestamp | t | a timestamp is moved by an interval: + INTERVAL '1 hour'"]),
        (
            "t * INTERVAL '1 day'",
            &[
                "`*` needs numbers, found timestamp | t | unix(t) is the number of seconds since 1970",
                "`*` needs numbers, found an interval | INTERVAL '1 day' | an interval is added to a timestamp, or subtracted from it",
            ],
        ),
        ("INTERVAL '1 day'", &["an interval is not a value | INTERVAL '1 day' | add it to a timestamp, or subtract it"]),
        ("s || f", &["`||` needs a text, found float | f | cast it: CAST(f AS TEXT)"]),
        ("i AND b", &["AND needs a boolean, found integer | i | compare it: i <> 0"]),
        ("b OR s", &["OR needs a boolean, found text | s | cast it: CAST(s AS BOOLEAN)"]),
        ("NOT (f + 1)", &["NOT needs a boolean, found float | (f + 1) | compare it: (f + 1) <> 0"]),
        ("f LIKE 'x'", &["LIKE needs a text, found float | f | cast it: CAST(f AS TEXT)"]),
        ("s LIKE 'x!' ESCAPE '!'", &["the pattern ends in its escape character `!` | 'x!' | -"]),
        ("s LIKE 'x' ESCAPE 'ab'", &["ESCAPE needs one character in quotes | 'ab' | -"]),
        ("f IS TRUE", &["IS TRUE needs a boolean, found float | f | compare it: f <> 0"]),
        ("CASE WHEN f THEN 1 ELSE 2 END", &["WHEN needs a boolean, found float | f | compare it: f <> 0"]),
        ("CASE WHEN b THEN 1 ELSE s END", &["CASE cannot mix text with integer | s | cast it: CAST(s AS INTEGER)"]),
        ("CASE WHEN b THEN 1 ELSE 'x' END", &["CASE cannot mix text with integer | 'x' | -"]),
        ("NULL", &["the type of NULL is not known here | NULL | CAST(NULL AS FLOAT)"]),
    ]);
}

#[test]
fn literals_and_casts() {
    faults(&[
        (
            "99999999999999999999 > i",
            &["99999999999999999999 does not fit an integer | 99999999999999999999 | write a float: 99999999999999999999.0"],
        ),
        ("1e999 > f", &["1e999 does not fit a float | 1e999 | -"]),
        (
            "TIMESTAMP '2026-13-01' > t",
            &["'2026-13-01' is not a timestamp | '2026-13-01' | write RFC 3339 or a date: '2026-01-31T12:00:00Z', '2026-01-31'"],
        ),
        (
            "t > t + INTERVAL 'soon'",
            &[
                "`INTERVAL 'soon'` is not an interval | INTERVAL 'soon' | write INTERVAL '30 minutes' or INTERVAL '1' HOUR; units: microsecond, millisecond, second, minute, hour, day, week, month, year",
            ],
        ),
        ("CAST(s AS DECIMAL(10, 2)) > 1", &["unknown type `DECIMAL(10, 2)` | DECIMAL(10, 2) | types: BOOLEAN, INTEGER, FLOAT, TEXT, TIMESTAMP"]),
        ("CAST(i AS TIMESTAMP) > t", &["cannot cast integer to timestamp | i | from_unix(i) or from_unix_ms(i) is a timestamp"]),
        ("CAST(t AS INTEGER) > 0", &["cannot cast timestamp to integer | t | unix(t) is the number of seconds since 1970"]),
        ("CAST('abc' AS INTEGER) > 0", &["cannot cast 'abc' to integer | CAST('abc' AS INTEGER) | -"]),
        ("s = N'x'", &["`N'x'` has no meaning here | N'x' | -"]),
    ]);
}

#[test]
fn calls() {
    faults(&[
        ("abs() > 1", &["`abs` takes other arguments | abs() | usage: abs(x)"]),
        ("abs(1, f, 3) > 1", &["`abs` takes other arguments | f, 3 | usage: abs(x)"]),
        ("abs(s) > 1", &["`abs` needs a number, found text | s | cast it: CAST(s AS FLOAT)"]),
        ("round(f, 1.5) > 1", &["`round` needs an integer, found float | 1.5 | cast it: CAST(1.5 AS INTEGER)"]),
        ("sqrt(b) > 1", &["`sqrt` needs a float, found boolean | b | -"]),
        ("coalesce(f, s) > 1", &["`coalesce` cannot mix text with float | s | cast it: CAST(s AS FLOAT)"]),
        ("concat(s, 1) = ''", &["`concat` needs a text, found integer | 1 | cast it: CAST(1 AS TEXT)"]),
        ("regexp_matches(s, '(')", &["bad pattern: unclosed group | '(' | -"]),
        ("regexp_matches(s, '(a{1000}){1000}')", &["bad pattern: it compiles to more than 1 MiB | '(a{1000}){1000}' | -"]),
        ("regexp_matches(s, s)", &["the pattern must be text in quotes | s | -"]),
        ("date_trunc('fortnight', t) = t", &["unknown unit `fortnight` | 'fortnight' | units: second, minute, hour, day, week, month, year"]),
        ("year(s) > 1", &["`year` needs a timestamp, found text | s | cast it: CAST(s AS TIMESTAMP)"]),
        ("year(f) > 1", &["`year` needs a timestamp, found float | f | from_unix(f) or from_unix_ms(f) is a timestamp"]),
        ("abs(DISTINCT f) > 1", &["only plain arguments are supported | abs(DISTINCT f) | usage: abs(x)"]),
        ("abs(f) OVER (ORDER BY f) > 1", &["window functions are not supported | OVER | an expression sees one row at a time"]),
    ]);
}

#[test]
fn syntax() {
    faults(&[
        ("", &["the expression is empty |  | -"]),
        ("  ", &["the expression is empty |    | -"]),
        ("f >", &["expected an expression, found the end of the expression |  | -"]),
        ("f > AND b", &["expected an expression, found `AND` | AND | -"]),
        ("a > 1 b", &["unexpected `b` after the end of the expression | b | an operator such as AND may be missing before it"]),
        ("f == 1", &["there is no operator `==` | == | use `=`"]),
        ("b && b || !b", &["there is no operator `&&` | && | use AND", "there is no operator `!` | ! | use NOT"]),
        ("f::int = 1", &["there is no operator `::` | :: | use CAST(x AS type)"]),
        ("a.b = 1", &["names have no parts here | . | a column whose name has a dot is written in double quotes: \"a.b\""]),
        ("f > (SELECT 1)", &["subqueries are not supported | SELECT | an expression sees one row at a time"]),
        ("f IN (SELECT 1)", &["subqueries are not supported | SELECT | an expression sees one row at a time"]),
        (
            "EXISTS (SELECT 1)",
            &[
                "subqueries are not supported | EXISTS | an expression sees one row at a time",
                "subqueries are not supported | SELECT | an expression sees one row at a time",
            ],
        ),
        ("(f, 1) = 1", &["a list is not a value | f, 1 | lists stand after IN"]),
        (
            "EXTRACT(YEAR FROM t) = 1",
            &["EXTRACT is not supported | t | use year(t), month(t), day(t), hour(t), minute(t), second(t) or day_of_week(t)"],
        ),
        ("s SIMILAR TO 'x'", &["this operator is not supported | s SIMILAR TO 'x' | use regexp_matches(text, 'pattern')"]),
        ("(f > 1", &["expected ), found the end of the expression |  | -"]),
        ("f IN ()", &["expected an expression, found `)` | ) | -"]),
        ("f > 1; b", &["unexpected `;` | ; | an expression is not a statement"]),
        ("s = 'abc", &["unterminated string literal | 'abc | -"]),
        ("f > 1)", &["unexpected `)` after the end of the expression | ) | an operator such as AND may be missing before it"]),
    ]);
}

#[test]
fn all_faults_at_once_with_bytes_not_characters() {
    faults(&[(
        "s = 'äöü' AND\n  turnover > 1\nAND s > f AND nope(1) = 2",
        &[
            "unknown column `turnover` | turnover | columns: i, f, s, b, t, n, price, volume_24h and 3 more",
            "cannot compare text with float | s | cast it: CAST(s AS FLOAT)",
            "unknown function `nope` | nope | the functions are abs, round, floor, ceil, sign, sqrt, ln, log10, exp, power, is_finite, is_nan, least, greatest, coalesce, nullif, if, lower, upper, trim, ltrim, rtrim, length, substr, replace, starts_with, ends_with, contains, concat, split_part, regexp_matches, year, month, day, hour, minute, second, day_of_week, date_trunc, seconds_between, to_timestamp, from_unix, from_unix_ms, unix, unix_ms",
        ],
    )]);
}

#[test]
fn a_condition_must_be_boolean() {
    let fault = Expr::compile_predicate(" f + 1 ", &columns()).unwrap_err().remove(0);
    assert_eq!(described(" f + 1 ", &fault), "a condition must be boolean, this is float | f + 1 | compare it with something");
    assert!(Expr::compile_predicate("f > 1", &columns()).is_ok());
}

/// Expressions as long and as deep as allowed, and beyond, on the smallest stack a thread usually has.
#[test]
fn limits_hold_on_a_small_stack() {
    let run = || {
        let many = |n: usize, op: &str, term: &str| vec![term; n].join(op);
        let ok = |text: String| {
            let expr = compile(&text).unwrap_or_else(|faults| panic!("{}: {faults:?}", &text[..50]));
            expr.evaluate(&common::batch()).unwrap();
        };
        let fails = |text: String, with: &str| {
            let faults = compile(&text).unwrap_err();
            assert!(faults[0].message.contains(with), "{}", faults[0].message);
        };
        let half = MAX_OPERATORS / 2;
        ok(many(half, " OR ", "n = 1"));
        ok(many(half, " AND ", "n = 1"));
        ok(many(half, " || ", "s"));
        ok(many(190, " + ", "n"));
        ok(format!("n IN ({})", many(20_000, ",", "7")));
        ok(format!("{}n{}", "(".repeat(40), ")".repeat(40)));
        ok(format!("{}n{}", "abs(".repeat(40), ")".repeat(40)));
        fails(many(MAX_OPERATORS + 2, " OR ", "b"), "the limit is 10000");
        fails(many(MAX_OPERATORS, " + ", "n"), "nests deeper than 200");
        fails(format!("{} SIMILAR TO 'x'", many(MAX_OPERATORS - 10, "||", "s")), "not supported");
        fails(format!("n{}", " IS NULL".repeat(4_900)), "nests deeper than 200");
        // The parser frees what it read before the fault by recursion.
        fails(format!("{} )", many(MAX_OPERATORS, " + ", "n")), "unexpected `)`");
        fails(format!("n{} )", " IS NULL".repeat(4_900)), "unexpected `)`");
        fails(format!("{}n{}", "(".repeat(5_000), ")".repeat(5_000)), "nests deeper than 50");
        fails(format!("{}n", "- ".repeat(900)), "nests deeper");
        fails(format!("{}b", "NOT ".repeat(1_000)), "nests deeper");
        fails(format!("{}1{}", "CASE WHEN b THEN ".repeat(300), " END".repeat(300)), "nests deeper");
        fails("x".repeat(MAX_TEXT + 1), "the limit is 65536");
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}
