//! The tables that the engine reads itself.

use super::check;

#[test]
fn the_run_table() {
    check(
        r#"name = "crypto"
[run]
concurency = 4
epoch_rows = 0
epoch_interval = "10 secs."
deadline = "0s"
keep_runs = "all"
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E010]: [run] has no key `concurency`
 --> crypto.toml:3:1
  |
3 | concurency = 4
  | ^^^^^^^^^^
  |
help: did you mean `concurrency`?
  |
3 | concurrency = 4
  |       +

error[E012]: `epoch_rows`: expected a whole number of 1 or more, found the whole number 0
 --> crypto.toml:4:14
  |
4 | epoch_rows = 0
  |              ^

error[E012]: `epoch_interval`: "10 secs." is not a length of time
 --> crypto.toml:5:18
  |
5 | epoch_interval = "10 secs."
  |                  ^^^^^^^^^^
  |
  = help: write it as "90s", "1h 30m" or "2 days"

error[E012]: `deadline`: expected more than no time
 --> crypto.toml:6:12
  |
6 | deadline = "0s"
  |            ^^^^
  |
  = help: leave it out for the default

error[E012]: `keep_runs`: expected a whole number of 1 or more, found text "all"
 --> crypto.toml:7:13
  |
7 | keep_runs = "all"
  |             ^^^^^
"#,
    );
}

#[test]
fn a_deadline_of_no_time() {
    check(
        r#"name = "crypto"
[run]
deadline = "0s"
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `deadline`: expected more than no time
 --> crypto.toml:3:12
  |
3 | deadline = "0s"
  |            ^^^^
  |
  = help: leave it out for the default
"#,
    );
}

#[test]
fn concurrency_out_of_range() {
    check(
        r#"name = "crypto"
[run]
concurrency = 65
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `concurrency`: expected a whole number from 1 to 64, found the whole number 65
 --> crypto.toml:3:15
  |
3 | concurrency = 65
  |               ^^
"#,
    );
}

#[test]
fn the_trigger_policy() {
    check(
        r#"name = "crypto"
[trigger]
type = "interval"
catch_up = "latst"
overrun = true
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `catch_up`: expected "none", "latest" or "all", found text "latst"
 --> crypto.toml:4:12
  |
4 | catch_up = "latst"
  |            ^^^^^^^
  |
help: did you mean "latest"?
  |
4 | catch_up = "latest"
  |                +

error[E012]: `overrun`: expected "skip" or "wait", found true
 --> crypto.toml:5:11
  |
5 | overrun = true
  |           ^^^^
"#,
    );
}

#[test]
fn the_log_table() {
    check(
        r#"name = "crypto"
[log]
format = "xml"
level = "warning"
max_size = "10 potatoes"
file = ""
keep = -1
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `format`: expected "text" or "json", found text "xml"
 --> crypto.toml:3:10
  |
3 | format = "xml"
  |          ^^^^^

error[E012]: `level`: expected "error", "warn", "info", "debug" or "trace", found text "warning"
 --> crypto.toml:4:9
  |
4 | level = "warning"
  |         ^^^^^^^^^
  |
help: did you mean "warn"?
  |
4 - level = "warning"
4 + level = "warn"
  |

error[E012]: `max_size`: expected a number of bytes, 1000 or more, such as 5000000, "10MB" or "10MiB", found text "10 potatoes"
 --> crypto.toml:5:12
  |
5 | max_size = "10 potatoes"
  |            ^^^^^^^^^^^^^

error[E012]: `file`: expected text that is not empty, found an empty text
 --> crypto.toml:6:8
  |
6 | file = ""
  |        ^^

error[E012]: `keep`: expected a whole number of 0 or more, found the whole number -1
 --> crypto.toml:7:8
  |
7 | keep = -1
  |        ^^
"#,
    );
}

#[test]
fn dedupe_without_keys() {
    check(
        r#"name = "crypto"
[dedupe]
on_conflict = "keep-first"
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E011]: [dedupe] needs the key `keys`
 --> crypto.toml:2:1
  |
2 | [dedupe]
  | ^^^^^^^^
  |
  = help: `keys`: The columns that tell rows apart.

error[E012]: `on_conflict`: expected "keep_first", "keep_last" or "reject", found text "keep-first"
 --> crypto.toml:3:15
  |
3 | on_conflict = "keep-first"
  |               ^^^^^^^^^^^^
  |
help: did you mean "keep_first"?
  |
3 - on_conflict = "keep-first"
3 + on_conflict = "keep_first"
  |
"#,
    );
}

#[test]
fn dedupe_keys_that_are_none_or_no_text() {
    check(
        r#"name = "crypto"
[dedupe]
keys = []
[validate]
on_reject = "quarantined"
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `keys`: expected a list that is not empty
 --> crypto.toml:3:8
  |
3 | keys = []
  |        ^^

error[E012]: `on_reject`: expected "quarantine", "drop" or "fail", found text "quarantined"
 --> crypto.toml:5:13
  |
5 | on_reject = "quarantined"
  |             ^^^^^^^^^^^^^
  |
help: did you mean "quarantine"?
  |
5 - on_reject = "quarantined"
5 + on_reject = "quarantine"
  |
"#,
    );
}

#[test]
fn dedupe_keys_twice() {
    check(
        r#"name = "crypto"
[dedupe]
keys = ["a", "b", "a"]
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `keys` names `a` twice
 --> crypto.toml:3:19
  |
3 | keys = ["a", "b", "a"]
  |                   ^^^
"#,
    );
}
