//! Charts as SVG, drawn by `plotters`, with a scale that tests and people can check.
//!
//! The colours here are names: `style.css` gives each its colour, in the light and in the dark. No style stands in the SVG itself, which the
//! page's policy would not allow.

use std::error::Error;
use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, PreEscaped, html};
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

const TEXT: RGBColor = RGBColor(0, 0, 1);
const GRID: RGBColor = RGBColor(0, 0, 2);
const UP: RGBColor = RGBColor(0, 0, 3);
const DOWN: RGBColor = RGBColor(0, 0, 4);
const SERIES: RGBColor = RGBColor(0, 0, 5);
const BAD: RGBColor = RGBColor(0, 0, 6);
const QUIET: RGBColor = RGBColor(0, 0, 7);

/// On a desk and on a phone: one of them is shown.
const SIZES: [(&str, (u32, u32)); 2] = [("wide", (960, 300)), ("narrow", (340, 240))];

/// A chart of fewer bars leaves room for them.
const LEAST: usize = 16;

/// What every drawing can fail with; it is shown as a chart that is not there.
type Failed = Box<dyn Error + Send + Sync>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One stretch of trade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candle {
    pub(super) at: DateTime<Utc>,
    pub(super) open: f64,
    pub(super) high: f64,
    pub(super) low: f64,
    pub(super) close: f64,
}

/// One run: what it brought, good and bad.
pub(super) struct Bar {
    pub(super) at: DateTime<Utc>,
    pub(super) good: u64,
    pub(super) bad: u64,
}

/// Runs side by side.
pub(super) struct Bars<'a> {
    pub(super) bars: &'a [Bar],
    /// The one that the page speaks of.
    pub(super) marked: Option<usize>,
    /// Without axes, one slot for each cell of the strip above it.
    pub(super) small: bool,
}

/// A stretch of time in a lane, from and up to, in which something is missing.
pub(super) struct Stretch {
    pub(super) lane: usize,
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
}

/// Where the plot is in its SVG, and what its edges mean: `x` and `y` from left to right and from bottom to top.
struct Scale {
    pixels: [i32; 4],
    y: Range<f64>,
    x: Range<f64>,
}

impl Scale {
    fn of<X>(chart: &ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, RangedCoordf64>>, x: Range<f64>) -> Self
    where
        X: Ranged,
    {
        let (across, down) = chart.plotting_area().get_pixel_range();
        Self { pixels: [across.start, across.end, down.end, down.start], y: chart.as_coord_spec().y_spec().range(), x }
    }
}

/// Draws in one size; `None` when it cannot be drawn.
fn svg(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Result<Scale, Failed>) -> Option<(String, Scale)> {
    let mut text = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area).and_then(|scale| Ok(area.present().map(|()| scale)?))
    };
    match drawn {
        Ok(scale) => Some((text, scale)),
        Err(error) => {
            tracing::warn!("a chart cannot be drawn: {error}");
            None
        }
    }
}

