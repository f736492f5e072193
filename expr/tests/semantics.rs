//! What expressions mean: one line a case.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands, its helpers too")]

mod common;

use common::{compile, value, values};
use pipeline_contract::ColumnType;

#[track_caller]
fn constants(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(value(text), *expected, "{text}");
        // The same on columns: constants are computed by the compiler, and must not differ from what the loops compute.
        let guarded = format!("CASE WHEN n > 0 THEN {text} END");
        assert_eq!(value(&guarded), *expected, "{guarded}");
    }
}

#[track_caller]
fn rows(cases: &[(&str, [&str; 4])]) {
    for (text, expected) in cases {
        assert_eq!(values(text).unwrap(), *expected, "{text}");
    }
}

#[test]
fn literals() {
    constants(
        &[
            ("1", "1"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1.5e3", "1500.0"),
            (".5", "0.5"),
            ("-0.0", "-0.0"),
            ("'it''s'", "it's"),
            ("'a\\n'", "a\\n"),
            ("TRUE", "true"),
            ("CAST(NULL AS FLOAT)", "null"),
            ("TIMESTAMP '2026-01-01T02:00:00+02:00'", "2026-01-01T00:00:00Z"),
            ("TIMESTAMP '2026-01-01'", "2026-01-01T00:00:00Z"),
            ("DATE '2026-01-01'", "2026-01-01T00:00:00Z"),
            ("(1) -- a comment", "1"),
        ]
        .map(|(text, expected)| (text.split(" --").next().unwrap(), expected)),
    );
    assert_eq!(value("1 -- a comment"), "1");
}

#[test]
fn names() {
    rows(&[
        ("\"coin id\"", ["bitcoin", "12", "3.5", "x"]),
        ("interval = '1h'", ["true", "true", "false", "false"]),
        ("timestamp < TIMESTAMP '1970-01-01T00:00:00.000002Z'", ["true", "true", "false", "false"]),
    ]);
    assert_eq!(compile("price + n > n AND i IS NULL").unwrap().columns(), ["price", "n", "i"]);
}

#[test]
fn arithmetic() {
    constants(&[
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("1 / 2", "0.5"),
        ("7 % 3", "1"),
        ("-7 % 3", "-1"),
        ("7 % 0", "null"),
        ("-9223372036854775808 % -1", "0"),
        ("9223372036854775807 + 1", "null"),
        ("- -9223372036854775808", "null"),
        ("1 / 0", "inf"),
        ("0.0 / 0", "NaN"),
        ("5.5 % 2", "1.5"),
        ("1 + 0.5", "1.5"),
        ("+1", "1"),
        ("- (2 - 3)", "1"),
    ]);
    rows(&[
        ("i + 1", ["2", "-1", "null", "null"]),
        ("i * 2", ["2", "-4", "null", "null"]),
        ("-i", ["-1", "2", "null", "-9223372036854775807"]),
        ("10 - n", ["9", "8", "7", "6"]),
        ("n / 2", ["0.5", "1.0", "1.5", "2.0"]),
        ("n % 2", ["1", "0", "1", "0"]),
        ("7 % (n - 1)", ["null", "0", "1", "1"]),
        ("f + n", ["2.5", "NaN", "null", "3.75"]),
        ("f + NULL", ["null", "null", "null", "null"]),
        ("price * volume_24h - 1", ["0.5", "4.0", "-1.0", "-15.0"]),
    ]);
}

#[test]
fn comparison() {
    constants(&[
        ("1 = 1.0", "true"),
        ("'a' < 'b'", "true"),
        ("FALSE < TRUE", "true"),
        ("0.0 / 0 = 0.0 / 0", "false"),
        ("0.0 / 0 <> 0.0 / 0", "true"),
        ("0.0 / 0 <> 1", "true"),
        ("0.0 = -0.0", "true"),
        ("1 != 2", "true"),
        ("(1 < 2) = TRUE", "true"),
    ]);
    rows(&[
        ("i > 0", ["true", "false", "null", "true"]),
        ("0 < i", ["true", "false", "null", "true"]),
        ("f > 0", ["true", "false", "null", "false"]),
        ("f <= 1.5", ["true", "false", "null", "true"]),
        ("NOT f > 0", ["false", "true", "null", "true"]),
        ("f <> 1.5", ["false", "true", "null", "true"]),
        ("f = f", ["true", "false", "null", "true"]),
        ("i >= f", ["false", "false", "null", "true"]),
        ("s = 'abc'", ["true", "false", "null", "false"]),
        ("s >= 'abc'", ["true", "true", "null", "false"]),
        ("b = FALSE", ["false", "true", "null", "false"]),
        ("b > (n > 1)", ["true", "false", "null", "false"]),
        ("b <= (n > 1)", ["false", "true", "null", "true"]),
        ("t > '2024-02-29'", ["true", "false", "null", "true"]),
        ("'2024-02-29T12:30:00Z' = t", ["false", "false", "null", "true"]),
        ("i IS DISTINCT FROM 1", ["false", "true", "true", "true"]),
        ("i IS NOT DISTINCT FROM NULL", ["false", "false", "true", "false"]),
        ("f IS DISTINCT FROM f", ["false", "true", "false", "false"]),
        ("s IS NOT DISTINCT FROM s", ["true", "true", "true", "true"]),
        ("i BETWEEN 0 AND 1", ["true", "false", "null", "false"]),
        ("i NOT BETWEEN 0 AND 1", ["false", "true", "null", "true"]),
        ("n BETWEEN 2 AND i", ["false", "false", "null", "true"]),
        ("n BETWEEN i AND 0", ["false", "false", "false", "false"]),
        ("t BETWEEN '2024-01-01' AND '2025-01-01'", ["false", "false", "null", "true"]),
        ("f BETWEEN 0 AND 2", ["true", "false", "null", "false"]),
    ]);
}

#[test]
fn in_lists() {
    rows(&[
        ("i IN (1, -2)", ["true", "true", "null", "false"]),
        ("i NOT IN (1, -2)", ["false", "false", "null", "true"]),
        ("i IN (1, NULL)", ["true", "null", "null", "null"]),
        ("i NOT IN (1, NULL)", ["false", "null", "null", "null"]),
        ("n IN (i, 4)", ["true", "false", "null", "true"]),
        ("n IN (1, 2.5)", ["true", "false", "false", "false"]),
        ("n IN (9, 8, 7, 6, 5, 4, 3, 21, 20, 10)", ["false", "false", "true", "true"]),
        ("f IN (9, 8, 7, 6, 5, 1.5, 3, 21, 20, 10)", ["true", "false", "null", "false"]),
        ("f NOT IN (1.5)", ["false", "true", "null", "true"]),
        ("s IN ('abc', '')", ["true", "false", "null", "true"]),
        ("b IN (TRUE)", ["true", "false", "null", "true"]),
        ("b IN (FALSE, TRUE)", ["true", "true", "null", "true"]),
        ("t IN ('2024-02-29T12:30:00Z')", ["false", "false", "null", "true"]),
    ]);
}

#[test]
fn three_valued_logic() {
    // Each of true, false, null with each.
    let names = ["TRUE", "FALSE", "CAST(NULL AS BOOLEAN)"];
    let and = ["true", "false", "null", "false", "false", "false", "null", "false", "null"];
    let or = ["true", "true", "true", "true", "false", "null", "true", "null", "null"];
    for (index, (left, right)) in names.iter().flat_map(|left| names.iter().map(move |right| (left, right))).enumerate() {
        assert_eq!(value(&format!("{left} AND {right}")), and[index], "{left} AND {right}");
        assert_eq!(value(&format!("{left} OR {right}")), or[index], "{left} OR {right}");
    }
    rows(&[
        ("NOT b", ["false", "true", "null", "false"]),
        ("b AND n > 1", ["false", "false", "null", "true"]),
        ("b AND n > 9", ["false", "false", "false", "false"]),
        ("b OR n > 2", ["true", "false", "true", "true"]),
        ("b OR n > 9 OR NULL", ["true", "null", "null", "true"]),
        ("i IS NULL", ["false", "false", "true", "false"]),
        ("i IS NOT NULL AND n > 0", ["true", "true", "false", "true"]),
        ("b IS TRUE", ["true", "false", "false", "true"]),
        ("b IS NOT TRUE", ["false", "true", "true", "false"]),
        ("b IS FALSE", ["false", "true", "false", "false"]),
        ("b IS NOT FALSE", ["true", "false", "true", "true"]),
    ]);
}

#[test]
fn like() {
    constants(&[
        ("'abc' LIKE 'a%'", "true"),
        ("'abc' LIKE '%b%'", "true"),
        ("'abc' LIKE 'a_c'", "true"),
        ("'abc' LIKE 'a_'", "false"),
        ("'aXbXc' LIKE 'a%X_'", "true"),
        ("'abc' NOT LIKE 'b%'", "true"),
        ("'50%' LIKE '50!%' ESCAPE '!'", "true"),
        ("'500' LIKE '50!%' ESCAPE '!'", "false"),
        ("'a\\b' LIKE 'a\\_'", "true"),
        ("'ÄB' ILIKE 'ä_'", "true"),
        ("'ABC' LIKE 'abc'", "false"),
        ("'' LIKE '%'", "true"),
        ("'' LIKE '_'", "false"),
        ("'日本' LIKE '_本'", "true"),
    ]);
    rows(&[
        ("s LIKE '%n%'", ["false", "true", "null", "false"]),
        ("s ILIKE 'ü%'", ["false", "true", "null", "false"]),
        ("s LIKE s", ["true", "true", "null", "true"]),
        ("s NOT LIKE 'a%'", ["false", "true", "null", "true"]),
        ("s LIKE NULL", ["null", "null", "null", "null"]),
    ]);
}

#[test]
fn choices() {
    rows(&[
        ("CASE WHEN i > 0 THEN 'up' WHEN i < 0 THEN 'down' ELSE '?' END", ["up", "down", "?", "up"]),
        ("CASE WHEN i > 0 THEN 1 END", ["1", "null", "null", "1"]),
        ("CASE i WHEN 1 THEN f WHEN -2 THEN 0 END", ["1.5", "0.0", "null", "null"]),
        ("CASE interval WHEN '1h' THEN b ELSE FALSE END", ["true", "false", "false", "false"]),
        ("CASE b WHEN NULL THEN 1 ELSE 2 END", ["2", "2", "2", "2"]),
        ("CASE WHEN n = 1 THEN s WHEN n = 3 THEN 'x' ELSE NULL END", ["abc", "null", "x", "null"]),
        ("coalesce(i, n)", ["1", "-2", "3", "9223372036854775807"]),
        ("coalesce(f, 0)", ["1.5", "NaN", "0.0", "-0.25"]),
        ("coalesce(s, NULL, '-')", ["abc", "Ünï 1", "-", ""]),
        ("nullif(n, 2)", ["1", "null", "3", "4"]),
        ("nullif(s, '')", ["abc", "Ünï 1", "null", "null"]),
        ("if(i > 0, n, 0)", ["1", "0", "0", "4"]),
        ("if(b, t, '1970-01-01')", ["2026-01-31T23:59:58.500Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2024-02-29T12:30:00Z"]),
        ("least(f, price)", ["1.5", "NaN", "0.0", "-3.5"]),
        ("greatest(i, n)", ["1", "2", "3", "9223372036854775807"]),
        ("greatest(i, n, 2.5)", ["2.5", "2.5", "3.0", "9.223372036854776e18"]),
        ("least(i, NULL)", ["1", "-2", "null", "9223372036854775807"]),
        ("least(s, 'b', interval)", ["1h", "1h", "1d", ""]),
        ("greatest(b, n > 9)", ["true", "false", "false", "true"]),
        ("least(t, '2025-01-01')", ["2025-01-01T00:00:00Z", "1969-12-28T00:00:01Z", "2025-01-01T00:00:00Z", "2024-02-29T12:30:00Z"]),
    ]);
}

#[test]
fn casts() {
    constants(&[
        ("CAST('12' AS INTEGER)", "12"),
        ("CAST('-1.5e2' AS DOUBLE)", "-150.0"),
        ("CAST(2.5 AS INT)", "2"),
        ("CAST(3.5 AS BIGINT)", "4"),
        ("CAST(1 AS REAL)", "1.0"),
        ("CAST(1 AS TEXT)", "1"),
        ("CAST(1.0 AS TEXT)", "1.0"),
        ("CAST(TRUE AS VARCHAR)", "true"),
        ("CAST('False' AS BOOL)", "false"),
        ("CAST(TRUE AS INTEGER)", "1"),
        ("CAST(2 AS BOOLEAN)", "true"),
        ("CAST('2026-01-01T00:00:00.25Z' AS TIMESTAMP)", "2026-01-01T00:00:00.250Z"),
        ("CAST(TIMESTAMP '2026-01-01' AS STRING)", "2026-01-01T00:00:00Z"),
        ("TRY_CAST('inf' AS FLOAT)", "null"),
        ("TRY_CAST('nan' AS FLOAT)", "null"),
        ("TRY_CAST('1e999' AS FLOAT)", "null"),
        ("TRY_CAST(' 1' AS INTEGER)", "null"),
        ("TRY_CAST('1.5' AS INTEGER)", "null"),
        ("TRY_CAST(1e19 AS INTEGER)", "null"),
        ("TRY_CAST(0.0 / 0 AS INTEGER)", "null"),
        ("TRY_CAST('2026-02-30' AS TIMESTAMP)", "null"),
        ("TRY_CAST('2026-01-01T00:00:00' AS TIMESTAMP)", "null"),
    ]);
    rows(&[
        ("TRY_CAST(\"coin id\" AS FLOAT)", ["null", "12.0", "3.5", "null"]),
        ("CAST(i AS TEXT)", ["1", "-2", "null", "9223372036854775807"]),
        ("CAST(f AS TEXT)", ["1.5", "NaN", "null", "-0.25"]),
        ("CAST(b AS INTEGER)", ["1", "0", "null", "1"]),
    ]);
}

#[test]
fn a_cast_that_fails_names_the_row_and_the_value() {
    let fault = values("CAST(\"coin id\" AS INTEGER)").unwrap_err();
    assert_eq!((fault.row, fault.message.as_str()), (Some(0), "cannot cast 'bitcoin' to integer"));
    let fault = values("CAST(f AS INTEGER)").unwrap_err();
    assert_eq!((fault.row, fault.message.as_str()), (Some(1), "cannot cast NaN to integer"));

    let expr = compile("CAST(\"coin id\" AS FLOAT) > 4").unwrap();
    let (array, faults) = expr.matches_each(&common::batch()).unwrap();
    assert_eq!(faults.iter().map(|fault| fault.row).collect::<Vec<_>>(), [Some(0), Some(3)]);
    assert_eq!(array.iter().collect::<Vec<_>>(), [None, Some(true), Some(false), None]);
}

#[test]
fn a_row_that_failed_is_null_whatever_hides_it() {
    let (array, faults) = compile("CAST(\"coin id\" AS FLOAT) IS NULL").unwrap().matches_each(&common::batch()).unwrap();
    assert_eq!(faults.len(), 2);
    assert_eq!(array.iter().collect::<Vec<_>>(), [None, Some(false), Some(false), None]);
}

#[test]
fn a_cast_is_tried_only_where_it_is_needed() {
    rows(&[
        ("CASE WHEN n IN (2, 3) THEN CAST(\"coin id\" AS FLOAT) ELSE -1 END", ["-1.0", "12.0", "3.5", "-1.0"]),
        ("n IN (2, 3) AND CAST(\"coin id\" AS FLOAT) > 4", ["false", "true", "false", "false"]),
        ("n NOT IN (2, 3) OR CAST(\"coin id\" AS FLOAT) > 4", ["true", "true", "false", "true"]),
        ("if(regexp_matches(\"coin id\", '^[0-9.]+$'), CAST(\"coin id\" AS FLOAT), 0)", ["0.0", "12.0", "3.5", "0.0"]),
        ("coalesce(TRY_CAST(\"coin id\" AS FLOAT), CAST(n AS FLOAT))", ["1.0", "12.0", "3.5", "4.0"]),
        ("coalesce(if(n IN (1, 4), 0.0, NULL), CAST(\"coin id\" AS FLOAT))", ["0.0", "12.0", "3.5", "0.0"]),
        ("CASE WHEN n = 1 THEN FALSE WHEN n = 4 THEN TRUE WHEN CAST(\"coin id\" AS FLOAT) > 4 THEN TRUE END", ["false", "true", "null", "true"]),
    ]);
    // Null on the left decides nothing, so the right side is looked at.
    assert!(values("i > 0 AND CAST(\"coin id\" AS FLOAT) > 4").is_err());
}

#[test]
fn functions_of_numbers() {
    constants(&[
        ("abs(-2)", "2"),
        ("abs(-2.5)", "2.5"),
        ("abs(-9223372036854775808)", "null"),
        ("round(2.5)", "3.0"),
        ("round(-2.5)", "-3.0"),
        ("round(7)", "7"),
        ("round(3.14159, 2)", "3.14"),
        ("round(1234.5, -2)", "1200.0"),
        ("round(1250, -2)", "1300"),
        ("round(-1250, -2)", "-1300"),
        ("round(9223372036854775807, -1)", "null"),
        ("round(5, -30)", "0"),
        ("round(5, -100)", "0"),
        ("round(1.5, 400)", "1.5"),
        ("round(1.5, -400)", "0.0"),
        ("floor(-1.5)", "-2.0"),
        ("ceil(1.2)", "2.0"),
        ("floor(3)", "3"),
        ("sign(-3)", "-1"),
        ("sign(0.0)", "0.0"),
        ("sqrt(9)", "3.0"),
        ("sqrt(-1)", "NaN"),
        ("ln(1)", "0.0"),
        ("log10(1000)", "3.0"),
        ("exp(0)", "1.0"),
        ("power(2, 10)", "1024.0"),
        ("is_finite(1 / 0)", "false"),
        ("is_nan(0.0 / 0)", "true"),
        ("abs(CAST(NULL AS FLOAT))", "null"),
    ]);
    rows(&[
        ("abs(i)", ["1", "2", "null", "9223372036854775807"]),
        ("round(f)", ["2.0", "NaN", "null", "-0.0"]),
        ("round(price, n)", ["1.5", "2.5", "0.0", "-3.5"]),
        ("is_nan(f)", ["false", "true", "null", "false"]),
        ("is_finite(i)", ["true", "true", "null", "true"]),
        ("power(n, 2)", ["1.0", "4.0", "9.0", "16.0"]),
    ]);
}

#[test]
fn functions_of_text() {
    constants(&[
        ("lower('ÀBC')", "àbc"),
        ("upper('straße')", "STRASSE"),
        ("trim('  a ')", "a"),
        ("ltrim('  a ')", "a "),
        ("rtrim('  a ')", "  a"),
        ("length('日本')", "2"),
        ("substr('hello', 2)", "ello"),
        ("substr('hello', 2, 3)", "ell"),
        ("substr('hello', 0, 2)", "h"),
        ("substr('hello', -1, 3)", "h"),
        ("substr('hello', 9)", ""),
        ("substr('hello', 2, -1)", ""),
        ("substr('日本語', 2, 1)", "本"),
        ("substr('x', 9223372036854775807, 9223372036854775807)", ""),
        ("replace('aaa', 'a', 'bc')", "bcbcbc"),
        ("replace('aaa', '', 'x')", "aaa"),
        ("starts_with('abc', 'ab')", "true"),
        ("ends_with('abc', 'bc')", "true"),
        ("contains('abc', 'x')", "false"),
        ("concat('a', NULL, 'b')", "ab"),
        ("concat(NULL)", ""),
        ("'a' || 'b' || 'c'", "abc"),
        ("'a' || NULL", "null"),
        ("split_part('a-b-c', '-', 2)", "b"),
        ("split_part('a-b-c', '-', -1)", "c"),
        ("split_part('a-b-c', '-', 4)", ""),
        ("split_part('a-b-c', '-', 0)", "null"),
        ("split_part('abc', '', 1)", "abc"),
        ("regexp_matches('abc', '^a.c$')", "true"),
        ("regexp_matches('abc', 'z')", "false"),
    ]);
    rows(&[
        ("upper(s)", ["ABC", "ÜNÏ 1", "null", ""]),
        ("length(s)", ["3", "5", "null", "0"]),
        ("substr(s, n)", ["abc", "nï 1", "null", ""]),
        ("s || '-' || interval", ["abc-1h", "Ünï 1-1h", "null", "-1d"]),
        ("concat(s, '-', interval)", ["abc-1h", "Ünï 1-1h", "-1d", "-1d"]),
        ("split_part(\"coin id\", '.', n - 2)", ["bitcoin", "null", "3", ""]),
        ("regexp_matches(s, '(?i)^A')", ["true", "false", "null", "false"]),
    ]);
}

#[test]
fn functions_of_timestamps() {
    constants(&[
        ("TIMESTAMP '2026-01-31' + INTERVAL '1' MONTH", "2026-02-28T00:00:00Z"),
        ("TIMESTAMP '2024-03-31' - INTERVAL '1 month'", "2024-02-29T00:00:00Z"),
        ("INTERVAL '30 minutes' + TIMESTAMP '2026-01-01'", "2026-01-01T00:30:00Z"),
        ("TIMESTAMP '2026-01-01' - INTERVAL '1.5' HOUR", "2025-12-31T22:30:00Z"),
        ("TIMESTAMP '2026-01-01' + INTERVAL '1 day 2 hours'", "2026-01-02T02:00:00Z"),
        ("TIMESTAMP '2026-01-01' + INTERVAL '-1 week'", "2025-12-25T00:00:00Z"),
        ("TIMESTAMP '2026-01-01' + INTERVAL 2 DAY", "2026-01-03T00:00:00Z"),
        ("TIMESTAMP '2026-01-01' + INTERVAL '300000 years'", "null"),
        ("seconds_between(TIMESTAMP '2026-01-01', '2026-01-01T00:00:01.5Z')", "1.5"),
        ("from_unix(1)", "1970-01-01T00:00:01Z"),
        ("from_unix(1.25)", "1970-01-01T00:00:01.250Z"),
        ("from_unix(-1)", "1969-12-31T23:59:59Z"),
        ("from_unix_ms(1500)", "1970-01-01T00:00:01.500Z"),
        ("from_unix(9223372036854775807)", "null"),
        ("from_unix(1e30)", "null"),
        ("to_timestamp('2026-01-01T00:00:00Z')", "2026-01-01T00:00:00Z"),
    ]);
    rows(&[
        ("year(t)", ["2026", "1969", "null", "2024"]),
        ("month(t)", ["1", "12", "null", "2"]),
        ("day(t)", ["31", "28", "null", "29"]),
        ("hour(t)", ["23", "0", "null", "12"]),
        ("minute(t)", ["59", "0", "null", "30"]),
        ("second(t)", ["58", "1", "null", "0"]),
        ("day_of_week(t)", ["6", "7", "null", "4"]),
        ("unix(t)", ["1769903998", "-345599", "null", "1709209800"]),
        ("unix_ms(t)", ["1769903998500", "-345599000", "null", "1709209800000"]),
        ("date_trunc('second', t)", ["2026-01-31T23:59:58Z", "1969-12-28T00:00:01Z", "null", "2024-02-29T12:30:00Z"]),
        ("date_trunc('minute', t)", ["2026-01-31T23:59:00Z", "1969-12-28T00:00:00Z", "null", "2024-02-29T12:30:00Z"]),
        ("date_trunc('hour', t)", ["2026-01-31T23:00:00Z", "1969-12-28T00:00:00Z", "null", "2024-02-29T12:00:00Z"]),
        ("date_trunc('DAY', t)", ["2026-01-31T00:00:00Z", "1969-12-28T00:00:00Z", "null", "2024-02-29T00:00:00Z"]),
        ("date_trunc('week', t)", ["2026-01-26T00:00:00Z", "1969-12-22T00:00:00Z", "null", "2024-02-26T00:00:00Z"]),
        ("date_trunc('month', t)", ["2026-01-01T00:00:00Z", "1969-12-01T00:00:00Z", "null", "2024-02-01T00:00:00Z"]),
        ("date_trunc('year', t)", ["2026-01-01T00:00:00Z", "1969-01-01T00:00:00Z", "null", "2024-01-01T00:00:00Z"]),
        ("t - INTERVAL '1' DAY > '2024-01-01'", ["true", "false", "null", "true"]),
        ("seconds_between(timestamp, t) > 0", ["true", "false", "null", "true"]),
    ]);
}

#[test]
fn types_and_nullability() {
    let cases = [
        ("n", ColumnType::Integer, false),
        ("i", ColumnType::Integer, true),
        ("n + 1", ColumnType::Integer, true), // it may overflow
        ("n / 2", ColumnType::Float, false),
        ("price * 2", ColumnType::Float, false),
        ("price > 1", ColumnType::Boolean, false),
        ("f > 1", ColumnType::Boolean, true),
        ("f IS NULL", ColumnType::Boolean, false),
        ("coalesce(f, 0)", ColumnType::Float, false),
        ("coalesce(f, i)", ColumnType::Float, true),
        ("least(f, price)", ColumnType::Float, false),
        ("CASE WHEN b THEN 1 END", ColumnType::Integer, true),
        ("CASE WHEN b THEN 1 ELSE 2 END", ColumnType::Integer, false),
        ("CAST(n AS TEXT)", ColumnType::Text, false),
        ("TRY_CAST(interval AS FLOAT)", ColumnType::Float, true),
        ("concat(s, 'x')", ColumnType::Text, false),
        ("s || 'x'", ColumnType::Text, true),
        ("n IN (1, NULL)", ColumnType::Boolean, true),
        ("date_trunc('day', timestamp)", ColumnType::Timestamp, false),
        ("timestamp + INTERVAL '1' DAY", ColumnType::Timestamp, true),
    ];
    for (text, ty, nullable) in cases {
        let expr = compile(text).unwrap();
        assert_eq!((expr.column_type(), expr.nullable()), (ty, nullable), "{text}");
    }
}

#[test]
fn a_batch_that_does_not_fit_is_an_error_without_a_row() {
    let batch = common::batch();
    let expr = compile("price > 1").unwrap();
    let error = expr.evaluate(&batch.project(&[0]).unwrap()).unwrap_err();
    assert_eq!((error.row, error.message.as_str()), (None, "the batch has no column `price`"));
    let other = pipeline_contract::schema([("price", ColumnType::Text, false)]);
    let other = arrow_array::RecordBatch::try_new(other, vec![batch.column(8).clone()]).unwrap();
    assert_eq!(expr.evaluate(&other).unwrap_err().row, None);
    assert!(compile("price").unwrap().matches(&batch).is_err());
    // A batch without rows is fine.
    assert_eq!(expr.evaluate(&batch.slice(0, 0)).unwrap().len(), 0);
    // More rows than a machine word has bits, and not a multiple of it.
    let expr = Expr::compile("x % 3 = 0", &long().schema()).unwrap();
    let hits = expr.matches(&long()).unwrap();
    assert!((0..1000).all(|row| hits.value(row) == (row % 3 == 0)));
}

use arrow_array::Array;
use pipeline_expr::Expr;

fn long() -> arrow_array::RecordBatch {
    let schema = pipeline_contract::schema([("x", ColumnType::Integer, false)]);
    arrow_array::RecordBatch::try_new(schema, vec![std::sync::Arc::new(arrow_array::Int64Array::from_iter_values(0..1000))]).unwrap()
}
