//! Forms that cannot be replaced, and values that must not be shown.

use super::check;

#[test]
fn variables_that_are_not_set() {
    check(
        r#"name = "crypto"
description = "by ${USR} of ${TEAM:?say who pays}"
[trigger]
type = "interval"
[source]
type = "demo"
key = "${DEMO_KEI}"
top = "${GONE}"
[sink]
type = "csv"
"#,
        r#"
error[E002]: the environment variable `USR` is not set
 --> crypto.toml:2:19
  |
2 | description = "by ${USR} of ${TEAM:?say who pays}"
  |                   ^^^^^^
  |
  = help: did you mean `USER`? set it in the environment or in .env, or write `${USR:-default}`

error[E002]: the environment variable `TEAM` is not set: say who pays
 --> crypto.toml:2:29
  |
2 | description = "by ${USR} of ${TEAM:?say who pays}"
  |                             ^^^^^^^^^^^^^^^^^^^^^
  |
  = help: set it in the environment or in .env

error[E002]: the environment variable `DEMO_KEI` is not set
 --> crypto.toml:7:8
  |
7 | key = "${DEMO_KEI}"
  |        ^^^^^^^^^^^
  |
  = help: did you mean `DEMO_KEY`? set it in the environment or in .env, or write `${DEMO_KEI:-default}`

error[E002]: the environment variable `GONE` is not set
 --> crypto.toml:8:8
  |
8 | top = "${GONE}"
  |        ^^^^^^^
  |
  = help: set it in the environment or in .env, or write `${GONE:-default}`
"#,
    );
}

#[test]
fn malformed_forms() {
    check(
        r#"name = "crypto"
description = "${} ${1A} ${A-b} ${A:-${B}}"
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
path = "data/${"
"#,
        r#"
error[E003]: `${}` names no environment variable
 --> crypto.toml:2:16
  |
2 | description = "${} ${1A} ${A-b} ${A:-${B}}"
  |                ^^^
  |
  = help: write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`; for a plain `${` write `$${`

error[E003]: `${1A}` names no environment variable
 --> crypto.toml:2:20
  |
2 | description = "${} ${1A} ${A-b} ${A:-${B}}"
  |                    ^^^^^
  |
  = help: write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`; for a plain `${` write `$${`

error[E003]: `${A-b}`: after the name stands `}`, `:-default` or `:?message`
 --> crypto.toml:2:26
  |
2 | description = "${} ${1A} ${A-b} ${A:-${B}}"
  |                          ^^^^^^
  |
  = help: write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`; for a plain `${` write `$${`

error[E003]: `${A:-${B}}`: one `${...}` cannot stand in another
 --> crypto.toml:2:33
  |
2 | description = "${} ${1A} ${A-b} ${A:-${B}}"
  |                                 ^^^^^^^^^^
  |
  = help: write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`; for a plain `${` write `$${`

error[E003]: `${` is not closed
 --> crypto.toml:9:14
  |
9 | path = "data/${"
  |              ^^
  |
  = help: write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`; for a plain `${` write `$${`
"#,
    );
}

#[test]
fn values_of_the_environment_stay_hidden() {
    check(
        r#"name = "crypto"
[run]
concurrency = "${DEMO_KEY}"
deadline = "${DEMO_KEY}"
[log]
level = "${DEMO_KEY}"
[dedupe]
keys = ["${DEMO_KEY}", "${DEMO_KEY}"]
[trigger]
type = "interval"
[source]
type = "demo"
[sink]
type = "csv"
"#,
        r#"
error[E012]: `concurrency`: the value of "${DEMO_KEY}" is not a whole number from 1 to 64
 --> crypto.toml:3:15
  |
3 | concurrency = "${DEMO_KEY}"
  |               ^^^^^^^^^^^^^

error[E012]: `deadline`: the value of "${DEMO_KEY}" is not a length of time such as "90s", "1h 30m" or "2 days"
 --> crypto.toml:4:12
  |
4 | deadline = "${DEMO_KEY}"
  |            ^^^^^^^^^^^^^

error[E012]: `level`: the value of "${DEMO_KEY}" is not "error", "warn", "info", "debug" or "trace"
 --> crypto.toml:6:9
  |
6 | level = "${DEMO_KEY}"
  |         ^^^^^^^^^^^^^

error[E012]: `keys` names `${DEMO_KEY}` twice
 --> crypto.toml:8:24
  |
8 | keys = ["${DEMO_KEY}", "${DEMO_KEY}"]
  |                        ^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn a_name_from_the_environment() {
    check(
        r#"name = "my ${DEMO_KEY}"
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
1 | name = "my ${DEMO_KEY}"
  |        ^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn faults_of_the_plugin() {
    check(
        r#"name = "crypto"
[trigger]
type = "interval"
[source]
type = "demo"
topp = 3
url = "${DEMO_KEY}"
[sink]
type = "csv"
"#,
        r#"
error[E010]: source "demo" has no key `topp`
 --> crypto.toml:6:1
  |
6 | topp = 3
  | ^^^^
  |
help: did you mean `top`?
  |
6 - topp = 3
6 + top = 3
  |

error[E030]: `url`: "${DEMO_KEY}" does not start with http
 --> crypto.toml:7:7
  |
7 | url = "${DEMO_KEY}"
  |       ^^^^^^^^^^^^^ ${DEMO_KEY} is no address
"#,
    );
}