/// A chart in both sizes, behind one text for those who do not see it.
fn in_sizes(text: &str, draw: impl Fn(&Area<'_>, (u32, u32)) -> Result<Scale, Failed>) -> Markup {
    html! {
        div.plots role="img" aria-label=(text) {
            @for (class, size) in SIZES {
                @match svg(size, |area| draw(area, size)) {
                    Some((drawn, scale)) => (plot(class, &drawn, &scale, "")),
                    None => { p.quiet { "This chart cannot be drawn; the figures are below." } }
                }
            }
        }
    }
}

fn plot(class: &str, drawn: &str, scale: &Scale, more: &str) -> Markup {
    let Scale { pixels: [left, right, bottom, top], x, y } = scale;
    // Its size is the style's; what it shows is said by the text around it.
    let inner = drawn.replacen("<svg ", &format!("<svg aria-hidden=\"true\" focusable=\"false\" {more}"), 1);
    html! {
        div class={ "plot " (class) } data-pixels=(format!("{left} {right} {bottom} {top}")) data-x=(format!("{} {}", x.start, x.end))
            data-y=(format!("{} {}", y.start, y.end)) { (PreEscaped(inner)) }
    }
}

/// Rows, or milliseconds, of runs side by side.
pub(super) fn bars(chart: &Bars<'_>, text: &str) -> Markup {
    if chart.small {
        return html! {
            div.plots.small role="img" aria-label=(text) {
                @if let Some((drawn, scale)) = svg((600, 40), |area| bars_in(area, chart, (600, 40))) {
                    (plot("", &drawn, &scale, "preserveAspectRatio=\"none\" "))
                }
            }
        };
    }
    in_sizes(text, |area, size| bars_in(area, chart, size))
}

fn bars_in(area: &Area<'_>, shown: &Bars<'_>, size: (u32, u32)) -> Result<Scale, Failed> {
    let bars = shown.bars;
    let most = bars.iter().map(|bar| bar.good as f64 + bar.bad as f64).fold(0.0, f64::max).max(1.0);
    let slots = if shown.small { super::strip::CELLS.max(bars.len()) } else { bars.len().max(LEAST) };
    let first = if shown.small { slots - bars.len() } else { 0 };
    let label = |n: &f64| if n.fract() == 0.0 { figure(*n, most) } else { String::new() };
    let labels = if shown.small { [0, 0] } else { [28, label_width([0.0, most], &label)] };
    let mut chart = ChartBuilder::on(area)
        .margin(if shown.small { 0 } else { 6 })
        .x_label_area_size(labels[0])
        .y_label_area_size(labels[1])
        .build_cartesian_2d(0.0..slots as f64, 0.0..most * 1.04)?;
    if !shown.small {
        let span = span(bars.iter().map(|bar| bar.at));
        let when = |slot: &f64| {
            let bar = (slot.fract() == 0.0).then(|| bars.get(*slot as usize)).flatten();
            bar.map_or_else(String::new, |bar| time_label(bar.at, span))
        };
        mesh(&mut chart, size, &when, &label)?;
    }
    let pads = if size.0 / u32::try_from(slots).unwrap_or(u32::MAX) < 5 { 0.0 } else { 0.14 };
    for (place, bar) in bars.iter().enumerate() {
        let (left, right) = ((first + place) as f64 + pads, (first + place + 1) as f64 - pads);
        let (good, all) = (bar.good as f64, bar.good as f64 + bar.bad as f64);
        let colour = if shown.marked.is_some_and(|marked| marked != place) { QUIET } else { SERIES };
        if bar.good > 0 {
            chart.draw_series([Rectangle::new([(left, good), (right, 0.0)], colour.filled())])?;
        }
        if bar.bad > 0 {
            chart.draw_series([Rectangle::new([(left, all), (right, good)], BAD.filled())])?;
        }
    }
    Ok(Scale::of(&chart, 0.0..slots as f64))
}

/// Candles: hollow where the price rose, filled where it did not.
pub(super) fn candles(candles: &[Candle], text: &str) -> Markup {
    in_sizes(text, |area, size| {
        // A row may say that it opened above its high: what lies far outside of the axis has no pixel.
        let (low, high) = bounds(candles.iter().flat_map(|candle| [candle.open, candle.high, candle.low, candle.close]));
        let times: Vec<_> = candles.iter().map(|candle| candle.at).collect();
        let closest = times.array_windows().map(|[a, b]| *b - *a).min().unwrap_or(TimeDelta::hours(1));
        let (mut chart, scale) = timed(area, size, &times, closest, (low, high))?;
        let slots = (scale.x.end - scale.x.start) / closest.num_seconds().max(1) as f64;
        let width = (f64::from(scale.pixels[1] - scale.pixels[0]) / slots * 0.66).clamp(1.0, 24.0) as u32;
        for candle in candles {
            let Candle { at, open, high, low, close } = *candle;
            let element = CandleStick::new(at, open, high, low, close, UP.stroke_width(1), DOWN.filled(), width);
            chart.draw_series([element])?;
        }
        Ok(scale)
    })
}

/// A line through values.
pub(super) fn line(points: &[(DateTime<Utc>, f64)], text: &str) -> Markup {
    in_sizes(text, |area, size| {
        let bounds = bounds(points.iter().map(|(_, value)| *value));
        let times: Vec<_> = points.iter().map(|(at, _)| *at).collect();
        let (mut chart, scale) = timed(area, size, &times, TimeDelta::minutes(1), bounds)?;
        chart.draw_series(LineSeries::new(points.iter().copied(), SERIES.stroke_width(2)))?;
        // A line through one point is none.
        chart.draw_series(points.last().map(|point| Circle::new(*point, 3, SERIES.filled())))?;
        Ok(scale)
    })
}

/// Stretches in lanes over time: what is missing, series by series.
pub(super) fn lanes(lanes: usize, from: DateTime<Utc>, to: DateTime<Utc>, stretches: &[Stretch], text: &str) -> Markup {
    let height = u32::try_from(lanes).unwrap_or(1).clamp(1, 24) * 22 + 40;
    html! {
        div.plots role="img" aria-label=(text) {
            @for (class, (width, _)) in SIZES {
                @if let Some((drawn, scale)) = svg((width, height), |area| lanes_in(area, (width, height), lanes, (from, to), stretches)) {
                    (plot(class, &drawn, &scale, ""))
                }
            }
        }
    }
}

fn lanes_in(
    area: &Area<'_>,
    size: (u32, u32),
    lanes: usize,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    stretches: &[Stretch],
) -> Result<Scale, Failed> {
    let mut chart =
        ChartBuilder::on(area).margin(6).x_label_area_size(28).y_label_area_size(22).build_cartesian_2d(from..to, 0.0..lanes.max(1) as f64)?;
    mesh(&mut chart, size, &|at| time_label(*at, to - from), &|_| String::new())?;
    for lane in 0..lanes {
        let y = (lanes - lane) as f64;
        chart.draw_series([Rectangle::new([(from, y - 0.2), (to, y - 0.8)], QUIET.filled())])?;
    }
    for stretch in stretches {
        let y = lanes.saturating_sub(stretch.lane) as f64;
        let (left, right) = (stretch.from.max(from), stretch.to.min(to));
        chart.draw_series([Rectangle::new([(left, y - 0.08), (right, y - 0.92)], BAD.filled())])?;
    }
    Ok(Scale::of(&chart, seconds(from)..seconds(to)))
}

type Timed<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedDateTime<DateTime<Utc>>, RangedCoordf64>>;

/// A chart over time with its axes.
fn timed<'a, 'b>(
    area: &Area<'b>,
    size: (u32, u32),
    times: &[DateTime<Utc>],
    pad: TimeDelta,
    (low, high): (f64, f64),
) -> Result<(Timed<'a, 'b>, Scale), Failed> {
    let (first, last) = (times.iter().min().copied().unwrap_or_default(), times.iter().max().copied().unwrap_or_default());
    let pad = pad.max(TimeDelta::seconds(1));
    let (first, last) = (first.checked_sub_signed(pad).unwrap_or(first), last.checked_add_signed(pad).unwrap_or(last));
    let label = |value: &f64| figure(*value, high - low);
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .x_label_area_size(28)
        .y_label_area_size(label_width([low, high], &label))
        .build_cartesian_2d(first..last, low..high)?;
    mesh(&mut chart, size, &|at| time_label(*at, last - first), &label)?;
    let scale = Scale::of(&chart, seconds(first)..seconds(last));
    Ok((chart, scale))
}

/// Axes and the lines across, with as many labels as there is room for.
fn mesh<X>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, RangedCoordf64>>,
    (width, height): (u32, u32),
    x_label: &dyn Fn(&X::ValueType) -> String,
    y_label: &dyn Fn(&f64) -> String,
) -> Result<(), Failed>
where
    X: Ranged + ValueFormatter<X::ValueType>,
    X::ValueType: 'static,
{
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels((width / 85).max(2) as usize)
        .y_labels((height / 50).max(2) as usize)
        .x_label_formatter(x_label)
        .y_label_formatter(y_label)
        .axis_style(GRID)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 15, &TEXT))
        .draw()?;
    Ok(())
}

