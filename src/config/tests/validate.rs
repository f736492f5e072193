//! `[validate]`, as far as the file alone tells.

use super::*;

const REST: &str = "[trigger]\ntype = \"interval\"\n[source]\ntype = \"demo\"\n[sink]\ntype = \"csv\"\n";

#[test]
fn a_quarantine_path_with_columns() {
    check(
        &format!("name = \"crypto\"\n[validate]\nquarantine_path = \"rejects/{{coin_id}}.jsonl\"\n{REST}"),
        r#"
error[E012]: `quarantine_path`: `{name}`, the pipeline's name, is all that is filled in
 --> crypto.toml:3:19
  |
3 | quarantine_path = "rejects/{coin_id}.jsonl"
  |                   ^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: rejects of all columns go into one file
"#,
    );
}

#[test]
fn column_rules() {
    check(
        &format!("name = \"crypto\"\n[validate.columns.close]\nminimum = 1\ntype = \"double\"\nrequired = \"yes\"\n{REST}"),
        r#"
error[E010]: `columns.close` in [validate] has no key `minimum`
 --> crypto.toml:3:1
  |
3 | minimum = 1
  | ^^^^^^^
  |
help: did you mean `min`?
  |
3 - minimum = 1
3 + min = 1
  |

error[E012]: `columns.close.type`: expected "boolean", "integer", "float", "text" or "timestamp", found text "double"
 --> crypto.toml:4:8
  |
4 | type = "double"
  |        ^^^^^^^^

error[E012]: `columns.close.required`: expected true or false, found text "yes"
 --> crypto.toml:5:12
  |
5 | required = "yes"
  |            ^^^^^
  |
help: did you mean `true`?
  |
5 - required = "yes"
5 + required = true
  |
"#,
    );
}

#[test]
fn a_rule_with_a_fault_is_left_out_so_that_nothing_follows_from_it() {
    let text = format!(
        "name = \"crypto\"\n[[validate.rules]]\nexpr = \"a > 1\"\n[[validate.rules]]\nkind = \"positive_price\"\n[[validate.rules]]\nexpr = \"b > 1\"\n{REST}"
    );
    check(
        &text,
        r#"
error[E012]: `rules[1].kind`: expected "price_envelope", "positive_prices" or "non_negative_volume", found text "positive_price"
 --> crypto.toml:5:8
  |
5 | kind = "positive_price"
  |        ^^^^^^^^^^^^^^^^
  |
help: did you mean "positive_prices"?
  |
5 | kind = "positive_prices"
  |                       +
"#,
    );
    let file = file(&text);
    let rules = parse(&file, &env()).0.validate.unwrap().rules;
    let exprs: Vec<_> = rules.iter().filter_map(|rule| rule.expr.as_ref()).map(|expr| expr.as_str()).collect();
    assert_eq!((rules.len(), exprs), (2, vec!["a > 1", "b > 1"]));
}
