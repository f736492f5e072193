//! The page in a real browser: a headless Chromium, driven by WebDriver.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

mod browser;
mod charts;
mod world;

use std::sync::atomic::Ordering;

use browser::Browser;
use pipeline_contract::Clock;
use serde_json::{Value, json};
use world::{HOSTILE, HOUR, KEY, World};

const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';

/// Every kind of page there is, with what its picture is called.
async fn pages(world: &World, root: &str) -> Vec<(&'static str, String)> {
    let run = |name: &str, place: usize| {
        let id = world.fleet.member(name).unwrap().store.runs(10).unwrap()[place].run_id.clone();
        format!("{root}/pipelines/{name}/runs/{}", id.replace('@', "%40").replace(':', "%3A"))
    };
    vec![
        ("overview", format!("{root}/")),
        ("candles", format!("{root}/pipelines/crypto")),
        ("line", format!("{root}/pipelines/closes?series=ethereum")),
        ("idle", format!("{root}/pipelines/idle")),
        ("strange", format!("{root}/pipelines/strange")),
        ("run", run("crypto", 0)),
        ("failed", run("strange", 0)),
        ("keyed", run("closes", 2)),
        ("broken", format!("{root}/pipelines/torn")),
        ("missing", format!("{root}/pipelines/nobody")),
    ]
}

