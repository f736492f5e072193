//! Every fault of `[validate]`, where it stands.

use super::*;

#[test]
fn every_fault_is_told_where_it_stands() {
    let input = schema([
        ("open", Float, false),
        ("high", Float, true),
        ("low", Float, true),
        ("symbol", Text, true),
        ("n", Integer, true),
        ("live", Boolean, true),
        ("time", Timestamp, false),
    ]);
    // Table, then for each fault: code, what it points at, what it says, what it advises.
    type Fault<'a> = (&'a str, &'a str, &'a str, &'a str);
    let cases: &[(&str, &[Fault<'_>])] = &[
        ("on_reject = 'keep'", &[("E012", "'keep'", "", "")]),
        ("on_rejects = 'drop'", &[("E010", "on_rejects", "", "did you mean `on_reject`?")]),
        ("on_reject = 'drop'\nquarantine_path = 'x'", &[("E044", "'x'", "`quarantine_path` has no meaning", "on_reject = \"quarantine\"")]),
        ("limits.warn = -1", &[("E045", "-1", "-1 rows", "from 0 on")]),
        ("limits.abort = '101%'", &[("E045", "'101%'", "101%", "\"100%\"")]),
        ("limits.abort = '-0.5%'", &[("E045", "'-0.5%'", "-0.5%", "")]),
        ("limits.abort = 'many'", &[("E012", "'many'", "such as \"5%\"", "")]),
        ("limits.abort = 0.05", &[("E012", "0.05", "such as \"5%\"", "")]),
        ("columns.oepn.min = 0", &[("E041", "oepn", "no column `oepn`", "did you mean `open`?")]),
        ("columns.\"vol ume\".min = 0", &[("E041", "\"vol ume\"", "no column `vol ume`", "`open`, `high`")]),
        ("columns.open.mni = 0", &[("E010", "mni", "", "did you mean `min`?")]),
        ("columns.symbol.min = 0", &[("E044", "0", "`min` of `symbol`: text has no", "`min_length`")]),
        ("columns.live.max = 0", &[("E044", "0", "`max` of `live`: a boolean has no", "one_of = [true]")]),
        ("columns.open.min = 'x'", &[("E044", "'x'", "\"x\" cannot be compared with float", "write a number")]),
        ("columns.n.min = true", &[("E044", "true", "true cannot be compared with integer", "write a number")]),
        ("columns.open.min = nan", &[("E044", "nan", "NaN is no bound", "finite")]),
        ("columns.open.max = inf", &[("E044", "inf", "inf is no bound", "finite")]),
        ("columns.n.max = 1e19", &[("E044", "1e19", "beyond every integer", "")]),
        ("columns.time.min = 3", &[("E044", "3", "3 cannot be compared with timestamp", "2026-05-19T15:00:00Z")]),
        ("columns.time.min = 'yesterday'", &[("E044", "'yesterday'", "\"yesterday\" cannot be compared with timestamp", "")]),
        ("columns.time.min = [3]", &[("E012", "[3]", "", "")]),
        ("columns.open = { min = 3, max = 2 }", &[("E044", "2", "`open` can have no value: min is 3, max is 2", "")]),
        ("columns.n = { min = 0.5, max = 0.75 }", &[("E044", "0.75", "`n` can have no value: min is 0.5, max is 0.75", "")]),
        (
            "columns.time = { min = 2024-02-01, max = 2024-01-01 }",
            &[("E044", "2024-01-01", "`time` can have no value: min is 2024-02-01T00:00:00Z", "")],
        ),
        ("columns.symbol.regex = '[a-'", &[("E044", "'[a-'", "not a regular expression: unclosed character class", "")]),
        ("columns.open.regex = 'a'", &[("E044", "'a'", "`regex` is for text, and column `open` is float", "one_of")]),
        ("columns.open.min_length = 1", &[("E044", "1", "`min_length` is for text", "`min` and `max`")]),
        ("columns.symbol = { min_length = 3, max_length = 2 }", &[("E044", "2", "min_length is 3, max_length is 2", "")]),
        ("columns.symbol.min_length = -1", &[("E012", "-1", "", "")]),
        ("columns.symbol.one_of = []", &[("E044", "[]", "no value is allowed for `symbol`", "lists those")]),
        (
            "columns.symbol.one_of = ['a', 1, true]",
            &[("E044", "1", "1 is not a value of `symbol`, which is text", ""), ("E044", "true", "true is not a value of `symbol`", "")],
        ),
        ("columns.n.one_of = [1, 1.5]", &[("E044", "1.5", "1.5 is not a value of `n`, which is integer", "")]),
        ("columns.time.one_of = ['x']", &[("E044", "'x'", "which is timestamp", "2026-05-19T15:00:00Z")]),
        ("columns.symbol.type = 'float'", &[("E044", "'float'", "column `symbol` is text, not float", "`cast`: columns = { symbol = \"float\" }")]),
        ("rules = [{ name = 'x' }]", &[("E044", "{ name = 'x' }", "neither `expr` nor `kind`", "price_envelope")]),
        ("[[rules]]\nexpr = 'n > 1'\n[[rules]]\nname = 'x'\n", &[("E044", "[[rules]]", "neither `expr` nor `kind`", "")]),
        ("rules = [{ expr = 'n > 1', kind = 'positive_prices' }]", &[("E044", "'positive_prices'", "exclude each other", "two rules")]),
        ("rules = [{ expr = 'n + 1' }]", &[("E040", "n + 1", "boolean", "")]),
        ("rules = [{ expr = 'hgih > 1 AND symbol > 1' }]", &[("E040", "hgih", "hgih", "did you mean `high`?"), ("E040", "", "", "")]),
        ("rules = [{ expr = 'n > 1', open = 'low' }]", &[("E044", "'low'", "a rule with `expr` does not look at `open`", "")]),
        ("rules = [{ kind = 'non_negative_volume', volume = 'n', close = 'low' }]", &[("E044", "'low'", "does not look at `close`", "")]),
        ("rules = [{ kind = 'positive' }]", &[("E012", "'positive'", "", "")]),
        ("rules = [{ kind = 'positive_prices' }]", &[("E041", "'positive_prices'", "needs a column `close`", "close = \"...\"")]),
        ("rules = [{ kind = 'positive_prices', close = 'lwo' }]", &[("E041", "'lwo'", "no column `lwo`", "did you mean `low`?")]),
        ("rules = [{ kind = 'price_envelope', close = 'symbol' }]", &[("E044", "'symbol'", "compares numbers, and column `symbol` is text", "")]),
        ("rules = [{ kind = 'non_negative_volume' }]", &[("E041", "'non_negative_volume'", "`volume` or `volume_24h`", "volume = \"...\"")]),
        ("rules = [{ name = ' ', expr = 'n > 1' }]", &[("E044", "' '", "a rule needs a name", "")]),
        ("rules = [{ name = 'a', expr = 'n > 1' }, { name = 'a', expr = 'n > 2' }]", &[("E042", "'a'", "two rules \"a\"", "another name")]),
        ("rules = [{ expr = 'n > 1' }, { expr = 'n  >  1' }]", &[("E042", "'n  >  1'", "two rules \"n > 1\"", "give it a `name`")]),
        (
            "rules = [{ kind = 'positive_prices', close = 'n' }, { kind = 'positive_prices', close = 'low' }]",
            &[("E042", "'positive_prices'", "two rules \"positive_prices\"", "")],
        ),
        ("columns.n.min = 1\nrules = [{ name = 'n.min', expr = 'n > 1' }]", &[("E042", "'n.min'", "two rules \"n.min\"", "")]),
        (
            "limits.warn = -1\ncolumns.oepn.min = 0\ncolumns.n.regex = '('\nrules = [{ expr = 'x > 1' }, { }]",
            &[
                ("E045", "-1", "", ""),
                ("E041", "oepn", "", ""),
                ("E044", "'('", "`regex` is for text", ""),
                ("E044", "'('", "not a regular expression: unclosed group", ""),
                ("E040", "x", "", ""),
                ("E044", "{ }", "", ""),
            ],
        ),
    ];
    for (toml, expected) in cases {
        let Err(faults) = validator(toml, &input) else { panic!("took {toml}") };
        assert_eq!(faults.len(), expected.len(), "{toml}: {faults:#?}");
        for (fault, (code, pointed, message, help)) in faults.iter().zip(*expected) {
            assert_eq!(&fault.code, code, "{toml}: {fault:?}");
            assert!(fault.message.contains(message), "{toml}: {fault:?}");
            assert!(fault.help.as_deref().unwrap_or_default().contains(help), "{toml}: {fault:?}");
            let span = fault.span.clone().unwrap();
            assert!(pointed.is_empty() || &toml[span.clone()] == *pointed, "{toml}: {:?} in {fault:?}", &toml[span]);
        }
    }
}
