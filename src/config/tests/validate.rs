//! `[validate]`.

use super::check;

#[test]
fn column_rules() {
    check(
        r#"name = "crypto"
[validate.columns.close]
minimum = 1
min = "low"
type = "double"
required = "yes"
one_of = []
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E010]: `columns.close` in [validate] has no key `minimum`
 --> crypto.toml:3:1
  |
3 | minimum = 1
  | ^^^^^^^
  |
  = help: did you mean `min`?

error[E012]: `columns.close.min`: expected a number, or an instant such as "2020-01-31T00:00:00Z" or "2020-01-31", found text "low"
 --> crypto.toml:4:7
  |
4 | min = "low"
  |       ^^^^^

error[E012]: `columns.close.type`: expected "boolean", "integer", "float", "text" or "timestamp", found text "double"
 --> crypto.toml:5:8
  |
5 | type = "double"
  |        ^^^^^^^^

error[E012]: `columns.close.required`: expected true or false, found text "yes"
 --> crypto.toml:6:12
  |
6 | required = "yes"
  |            ^^^^^

error[E012]: `columns.close.one_of`: expected a list that is not empty
 --> crypto.toml:7:10
  |
7 | one_of = []
  |          ^^
"#,
    );
}

#[test]
fn column_bounds_that_exclude_everything() {
    check(
        r#"name = "crypto"
[validate.columns.a]
min = 2
max = 1.5
[validate.columns.b]
min = 2020-01-01
max = 5
[validate.columns.c]
min_length = 3
max_length = 2
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `max` is below `min`: no value would do
 --> crypto.toml:4:7
  |
4 | max = 1.5
  |       ^^^

error[E012]: one of `min` and `max` is a number, the other an instant
 --> crypto.toml:7:7
  |
7 | max = 5
  |       ^

error[E012]: `max_length` is below `min_length`: no text would do
  --> crypto.toml:10:14
   |
10 | max_length = 2
   |              ^
"#,
    );
}

#[test]
fn rules_that_are_half_or_double() {
    check(
        r#"name = "crypto"
[[validate.rules]]
expr = "a > 1"
[[validate.rules]]
name = "both"
expr = "a > 1"
kind = "positive_prices"
[[validate.rules]]
message = "neither"
[[validate.rules]]
kind = "positive_price"
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E011]: a rule with `expr` needs the key `name`
 --> crypto.toml:2:1
  |
2 | [[validate.rules]]
  | ^^^^^^^^^^^^^^^^^^
  |
  = help: `name`: what rejects call it

error[E012]: a rule has `expr` or `kind`, not both
 --> crypto.toml:7:8
  |
7 | kind = "positive_prices"
  |        ^^^^^^^^^^^^^^^^^

error[E011]: a rule needs the key `expr` or the key `kind`
 --> crypto.toml:8:1
  |
8 | [[validate.rules]]
  | ^^^^^^^^^^^^^^^^^^

error[E012]: `rules[3].kind`: expected "price_envelope", "positive_prices" or "non_negative_volume", found text "positive_price"
  --> crypto.toml:11:8
   |
11 | kind = "positive_price"
   |        ^^^^^^^^^^^^^^^^
   |
   = help: did you mean "positive_prices"?
"#,
    );
}

#[test]
fn rules_with_columns_they_do_not_take() {
    check(
        r#"name = "crypto"
[[validate.rules]]
kind = "non_negative_volume"
open = "o"
[[validate.rules]]
name = "e"
expr = "true"
close = "c"
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E010]: the kind `non_negative_volume` has no key `open`
 --> crypto.toml:4:8
  |
4 | open = "o"
  |        ^^^

error[E010]: a rule with `expr` has no key `close`
 --> crypto.toml:8:9
  |
8 | close = "c"
  |         ^^^
"#,
    );
}

#[test]
fn rules_of_one_name() {
    check(
        r#"name = "crypto"
[[validate.rules]]
kind = "price_envelope"
[[validate.rules]]
name = "price_envelope"
expr = "high >= low"
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: two rules are called `price_envelope`
 --> crypto.toml:5:8
  |
5 | name = "price_envelope"
  |        ^^^^^^^^^^^^^^^^
  |
  = help: give this one a `name` of its own
"#,
    );
}

#[test]
fn limits() {
    check(
        r#"name = "crypto"
[validate.limits]
warn = "five"
abort = "150%"
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `limits.warn`: expected a number of rows such as 500, or a share of them such as "5%", found text "five"
 --> crypto.toml:3:8
  |
3 | warn = "five"
  |        ^^^^^^

error[E012]: `limits.abort`: expected a number of rows such as 500, or a share of them such as "5%", found text "150%"
 --> crypto.toml:4:9
  |
4 | abort = "150%"
  |         ^^^^^^
"#,
    );
}

#[test]
fn limits_in_the_wrong_order() {
    check(
        r#"name = "crypto"
[validate.limits]
warn = 10
abort = 5
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `limits.warn` is not below `limits.abort`: the run would fail without a warning
 --> crypto.toml:3:8
  |
3 | warn = 10
  |        ^^
"#,
    );
}

#[test]
fn a_quarantine_path_with_columns() {
    check(
        r#"name = "crypto"
[validate]
quarantine_path = "rejects/{coin_id}.jsonl"
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
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
