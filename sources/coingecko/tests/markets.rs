//! The market list, against the fixtures.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod common;

use common::{always, build, fixture, json, read_all, read_split, world};
use pipeline_contract::testkit::Answer;
use pipeline_contract::{Act, Position, Split};
use pipeline_source_coingecko::CoingeckoMarkets;
use serde_json::{Value, json};

fn split() -> Split {
    Split::new("markets")
}

#[tokio::test]
async fn the_largest_with_every_column() {
    let world = always(Answer::ok(fixture("markets_top3.json")));
    let source = build(&CoingeckoMarkets, "top = 3").unwrap();
    let all = read_all(source.as_ref(), &world.run).await.unwrap();
    assert_eq!(all.len(), 1);
    let brought = &all[0].1;
    assert_eq!(brought.positions, [Position(json!({ "page": 1, "taken": 3, "last": ["bitcoin", "ethereum", "tether"] }))]);
    for (row, entry) in brought.rows.iter().zip(json("markets_top3.json").as_array().unwrap()) {
        let row = row.as_object().unwrap();
        assert_eq!(row["fetched_at"], "2026-05-19T15:37:20Z");
        for (key, value) in entry.as_object().unwrap() {
            match (key.as_str(), value) {
                ("id", id) => assert_eq!(row["coin_id"], *id),
                ("roi", roi) => {
                    for part in ["times", "currency", "percentage"] {
                        assert_eq!(row[&format!("roi_{part}")], *roi.get(part).unwrap_or(&Value::Null));
                    }
                }
                (key, Value::Number(number)) => assert_eq!(row[key].as_f64(), number.as_f64(), "{key}"),
                (key, Value::String(text)) if key.ends_with("date") || key == "last_updated" => {
                    let at = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
                    assert_eq!(at(row[key].as_str().unwrap()), at(text));
                }
                (key, value) => assert_eq!(row[key], *value, "{key}"),
            }
        }
    }
    assert_eq!(brought.rows[0]["market_cap_rank"], json!(1));
    assert_eq!(world.transport.asked(), ["/api/v3/coins/markets?vs_currency=usd&order=market_cap_desc&sparkline=false&per_page=3&page=1"]);
    assert_eq!(source.capabilities().requests_per_run, Some(1));
}

#[tokio::test]
async fn what_is_not_known_is_null() {
    let source = build(&CoingeckoMarkets, "ids = [\"zombie-coin\", \"new-listing\"]").unwrap();
    let world = always(Answer::ok(fixture("markets_nulls.json")));
    let brought = read_split(source.as_ref(), &split(), &world.run).await.unwrap();
    assert!(brought.rejects.is_empty(), "{:?}", brought.rejects);
    let zombie = brought.rows[0].as_object().unwrap();
    let known: Vec<_> = zombie.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str()).collect();
    assert_eq!(known, ["coin_id", "fetched_at", "image", "name", "symbol"]);
    assert_eq!(brought.rows[1]["atl_change_percentage"], json!(8.721952937706929e36));
    assert_eq!(brought.rows[1]["name"], "  \"Comma, Quote\" ", "text is kept as it is");
    assert_eq!(
        world.transport.asked(),
        ["/api/v3/coins/markets?vs_currency=usd&order=market_cap_desc&sparkline=false&ids=zombie-coin%2Cnew-listing&per_page=250&page=1"]
    );
}

#[tokio::test]
async fn numbers_in_any_dress_and_nothing_else() {
    let good = json!({ "id": "a", "current_price": "7.1e-05", "market_cap": 10, "market_cap_rank": 3.0, "total_volume": "12", "roi": {} });
    let bad = [
        json!({ "id": "b", "current_price": "NaN" }),
        json!({ "id": "c", "current_price": true }),
        json!({ "id": "d", "market_cap_rank": 1.5 }),
        json!({ "id": "e", "market_cap_rank": "1e300" }),
        json!({ "id": "f", "ath_date": "yesterday" }),
        json!({ "id": "g", "roi": 7 }),
        json!({ "id": "h", "name": 7 }),
        json!({ "id": "" }),
        json!({ "id": 7 }),
        json!({}),
        json!([1]),
        json!(null),
    ];
    let body: Value = [good].into_iter().chain(bad.iter().cloned()).collect();
    let source = build(&CoingeckoMarkets, "top = 100").unwrap();
    let brought = read_split(source.as_ref(), &split(), &always(Answer::ok(body.to_string())).run).await.unwrap();
    assert_eq!(brought.rows.len(), 1);
    assert_eq!((&brought.rows[0]["current_price"], &brought.rows[0]["market_cap_rank"]), (&json!(7.1e-5), &json!(3)));
    assert_eq!(brought.rejects.iter().map(|reject| reject.row.clone()).collect::<Vec<_>>(), bad);
    assert!(brought.rules().iter().all(|rule| *rule == "coingecko:markets"));
    assert_eq!(brought.rejects[0].message, "current_price: \"NaN\" is not a number");
}

