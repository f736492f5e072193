//! What a chart's geometry says, against the stored rows: by the scale that each plot carries.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::browser::Browser;

/// The shapes of the plot that is shown, in the order in which they were drawn, and its scale.
const SHAPES: &str = "
    const figure = document.querySelector(`[data-chart=${arguments[0]}]`);
    const plot = [...figure.querySelectorAll('.plot')].filter((e) => getComputedStyle(e).display !== 'none');
    const numbers = (text) => text.trim().split(/[ ,]+/).map(Number);
    const of = (e) => Object.fromEntries(e.getAttributeNames().map((name) => [name, e.getAttribute(name)]));
    return {
        plots: plot.length,
        pixels: numbers(plot[0].dataset.pixels), x: numbers(plot[0].dataset.x), y: numbers(plot[0].dataset.y),
        shapes: [...plot[0].querySelectorAll('line, rect, polyline')].map((e) => ({tag: e.tagName, ...of(e)})),
        size: plot[0].querySelector('svg').getBoundingClientRect().width,
        table: [...figure.querySelectorAll('tbody tr')].map((row) => [...row.children].map((cell) => cell.textContent)),
        caption: figure.querySelector('figcaption').textContent,
        label: figure.querySelector('[role=img]').ariaLabel,
    }";

struct Drawn(Value);

impl Drawn {
    async fn of(browser: &Browser, chart: &str) -> Self {
        let drawn = Self(browser.client.execute(SHAPES, vec![chart.into()]).await.unwrap());
        assert_eq!(drawn.0["plots"], 1, "one size is shown");
        assert!(drawn.0["size"].as_f64() > Some(200.0), "it is seen: {}", drawn.0["size"]);
        drawn
    }

    fn pair(&self, name: &str) -> (f64, f64) {
        (self.0[name][0].as_f64().unwrap(), self.0[name][1].as_f64().unwrap())
    }

    fn pixel(&self, place: usize) -> f64 {
        self.0["pixels"][place].as_f64().unwrap()
    }

    /// The value at a height.
    fn value(&self, y: f64) -> f64 {
        let ((low, high), bottom, top) = (self.pair("y"), self.pixel(2), self.pixel(3));
        low + (bottom - y) / (bottom - top) * (high - low)
    }

    /// How much two pixels are: one is lost by rounding, one by the width of a line.
    fn pixel_high(&self) -> f64 {
        let ((low, high), bottom, top) = (self.pair("y"), self.pixel(2), self.pixel(3));
        (high - low) / (bottom - top) * 2.0
    }

    fn at(&self, x: f64) -> f64 {
        let ((first, last), left, right) = (self.pair("x"), self.pixel(0), self.pixel(1));
        first + (x - left) / (right - left) * (last - first)
    }

    fn pixel_wide(&self) -> f64 {
        let ((first, last), left, right) = (self.pair("x"), self.pixel(0), self.pixel(1));
        (last - first) / (right - left) * 2.0
    }

    /// Shapes with one of these colours.
    fn coloured(&self, tag: &str, colours: &[&str]) -> Vec<&Value> {
        let has = |shape: &&Value| shape["tag"] == tag && colours.iter().any(|colour| shape["fill"] == **colour || shape["stroke"] == **colour);
        self.0["shapes"].as_array().unwrap().iter().filter(has).collect()
    }

    /// The table holds exactly these rows, newest first.
    fn has_table(&self, rows: &BTreeMap<String, Vec<f64>>) {
        let table = self.0["table"].as_array().unwrap();
        let expected: Vec<Value> =
            rows.iter().rev().map(|(at, values)| std::iter::once(at.clone()).chain(values.iter().map(f64::to_string)).collect()).collect();
        assert_eq!(table, &expected);
        let (at, values) = rows.last_key_value().unwrap();
        for text in [self.0["caption"].as_str().unwrap(), self.0["label"].as_str().unwrap()] {
            assert!(text.contains(at) && values.iter().all(|value| text.contains(&value.to_string())), "the newest row is not in {text:?}");
        }
    }
}

fn number(shape: &Value, name: &str) -> f64 {
    shape[name].as_str().unwrap().parse().unwrap()
}

fn close(what: &str, drawn: f64, stored: f64, by: f64) {
    assert!((drawn - stored).abs() <= by, "{what}: {drawn} is drawn where {stored} is stored (two pixels are {by})");
}

