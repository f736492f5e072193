//! The shape of a file: sections, stages, TOML itself.

use super::check;

#[test]
fn an_empty_file() {
    check(
        r#""#,
        r#"
error[E011]: the pipeline file needs the key `name`
 --> crypto.toml
  = help: `name`: What state, logs and `status` call it: small letters, digits, `-` and `_`.

error[E011]: the pipeline file needs the table `[trigger]`
 --> crypto.toml
  = help: `[trigger]` says when it runs

error[E011]: the pipeline file needs the table `[source]`
 --> crypto.toml
  = help: `[source]` says where rows come from

error[E011]: the pipeline file needs the table `[sink]`
 --> crypto.toml
  = help: `[sink]` says where rows go
"#,
    );
}

#[test]
fn an_unknown_table_and_the_nearest_name() {
    check(
        r#"name = "crypto"
[trigger]
type = "interval"
[soruce]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E010]: the pipeline file has no key `soruce`
 --> crypto.toml:4:2
  |
4 | [soruce]
  |  ^^^^^^
  |
help: did you mean `source`?
  |
4 - [soruce]
4 + [source]
  |
"#,
    );
}

#[test]
fn an_unknown_key_without_a_near_one() {
    check(
        r#"name = "crypto"
schedule = "x"
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E010]: the pipeline file has no key `schedule`
 --> crypto.toml:2:1
  |
2 | schedule = "x"
  | ^^^^^^^^
  |
  = help: its keys are `name`, `description`, `log`, `notify`, `run`, `trigger`, `source`, `transforms`, `validate`, `dedupe`, `sink`, `expect`, `test`
"#,
    );
}

#[test]
fn a_bad_name() {
    check(
        r#"name = "Crypto Prices!"
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `name`: expected 1 to 64 small letters, digits, `-` or `_`
 --> crypto.toml:1:8
  |
1 | name = "Crypto Prices!"
  |        ^^^^^^^^^^^^^^^^
  |
help: write "crypto-prices"
  |
1 - name = "Crypto Prices!"
1 + name = "crypto-prices"
  |
"#,
    );
}

#[test]
fn a_name_that_is_no_text() {
    check(
        r#"name = 5
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `name`: expected text, found the whole number 5
 --> crypto.toml:1:8
  |
1 | name = 5
  |        ^
"#,
    );
}

#[test]
fn a_stage_without_type() {
    check(
        r#"name = "crypto"
[trigger]
type = "interval"
[source]
top = 3
[sink]
type = "csv"
"#,
        r#"
error[E011]: `source` needs the key `type`
 --> crypto.toml:4:1
  |
4 | [source]
  | ^^^^^^^^
  |
  = help: `pipeline list source` shows every type
"#,
    );
}

#[test]
fn a_type_that_is_no_text() {
    check(
        r#"name = "crypto"
[trigger]
type = "interval"
[source]
type = ["demo"]
[sink]
type = "csv"
"#,
        r#"
error[E012]: `type`: expected text, found a list
 --> crypto.toml:5:8
  |
5 | type = ["demo"]
  |        ^^^^^^^^
"#,
    );
}

#[test]
fn a_section_that_is_no_table() {
    check(
        r#"name = "crypto"
run = 5
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `run`: expected a table, found a number
 --> crypto.toml:2:7
  |
2 | run = 5
  |       ^
  |
  = help: write the header `[run]`, and its keys below
"#,
    );
}

#[test]
fn two_sources() {
    check(
        r#"name = "crypto"
[trigger]
type = "interval"
[[source]]
type = "demo"
[[source]]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: a pipeline has one `[source]`
 --> crypto.toml:6:1
  |
6 | [[source]]
  | ^^^^^^^^^^
  |
  = help: write `[source]`, once
"#,
    );
}

#[test]
fn a_transform_without_the_list() {
    check(
        r#"name = "crypto"
[trigger]
type = "interval"
[source]
type = "demo"
[transforms]
type = "rename"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `transforms` is a list: each has a header of its own
 --> crypto.toml:6:1
  |
6 | [transforms]
  | ^^^^^^^^^^^^
  |
  = help: write `[[transforms]]`
"#,
    );
}

#[test]
fn a_list_of_sinks_that_are_none() {
    check(
        r#"name = "crypto"
sink = ["csv"]
[trigger]
type = "interval"
[source]
type = "demo"
"#,
        r#"
error[E012]: `sink`: expected a table, found text
 --> crypto.toml:2:9
  |
2 | sink = ["csv"]
  |         ^^^^^
  |
  = help: write the header `[sink]`, and its keys below
"#,
    );
}