/// From the lowest to the highest, with room at both ends. A range that floats cannot tell apart would never end.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if !(low.is_finite() && high.is_finite()) {
        return (0.0, 1.0);
    }
    let least = (low.abs().max(high.abs()) * 1e-6).max(f64::MIN_POSITIVE * 1e20);
    let pad = ((high - low) * 0.06).max(least);
    (low - pad, high + pad)
}

fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_micros() as f64 / 1e6
}

fn span(times: impl Iterator<Item = DateTime<Utc>> + Clone) -> TimeDelta {
    times.clone().max().unwrap_or_default() - times.min().unwrap_or_default()
}

/// An instant below an axis that is `span` long.
fn time_label(at: DateTime<Utc>, span: TimeDelta) -> String {
    let format = match span.num_hours() {
        0..30 => "%H:%M",
        30..192 => "%-d %b %H:%M",
        192..17_000 => "%-d %b",
        _ => "%b %Y",
    };
    at.format(format).to_string()
}

/// A value beside an axis that is `span` long: as many decimals as tell its steps apart.
fn figure(value: f64, span: f64) -> String {
    let decimals = (1.5 - span.abs().max(1e-300).log10()).clamp(0.0, 12.0) as usize;
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 1e12 => format!("{value:.2e}"),
        large if large >= 1e9 && span >= 1e7 => format!("{:.2} bn", value / 1e9),
        large if large >= 1e6 && span >= 1e4 => format!("{:.2} m", value / 1e6),
        _ => format!("{value:.decimals$}"),
    }
}

/// How wide the labels beside an axis are, in pixels.
fn label_width(ends: [f64; 2], label: &dyn Fn(&f64) -> String) -> u32 {
    let longest = ends.iter().map(|end| label(&end.floor()).len().max(label(end).len())).max().unwrap_or_default();
    u32::try_from(longest).unwrap_or(12).clamp(2, 16) * 7 + 10
}

/// The values that a chart shows must be numbers that can be drawn: no one needs a price of 1e150.
pub(super) fn drawable(value: f64) -> bool {
    value.is_finite() && value.abs() < 1e100
}
