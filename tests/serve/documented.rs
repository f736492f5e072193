//! `docs/api.md` is true: every path is in it, and each example has the shape of a real answer.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::served::{Served, recipe};
use crate::support::{On, Reply, Room, Server};

const PAGE: &str = include_str!("../../docs/api.md");

/// The examples of the page: the path that is asked, and what is answered.
fn examples() -> Vec<(String, Value)> {
    let sections = PAGE.split("\n```\nGET ").skip(1).map(|section| {
        let (path, rest) = section.split_once('\n').unwrap();
        let body = rest.split("```json\n").nth(1).and_then(|body| body.split("\n```").next()).unwrap_or_else(|| panic!("{path} has no answer"));
        (path.to_owned(), serde_json::from_str(body).unwrap_or_else(|error| panic!("the answer to {path} is no JSON: {error}")))
    });
    sections.collect()
}

/// The names of all fields, with those of what is in them. Of a list, those of its first element.
fn shape(value: &Value, at: &str, shapes: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let at = format!("{at}.{name}");
            shapes.insert(at.clone());
            shape(value, &at, shapes);
        }),
        Value::Array(items) => items.iter().take(1).for_each(|item| shape(item, &format!("{at}[]"), shapes)),
        _ => {}
    }
}

#[test]
fn every_example_of_the_api_page_has_the_shape_of_a_real_answer() {
    let server = Server::start();
    let spoil = |rows: &mut Vec<Value>| rows.iter_mut().for_each(|row| row[2] = json!(0.000_001));
    server.fault(On::ohlc("tether"), Reply::rows(spoil));
    let room = Room::new(&server);
    let mut candles = recipe("candles", "bitcoin").source("coins = [\"bitcoin\", \"tether\"]\ninterval = \"1h\"\nvolume_24h = true");
    candles.top = "description = \"Hourly candles of the biggest coins\"".to_owned();
    room.write("pipelines/candles.toml", &candles.toml());
    let mut served = Served::start(&room);
    served.wait_for_runs("candles", 1);
    served.wait_for("the newest row is known", |served| served.health("candles")["data"].is_object());
    let run_id = served.get("/api/v1/pipelines/candles/runs").json()["runs"][0]["run_id"].as_str().unwrap().to_owned();
    let examples = examples();
    for (path, example) in &examples {
        let real = path.split("/runs/").next().filter(|before| *before != path).map_or(path.clone(), |before| format!("{before}/runs/{run_id}"));
        let got = served.get(&real).json();
        let (mut shown, mut is) = (BTreeSet::new(), BTreeSet::new());
        shape(example, "", &mut shown);
        shape(&got, "", &mut is);
        // What is null in one of them has no fields there.
        let inside = |shape: &str, other: &Value| {
            let mut at = other;
            for part in shape.split('.').skip(1).map(|part| part.trim_end_matches("[]")) {
                if at.is_null() || at.as_array().is_some_and(Vec::is_empty) {
                    return true;
                }
                at = at.as_array().and_then(|items| items.first()).unwrap_or(at);
                match at.get(part) {
                    Some(next) => at = next,
                    None => return false,
                }
            }
            true
        };
        let unreal: Vec<_> = shown.iter().filter(|shape| !inside(shape, &got)).collect();
        let untold: Vec<_> = is.iter().filter(|shape| !inside(shape, example)).collect();
        assert!(unreal.is_empty(), "{path}: the page shows what is not there: {unreal:?} in {got}");
        assert!(untold.is_empty(), "{path}: the page does not show: {untold:?} of {got}");
    }
    // Every path of the router has an example.
    let routes = concat!(include_str!("../../src/serve/api/mod.rs"));
    let paths: Vec<&str> = routes.split(".route(\"").skip(1).map(|route| route.split('"').next().unwrap()).collect();
    assert!(paths.len() >= 7, "{paths:?}");
    for path in paths {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let fits = |example: &str| {
            let example: Vec<&str> = example.split('?').next().unwrap().split('/').skip(3).collect();
            example.len() == parts.len() && example.iter().zip(&parts).all(|(a, b)| a == b || b.starts_with('{'))
        };
        assert!(examples.iter().any(|(example, _)| example.starts_with("/api/v1/") && fits(example)), "{path} has no example in docs/api.md");
    }
}

#[test]
fn every_problem_has_its_heading() {
    let sources = [
        include_str!("../../src/serve/problem.rs"),
        include_str!("../../src/serve/guard.rs"),
        include_str!("../../src/serve/api/mod.rs"),
        include_str!("../../src/serve/api/runs.rs"),
        include_str!("../../src/serve/api/rows.rs"),
        include_str!("../../src/serve/metrics/mod.rs"),
    ];
    let mut kinds = BTreeSet::new();
    for source in sources {
        for call in source.split("StatusCode::").skip(1) {
            let kind = call.split('"').nth(1).filter(|_| call.split_once(',').is_some_and(|(_, rest)| rest.trim_start().starts_with('"')));
            kinds.extend(kind);
        }
    }
    assert!(kinds.len() >= 9, "{kinds:?}");
    for kind in kinds {
        assert!(PAGE.contains(&format!("\n### {kind}\n")), "docs/api.md has no heading \"### {kind}\"");
    }
}