#[test]
fn no_sinks_in_the_list() {
    check(
        r#"name = "crypto"
sink = []
[trigger]
type = "interval"
[source]
type = "demo"
"#,
        r#"
error[E012]: a pipeline needs at least one sink
 --> crypto.toml:2:8
  |
2 | sink = []
  |        ^^
"#,
    );
}

#[test]
fn text_without_quotes() {
    check(
        r#"name = "crypto"
[trigger]
type = "interval"
every = 1h
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E001]: text stands in quotes
 --> crypto.toml:4:9
  |
4 | every = 1h
  |         ^^
  |
help: put it in quotes
  |
4 - every = 1h
4 + every = "1h"
  |
"#,
    );
}

#[test]
fn several_syntax_faults() {
    check(
        r#"name = "crypto
[trigger
type = "interval"
[source]
type = "demo"
type = "other"
from = 2020-13-01
[sink]
type =
"#,
        r#"
error[E001]: this text is not closed
 --> crypto.toml:1:15
  |
1 | name = "crypto
  |               ^
  |
help: write `"` where it ends
  |
1 | name = "crypto"
  |               +

error[E001]: this header is not closed
 --> crypto.toml:2:9
  |
2 | [trigger
  |         ^
  |
help: write `]` at its end
  |
2 | [trigger]
  |         +

error[E001]: `type` stands twice
 --> crypto.toml:6:1
  |
6 | type = "other"
  | ^^^^
  |
  = help: take one of them away

error[E001]: invalid date, expected month between 01 and 12
 --> crypto.toml:7:8
  |
7 | from = 2020-13-01
  |        ^^^^^^^^^^

error[E001]: a value is missing
 --> crypto.toml:9:7
  |
9 | type =
  |       ^
"#,
    );
}

#[test]
fn a_table_that_stands_twice() {
    check(
        r#"name = "crypto"
[trigger]
type = "interval"
[source]
type = "demo"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E001]: `source` stands twice
 --> crypto.toml:6:2
  |
6 | [source]
  |  ^^^^^^
  |
  = help: take one of them away
"#,
    );
}

#[test]
fn everything_at_once() {
    check(
        r#"name = "Crypto"
version = 2
[trigger]
type = "interval"
catch_up = "never"
[source]
type = "demo"
top = "3"
[dedupe]
keys = "a"
[[sink]]
path = "x"
"#,
        r#"
error[E012]: `name`: expected 1 to 64 small letters, digits, `-` or `_`
 --> crypto.toml:1:8
  |
1 | name = "Crypto"
  |        ^^^^^^^^
  |
help: write "crypto"
  |
1 - name = "Crypto"
1 + name = "crypto"
  |

error[E010]: the pipeline file has no key `version`
 --> crypto.toml:2:1
  |
2 | version = 2
  | ^^^^^^^
  |
  = help: its keys are `name`, `description`, `log`, `notify`, `run`, `trigger`, `source`, `transforms`, `validate`, `dedupe`, `sink`, `expect`, `test`

error[E012]: `catch_up`: expected "none", "latest" or "all", found text "never"
 --> crypto.toml:5:12
  |
5 | catch_up = "never"
  |            ^^^^^^^

error[E012]: `top`: expected a whole number of 0 or more, found text "3"
 --> crypto.toml:8:7
  |
8 | top = "3"
  |       ^^^
  |
help: write it without quotes
  |
8 - top = "3"
8 + top = 3
  |

error[E012]: `keys`: expected a list that is not empty, found text "a"
  --> crypto.toml:10:8
   |
10 | keys = "a"
   |        ^^^
   |
help: a list stands in brackets
   |
10 - keys = "a"
10 + keys = ["a"]
   |

error[E011]: `sink` needs the key `type`
  --> crypto.toml:11:1
   |
11 | [[sink]]
   | ^^^^^^^^
   |
   = help: `pipeline list sink` shows every type
"#,
    );
}

#[test]
fn an_engine_key_that_the_plugin_does_not_know() {
    check(
        r#"name = "crypto"
[trigger]
type = "interval"
catchup = "all"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E010]: trigger "demo" has no key `catchup`
 --> crypto.toml:4:1
  |
4 | catchup = "all"
  | ^^^^^^^
  |
help: did you mean `catch_up`?
  |
4 | catch_up = "all"
  |      +
"#,
    );
}