fn coins(range: std::ops::Range<usize>) -> Answer {
    Answer::ok(range.map(|n| json!({ "id": format!("coin-{n}"), "current_price": n })).collect::<Value>().to_string())
}

fn page_of(request: &http::Request<bytes::Bytes>) -> usize {
    request.uri().query().unwrap().rsplit_once("&page=").unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn pages_and_coins_that_come_twice() {
    // Between the first two requests one coin fell behind the page's end, and comes again.
    let world = world(|request| match page_of(request) {
        1 => coins(0..250),
        2 => coins(249..499),
        page => coins(499 + (page - 3) * 250..749 + (page - 3) * 250),
    });
    let source = build(&CoingeckoMarkets, "top = 600").unwrap();
    assert_eq!(source.capabilities().requests_per_run, Some(3));
    let brought = read_split(source.as_ref(), &split(), &world.run).await.unwrap();
    let ids: Vec<_> = brought.rows.iter().map(|row| row["coin_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..600).map(|n| format!("coin-{n}")).collect::<Vec<_>>());
    assert_eq!((brought.positions.len(), world.transport.asked().len(), brought.rejects.len()), (3, 3, 0));

    // Opened again after the first page it goes on with the second, and still knows what came.
    let mut reader = source.open(&split(), Some(brought.positions[0].clone()), &world.run).await.unwrap();
    let read = reader.read().await.unwrap().unwrap();
    assert_eq!((read.batch.num_rows(), read.position), (249, brought.positions[1].clone()));
}

#[tokio::test]
async fn the_list_may_be_shorter_than_asked_for() {
    let source = build(&CoingeckoMarkets, "top = 5000").unwrap();
    for (rows, pages) in [(260, 2), (500, 3)] {
        let world = world(move |request| {
            let first = (page_of(request) - 1) * 250;
            coins(first.min(rows)..(first + 250).min(rows))
        });
        let brought = read_split(source.as_ref(), &split(), &world.run).await.unwrap();
        assert_eq!((brought.rows.len(), world.transport.asked().len()), (rows, pages));
    }
    let error = read_split(source.as_ref(), &split(), &always(Answer::ok("[]")).run).await.unwrap_err();
    assert!(error.is_transient(), "there is always a largest coin: {error}");
}

#[tokio::test]
async fn a_named_coin_that_is_not_listed_is_told() {
    let source = build(&CoingeckoMarkets, "ids = [\"bitcoin\", \"no-such-coin\"]").unwrap();
    let brought = read_split(source.as_ref(), &split(), &always(Answer::ok(r#"[{"id":"bitcoin"}]"#)).run).await.unwrap();
    assert_eq!(brought.rows.len(), 1);
    assert_eq!((brought.rules(), &brought.rejects[0].row), (vec!["coingecko:unknown_id"], &json!({ "coin_id": "no-such-coin" })));
}

#[tokio::test]
async fn many_ids_take_several_requests() {
    let ids: Vec<String> = (0..501).map(|n| format!("\"coin-{n}\"")).collect();
    let source = build(&CoingeckoMarkets, &format!("ids = [{}]", ids.join(","))).unwrap();
    let world = world(|request| {
        let ids = request.uri().query().unwrap().split('&').find_map(|pair| pair.strip_prefix("ids=")).unwrap().to_owned();
        Answer::ok(ids.split("%2C").map(|id| json!({ "id": id })).collect::<Value>().to_string())
    });
    let brought = read_split(source.as_ref(), &split(), &world.run).await.unwrap();
    assert_eq!((brought.rows.len(), brought.rejects.len(), world.transport.asked().len()), (501, 0, 3));
}

#[tokio::test]
async fn changes_are_more_columns() {
    let source = build(&CoingeckoMarkets, "top = 1\nprice_change_percentage = [\"1h\", \"7d\"]").unwrap();
    let body = r#"[{"id":"bitcoin","price_change_percentage_1h_in_currency":-0.5,"price_change_percentage_7d_in_currency":null}]"#;
    let world = always(Answer::ok(body));
    let brought = read_split(source.as_ref(), &split(), &world.run).await.unwrap();
    let names: Vec<_> = source.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names[names.len() - 2..], ["price_change_percentage_1h_in_currency", "price_change_percentage_7d_in_currency"]);
    assert!(source.schema().fields().iter().all(|field| field.metadata().contains_key("description")));
    assert_eq!(brought.rows[0]["price_change_percentage_1h_in_currency"], json!(-0.5));
    assert_eq!(brought.rows[0]["price_change_percentage_7d_in_currency"], Value::Null);
    assert!(world.transport.asked()[0].contains("price_change_percentage=1h%2C7d"));
}

#[tokio::test]
async fn a_position_of_another_source_is_refused() {
    let source = build(&CoingeckoMarkets, "top = 1").unwrap();
    let error = source.open(&split(), Some(Position(json!({ "done": true }))), &always(Answer::ok("[]")).run).await.err().unwrap();
    assert_eq!(error.act, Act::Developer);
}