fn seconds(at: &str) -> f64 {
    at.parse::<DateTime<Utc>>().unwrap().timestamp() as f64
}

/// Stored rows have open, high, low, close.
pub async fn candles_are(browser: &Browser, rows: &BTreeMap<String, Vec<f64>>) {
    let drawn = Drawn::of(browser, "candles").await;
    drawn.has_table(rows);
    let colours = ["#000003", "#000004"];
    let (wicks, bodies) = (drawn.coloured("line", &colours), drawn.coloured("rect", &colours));
    assert!(rows.len() > 20 && wicks.len() == rows.len() * 2 && bodies.len() == rows.len(), "{} bodies of {} rows", bodies.len(), rows.len());
    let by = drawn.pixel_high();
    for (n, (at, values)) in rows.iter().enumerate() {
        let [open, high, low, end] = values[..] else { panic!("{values:?}") };
        let (upper, lower, body) = (wicks[n * 2], wicks[n * 2 + 1], bodies[n]);
        close(&format!("{at} when"), drawn.at(number(upper, "x1")), seconds(at), drawn.pixel_wide());
        close(&format!("{at} high"), drawn.value(number(upper, "y2")), high, by);
        close(&format!("{at} low"), drawn.value(number(lower, "y1")), low, by);
        close(&format!("{at} top"), drawn.value(number(body, "y")), open.max(end), by);
        close(&format!("{at} bottom"), drawn.value(number(body, "y") + number(body, "height")), open.min(end), by);
        assert_eq!(body["fill"] == "none", open < end, "{at}: hollow where it rose");
    }
}

/// Stored rows have one value.
pub async fn line_is(browser: &Browser, rows: &BTreeMap<String, Vec<f64>>) {
    let drawn = Drawn::of(browser, "line").await;
    drawn.has_table(rows);
    let lines = drawn.coloured("polyline", &["#000005"]);
    assert_eq!(lines.len(), 1);
    let points: Vec<(f64, f64)> = lines[0]["points"]
        .as_str()
        .unwrap()
        .split_whitespace()
        .map(|point| {
            let (x, y) = point.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        })
        .collect();
    assert!(rows.len() > 20 && points.len() == rows.len(), "{} points of {} rows", points.len(), rows.len());
    for ((x, y), (at, values)) in points.iter().zip(rows) {
        close(&format!("{at} when"), drawn.at(*x), seconds(at), drawn.pixel_wide());
        close(at, drawn.value(*y), values[0], drawn.pixel_high());
    }
}

/// Stored and rejected rows of each run.
pub async fn bars_are(browser: &Browser, runs: &[(u64, u64)]) {
    let drawn = Drawn::of(browser, "runs").await;
    let heights = |colour: &str| -> BTreeMap<usize, f64> {
        let bars = drawn.coloured("rect", &[colour]);
        bars.iter().map(|bar| (drawn.at(number(bar, "x")) as usize, number(bar, "height") * drawn.pixel_high() / 2.0)).collect()
    };
    let (good, bad) = (heights("#000005"), heights("#000006"));
    for (n, (stored, rejected)) in runs.iter().enumerate() {
        close(&format!("stored by run {n}"), good.get(&n).copied().unwrap_or(0.0), *stored as f64, drawn.pixel_high());
        close(&format!("rejected by run {n}"), bad.get(&n).copied().unwrap_or(0.0), *rejected as f64, drawn.pixel_high());
    }
    let table: Vec<(String, String)> = drawn.0["table"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|row| (row[1].as_str().unwrap().to_owned(), row[2].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(table, runs.iter().map(|(good, bad)| (good.to_string(), bad.to_string())).collect::<Vec<_>>());
}

/// From and up to when rows are missing, lane by lane.
pub async fn gaps_are(browser: &Browser, gaps: &[(&str, &str)]) {
    let drawn = Drawn::of(browser, "gaps").await;
    let stretches = drawn.coloured("rect", &["#000006"]);
    assert_eq!(stretches.len(), gaps.len());
    for (shape, (from, to)) in stretches.iter().zip(gaps) {
        close("from", drawn.at(number(shape, "x")), seconds(from), drawn.pixel_wide());
        close("to", drawn.at(number(shape, "x") + number(shape, "width")), seconds(to), drawn.pixel_wide());
    }
    assert!(number(stretches[0], "y") < number(stretches[1], "y"), "each series has a lane of its own");
}