/// Faults that a browser logs of a page that is not there are what that page is about.
fn grave(console: Vec<String>) -> Vec<String> {
    console.into_iter().filter(|line| !line.contains("/pipelines/nobody - Failed to load resource")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_sound_in_the_light_in_the_dark_and_on_a_phone() {
    let world = World::full().await;
    let root = world.serve().await;
    let browser = Browser::start().await;
    for (name, url) in pages(&world, &root).await {
        for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)] {
            let case = format!("{name} {scheme} {width}");
            browser.width(width).await;
            browser.scheme(scheme).await;
            browser.goto(&url).await;
            browser.picture(&case.replace(' ', "-")).await;
            let wide = browser.ask("return document.documentElement.scrollWidth").await;
            assert!(wide.as_u64() <= Some(u64::from(width)), "{case}: the page is {wide} wide");
            let ground = browser.ask("return getComputedStyle(document.documentElement).backgroundColor").await;
            assert_eq!(ground, if scheme == "dark" { "rgb(17, 19, 21)" } else { "rgb(246, 246, 243)" }, "{case}: the style is not there");
            // Its tables are open, too.
            browser.ask("document.querySelectorAll('details').forEach((e) => e.open = true)").await;
            // Contrast is the same on a phone, and names are the same in the dark.
            if (scheme, width) != ("dark", 360) {
                assert_eq!(browser.faults().await, Vec::<String>::new(), "{case}");
            }
            let wide = browser.ask("return document.documentElement.scrollWidth").await;
            assert!(wide.as_u64() <= Some(u64::from(width)), "{case}: the page with its tables is {wide} wide");
            assert_eq!(grave(browser.console().await), Vec::<String>::new(), "{case}");
        }
    }
    let asked = browser.asked().await;
    assert!(asked.len() > 50, "the browser's log of requests is not there: {asked:?}");
    let elsewhere: Vec<_> = asked.iter().filter(|url| !url.starts_with(&root) && !url.starts_with("data:") && !url.starts_with("chrome")).collect();
    assert!(elsewhere.is_empty(), "requests to others: {elsewhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_says_of_each_pipeline_how_it_is() {
    let world = World::full().await;
    let root = world.serve().await;
    let browser = Browser::start().await;
    browser.goto(&root).await;
    let card = |name: &str, what: &str| format!("[data-live=card-{name}] {what}");
    assert!(browser.text(&card("crypto", ".badge")).await.contains("degraded"));
    assert!(browser.text(&card("idle", ".history")).await.contains("It has not run yet."));
    assert!(browser.text(&card("crypto", ".facts")).await.contains("2026-05-19 14:00:00 UTC"), "the newest data");
    assert!(browser.text(&card("crypto", ".reasons")).await.contains("4 rows are missing in 2 gaps"));
    assert!(browser.text(&card("closes", ".badge")).await.contains("healthy"));
    assert!(browser.text(&card("strange", ".reasons")).await.contains("404"));
    assert_eq!(browser.ask("return document.querySelectorAll('[data-live=card-crypto] .cell.ok').length").await, 3);
    assert_eq!(browser.ask("return document.querySelectorAll('[data-live=card-crypto] .cell.failed').length").await, 1);
    assert_eq!(browser.ask("return document.querySelector('[data-live=card-crypto] .strip').ariaLabel").await, "the last 4 runs: 3 ok, 1 failed");
    // Those in trouble come first.
    assert_eq!(
        browser.ask("return [...document.querySelectorAll('article')].map((e) => e.dataset.name).join()").await,
        "torn,crypto,strange,closes,idle"
    );
    assert!(browser.client.title().await.unwrap().contains("1 unhealthy, 2 degraded"));
    assert!(browser.text(&card("torn", ".reasons")).await.contains("expected `=`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_show_the_stored_rows() {
    let world = World::full().await;
    let root = world.serve().await;
    let browser = Browser::start().await;
    for width in [1280, 360] {
        browser.width(width).await;
        for coin in ["bitcoin", "ethereum"] {
            browser.goto(&format!("{root}/pipelines/crypto?series={coin}")).await;
            charts::candles_are(&browser, &world.stored("crypto", coin)).await;
            browser.goto(&format!("{root}/pipelines/closes?series={coin}")).await;
            charts::line_is(&browser, &world.stored("closes", coin)).await;
        }
    }
    // Without a wish it is the first series.
    browser.goto(&format!("{root}/pipelines/crypto")).await;
    assert_eq!(browser.ask("return document.querySelector('[data-chart=candles]').dataset.series").await, "bitcoin");
    let runs = world.fleet.member("crypto").unwrap().store.runs(10).unwrap();
    let rows: Vec<(u64, u64)> = runs.iter().rev().map(|run| (run.rows.written, run.rows.rejected)).collect();
    assert!(rows.iter().any(|(good, _)| *good > 20) && rows.iter().any(|(_, bad)| *bad > 0), "there is something to draw: {rows:?}");
    charts::bars_are(&browser, &rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelines_page_has_its_runs_gaps_rejects_quota_and_plan() {
    let world = World::full().await;
    let root = world.serve().await;
    let browser = Browser::start().await;
    browser.goto(&format!("{root}/pipelines/crypto")).await;
    assert_eq!(browser.ask("return document.querySelectorAll('[data-live=runs] tbody tr').length").await, 4);
    assert!(browser.text("[data-live=runs] table").await.contains("client_error"), "the error of the second run");
    let gaps = browser.text("#gap-table").await;
    assert!(gaps.contains("bitcoin") && gaps.contains("2026-05-19 02:00:00 UTC") && gaps.contains("2026-05-19 05:00:00 UTC"), "{gaps}");
    charts::gaps_are(&browser, &[("2026-05-19T02:00:00Z", "2026-05-19T05:00:00Z"), ("2026-05-19T07:00:00Z", "2026-05-19T08:00:00Z")]).await;
    let rejects = browser.text("[data-live=rejected]").await;
    for text in ["price_envelope", "ethereum", "pipeline rejects pipelines/crypto.toml --replay", "1 row in quarantine"] {
        assert!(rejects.contains(text), "no {text:?} in {rejects}");
    }
    let quota = browser.text("[data-live=quota]").await;
    assert!(quota.contains("1,234 of 10,000 requests in 2026-05") && quota.contains("api.coingecko.com"), "{quota}");
    assert_eq!(browser.ask("return document.querySelector('meter').value").await, 1234);
    let plan = browser.text("section.plan").await;
    for text in ["trigger interval", "source coingecko_ohlc", "validate 1 rules", "dedupe coin_id, timestamp", "sink csv", "timestamp"] {
        assert!(plan.contains(text), "no {text:?} in {plan}");
    }
    // From a cell to its run and back.
    browser.ask("document.querySelector('a.cell.failed').click()").await;
    browser.until("return location.pathname.includes('/runs/')").await;
    let run = browser.text("main").await;
    for text in ["failed", "2026-05-19 13:20:00 UTC", "once", "Splits", "bitcoin", "404"] {
        assert!(run.contains(text), "no {text:?} in {run}");
    }
    let record = world.fleet.member("crypto").unwrap().store.runs(10).unwrap().remove(2);
    let took = (record.ended_at.unwrap() - record.started_at).num_milliseconds();
    let table = browser.text("#durations-table").await;
    assert!(table.contains(&took.to_string()), "{took} ms is not in {table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_updates_itself_and_keeps_what_its_reader_did() {
    let world = World::full().await;
    let root = world.serve().await;
    let browser = Browser::start().await;
    browser.goto(&format!("{root}/pipelines/closes")).await;
    let before = browser.text("[data-countdown]").await;
    browser.until(&format!("return document.querySelector('[data-countdown]').textContent !== {}", json!(before))).await;
    // Its reader opened a table, and is on the link of the newest run.
    browser
        .ask(
            "document.getElementById('newest-table').open = true; window.mark = 'the same page'; document.querySelector('[data-live=runs] tbody a').focus(); \
             window.focused = document.activeElement.href; window.rows = document.querySelectorAll('[data-live=newest] tbody tr').length",
        )
        .await;
    world.clock.advance(HOUR);
    assert_eq!(world.run("closes").await.rows.written, 2);
    browser.until("return document.querySelectorAll('[data-live=runs] tbody tr').length === 5").await;
    assert_eq!(browser.ask("return window.mark").await, "the same page", "it was loaded anew");
    assert_eq!(browser.ask("return document.querySelectorAll('[data-live=newest] tbody tr').length - window.rows").await, 1);
    assert_eq!(browser.ask("return document.getElementById('newest-table').open").await, true, "the table was closed");
    assert_eq!(browser.ask("return document.activeElement.href === window.focused").await, true, "the focus was lost");
    charts::line_is(&browser, &world.stored("closes", "bitcoin")).await;
    // What became of the state is said.
    world.clock.advance(HOUR);
    world.broken.store(true, Ordering::SeqCst);
    world.run("closes").await;
    browser.until("return document.getElementById('announcer').textContent === 'closes is now degraded.'").await;
    assert!(browser.text(".title .badge").await.contains("degraded"));
    // A part in which nothing changed is left alone.
    browser.ask("document.querySelector('section.plan').mark = 1; document.querySelector('[data-live=quota]').mark = 1").await;
    world.clock.advance(HOUR);
    world.run("closes").await;
    browser.until("return document.querySelectorAll('[data-live=runs] tbody tr').length === 7").await;
    assert_eq!(browser.ask("return document.querySelector('[data-live=quota]').mark").await, 1);
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_says_when_the_server_does_not_answer() {
    let world = World::full().await;
    let root = world.serve().await;
    let browser = Browser::start().await;
    browser.goto(&root).await;
    assert_eq!(browser.ask("return document.getElementById('offline').hidden").await, true);
    world.end.cancel();
    let text = browser.until("const e = document.getElementById('offline'); return e.hidden ? null : e.textContent").await;
    assert!(text.as_str().unwrap().contains("out of date: it is of 15:40:00 UTC"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_work_without_javascript() {
    let world = World::full().await;
    let root = world.serve().await;
    let browser = Browser::start().await;
    browser.devtools("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
    browser.goto(&format!("{root}/pipelines/crypto?series=ethereum")).await;
    let text = browser.text("main").await;
    assert!(text.contains("price_envelope") && text.contains("plan"), "{text}");
    charts::candles_are(&browser, &world.stored("crypto", "ethereum")).await;
    // It loads itself anew; without JavaScript alone.
    assert_eq!(browser.ask("return document.querySelector('noscript meta[http-equiv=refresh]')?.content").await, "15");
    assert_eq!(browser.console().await, Vec::<String>::new());
    let link = browser.client.find(fantoccini::Locator::Css("[data-live=runs] tbody a")).await.unwrap();
    link.click().await.unwrap();
    assert!(browser.client.current_url().await.unwrap().path().contains("/runs/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_reaches_everything() {
    let world = World::full().await;
    let root = world.serve().await;
    let browser = Browser::start().await;
    browser.goto(&format!("{root}/pipelines/crypto")).await;
    browser.press(TAB).await;
    assert_eq!(browser.ask("return document.activeElement.className").await, "skip");
    assert!(browser.ask("return document.activeElement.getBoundingClientRect().top").await.as_f64() >= Some(0.0), "the skip link is not seen");
    browser.press(ENTER).await;
    browser.until("return document.activeElement.id === 'main'").await;
    browser.goto(&format!("{root}/pipelines/crypto")).await;
    let all = browser.ask("return document.querySelectorAll('a[href], summary, [tabindex=\"0\"]').length").await.as_u64().unwrap();
    browser.ask("window.reached = new Set(); document.addEventListener('focusin', (e) => window.reached.add(e.target))").await;
    for _ in 0..all {
        browser.press(TAB).await;
    }
    let missed = browser
        .ask("return [...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')].filter((e) => e.checkVisibility() && !window.reached.has(e)).map((e) => e.outerHTML)")
        .await;
    assert_eq!(missed, Value::Array(Vec::new()));
    let unseen =
        browser.ask("const a = document.querySelector('.series a'); a.focus({focusVisible: true}); return getComputedStyle(a).outlineStyle").await;
    assert_eq!(unseen, "solid", "the focus is not shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_is_text() {
    let world = World::full().await;
    let root = world.serve().await;
    let browser = Browser::start().await;
    for (name, url) in pages(&world, &root).await.into_iter().filter(|(name, _)| matches!(*name, "overview" | "strange" | "failed")) {
        browser.goto(&url).await;
        assert!(browser.text("main").await.contains("<script>window.harmed=1</script>"), "{name} does not show it");
        assert_eq!(browser.ask("return window.harmed ?? null").await, Value::Null, "{name} runs it");
        assert_eq!(browser.ask("return document.querySelectorAll('main script, main img').length").await, 0, "{name} makes elements of it");
        assert_eq!(browser.console().await, Vec::<String>::new(), "{name}");
    }
    browser.goto(&format!("{root}/pipelines/strange")).await;
    for part in ["#rejects", "#gap-table", "[data-live=last-splits]", "[data-live=now]"] {
        let text = browser.text(part).await;
        assert!(text.contains(HOSTILE) || text.contains(&HOSTILE.replace('"', "\\\"")), "{part} has lost it: {text}");
    }
    // The way of JavaScript is as safe.
    world.clock.advance(HOUR);
    world.broken.store(true, Ordering::SeqCst);
    world.run("strange").await;
    browser.until("return document.querySelectorAll('[data-live=runs] tbody tr').length === 2").await;
    assert_eq!(browser.ask("return [window.harmed ?? null, document.querySelectorAll('main script, main img').length]").await, json!([null, 0]));
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_holds_a_key() {
    let world = World::full().await;
    let root = world.serve().await;
    for (name, url) in pages(&world, &root).await {
        let (_, body) = answer(&root, url.strip_prefix(&root).unwrap(), "text/html").await;
        assert!(!body.contains(KEY), "{name} holds it");
        assert!(name != "keyed" || body.contains("with the key ***"), "its error is there, without it: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_pipelines_it_says_what_to_do() {
    let world = World::empty();
    let root = world.serve().await;
    let browser = Browser::start().await;
    browser.goto(&root).await;
    browser.picture("empty").await;
    assert!(browser.text("main").await.contains("No pipelines yet. Put a file into pipelines/"));
    // The first one appears by itself.
    world.add("first", "");
    browser.until("return document.querySelector('[data-live=card-first]') !== null").await;
    assert_eq!(browser.faults().await, Vec::<String>::new());
    assert!(world.clock.now().to_string().starts_with("2026"));
}

/// An answer's head, in small letters, and its body.
async fn answer(root: &str, path: &str, accept: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = root.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = String::new();
    stream.read_to_string(&mut bytes).await.unwrap();
    let (head, body) = bytes.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_policy_and_files_are_kept_for_ever() {
    let world = World::empty();
    world.add("first", "");
    let root = world.serve().await;
    let policy = "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n";
    for (path, status) in [("/", 200), ("/pipelines/first", 200), ("/pipelines/nobody", 404), ("/pipelines/first/runs/none", 404), ("/nowhere", 404)]
    {
        let (head, body) = answer(&root, path, "text/html").await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{path}: {head}");
        for header in [policy, "referrer-policy: no-referrer\r\n", "x-content-type-options: nosniff\r\n", "cache-control: no-store\r\n"] {
            assert!(head.contains(header), "{path} without {header}: {head}");
        }
        assert!(body.contains("<!DOCTYPE html>") && !body.contains(" style=") && !body.contains("<style"), "{path}: {body}");
    }
    for (path, accept) in [("/nowhere", "*/*"), ("/api/v1/nowhere", "text/html")] {
        let (head, body) = answer(&root, path, accept).await;
        assert!(head.starts_with("http/1.1 404") && !body.contains("<html"), "programs are not told in pages: {head}{body}");
    }
    let (_, body) = answer(&root, "/", "text/html").await;
    let files: Vec<&str> = body.split('"').filter(|part| part.starts_with("/static/")).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        let (head, _) = answer(&root, file, "*/*").await;
        assert!(head.starts_with("http/1.1 200") && head.contains("cache-control: public, max-age=31536000, immutable\r\n"), "{file}: {head}");
    }
    let (head, _) = answer(&root, "/static/style-0123456789abcdef.css", "*/*").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
}
