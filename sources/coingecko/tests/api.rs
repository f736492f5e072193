//! Keys, plans, limits, errors, config faults: what both sources share.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{KEY, always, build, fixture, read_split, world};
use pipeline_contract::testkit::{Answer, TestBudget};
use pipeline_contract::{Act, BudgetLimits, Category, Plugin, RunContext, Split, StageError};
use pipeline_source_coingecko::{CoingeckoMarkets, CoingeckoOhlc, plugins};
use proptest::prelude::*;

const COINS: &str = "coins = [\"bitcoin\"]\n";
const STATUSES: [u16; 8] = [200, 400, 401, 403, 404, 429, 500, 503];

async fn ohlc(run: &RunContext) -> StageError {
    let source = build(&CoingeckoOhlc, &format!("{COINS}api_key = \"{KEY}\"")).unwrap();
    read_split(source.as_ref(), &Split::new("bitcoin"), run).await.unwrap_err()
}

fn coded(code: u64) -> [String; 3] {
    let status = format!(r#"{{"error_code":{code},"error_message":"words for {KEY}"}}"#);
    [format!(r#"{{"status":{status}}}"#), format!(r#"{{"error":{{"status":{status}}}}}"#), status]
}

#[tokio::test]
async fn the_code_in_the_body_goes_before_the_status() {
    for status in STATUSES {
        for (code, word) in [(10002, "api_key"), (10005, "plan"), (10010, "https://pro-api.coingecko.com"), (10011, "https://api.coingecko.com")] {
            for body in coded(code) {
                let world = always(Answer::status(status, body));
                let error = ohlc(&world.run).await;
                assert_eq!((error.act, error.category), (Act::Operator, Category::ClientError), "{status} {code}: {error}");
                assert!(error.help.as_ref().unwrap().contains(word), "{error:?}");
                assert!(error.message.contains(&format!("words for *** (CoinGecko code {code})")), "{error}");
                assert_eq!(world.transport.asked().len(), 1);
            }
        }
        for body in coded(429) {
            let world = always(Answer::status(status, body));
            assert_eq!(ohlc(&world.run).await.category, Category::RateLimit);
            assert_eq!(world.transport.asked().len(), 5);
        }
    }
}

#[tokio::test]
async fn the_fixtures_of_errors_under_every_status() {
    let time = Act::Time { retry_after: None };
    let cases = [
        ("err_400_10010.json", Act::Operator, Category::ClientError, "code 10010"),
        ("err_401_10012.json", Act::Operator, Category::ClientError, "past 365 days"),
        ("err_403_user_agent.json", Act::Operator, Category::ClientError, "descriptive User-Agent"),
        ("err_404.json", Act::Split, Category::ClientError, "coin not found"),
        ("err_429.json", time, Category::RateLimit, "exceeded the Rate Limit"),
        ("err_429_cloudflare.html", time, Category::RateLimit, "Error 1015 You are being rate limited"),
        ("err_429_throttled.txt", time, Category::RateLimit, "Throttled"),
    ];
    for (name, act, category, word) in cases {
        for status in STATUSES {
            let world = always(Answer::status(status, fixture(name)));
            let error = ohlc(&world.run).await;
            assert_eq!((error.act, error.category), (act, category), "{name} under {status}: {error}");
            assert!(error.message.contains(word) && error.message.contains(&status.to_string()), "{error}");
            assert_eq!(world.transport.asked().len(), if error.is_transient() { 5 } else { 1 });
        }
    }
    let error = ohlc(&always(Answer::status(401, fixture("err_401_10012.json"))).run).await;
    assert!(error.help.unwrap().contains("the key is not at fault"));
    let error = ohlc(&always(Answer::status(200, fixture("err_404.json"))).run).await;
    assert!(error.message.starts_with("coin \"bitcoin\": GET https://api.coingecko.com/api/v3/coins/bitcoin/ohlc"), "{error}");
    let error = ohlc(&always(Answer::status(200, fixture("err_403_user_agent.json"))).run).await;
    assert!(error.help.unwrap().contains("http.user_agent"));
}

#[tokio::test]
async fn errors_without_a_code() {
    let cases = [
        (403, "<html>Error 1020 Access denied</html>", Act::Operator),
        (200, "<html>Error 1020 Access denied</html>", Act::Operator),
        (401, "{}", Act::Operator),
        (401, "<html>Unauthorized</html>", Act::Operator),
        (403, "<html>Forbidden</html>", Act::Split),
        (403, r#"{"error":"forbidden"}"#, Act::Split),
        (403, r#"{"status":{"error_code":403,"error_message":"Forbidden"}}"#, Act::Operator),
        (403, r#"{"status":{"error_code":10002,"error_message":"API Key Missing"}}"#, Act::Operator),
        (404, "", Act::Split),
        (400, r#"{"error":"Invalid days"}"#, Act::Split),
        (200, r#"{"error":"who knows"}"#, Act::Time { retry_after: None }),
        (200, r#"{"status":{"error_code":500,"error_message":"Internal"}}"#, Act::Time { retry_after: None }),
        (200, r#"{"status":{"error_code":404,"error_message":"coin not found"}}"#, Act::Split),
        (500, "", Act::Time { retry_after: None }),
    ];
    for (status, body, act) in cases {
        let error = ohlc(&always(Answer::status(status, body)).run).await;
        assert_eq!(error.act, act, "{status} {body}: {error}");
    }
}

#[tokio::test]
async fn a_refusal_is_waited_for_as_it_says() {
    let mut first = true;
    let world = world(move |_| {
        if std::mem::take(&mut first) {
            return Answer::status(429, fixture("err_429.json")).header("x-ratelimit-reset", "2026-05-19 15:39:20 +0000");
        }
        Answer::ok("[]")
    });
    let source = build(&CoingeckoOhlc, COINS).unwrap();
    read_split(source.as_ref(), &Split::new("bitcoin"), &world.run).await.unwrap();
    let waited = pipeline_contract::Clock::monotonic(&*world.clock);
    assert!(waited >= Duration::from_secs(120) && waited <= Duration::from_secs(121), "{waited:?}");
}

#[tokio::test]
async fn the_key_is_in_its_header_and_nowhere_else() {
    let pro = "base_url = \"https://pro-api.coingecko.com/api/v3\"\n";
    let cases = [
        ("", "x-cg-demo-api-key", "x-cg-pro-api-key"),
        (pro, "x-cg-pro-api-key", "x-cg-demo-api-key"),
        ("base_url = \"https://proxy.example/cg\"\nplan = \"pro\"\n", "x-cg-pro-api-key", "x-cg-demo-api-key"),
    ];
    for (root, header, other) in cases {
        for plugin in plugins() {
            let which = if plugin.describe().type_name == "coingecko_ohlc" { COINS } else { "top = 1\n" };
            let source = build(plugin.as_ref(), &format!("{root}{which}api_key = \"{KEY}\"")).unwrap();
            let world = always(Answer::status(400, format!("{{\"error\":\"bad key {KEY}\"}}")));
            let error = read_split(source.as_ref(), &Split::new("bitcoin"), &world.run).await.unwrap_err();
            assert!(!format!("{error:?}").contains(KEY), "{error:?}");
            source.probe(&world.run).await.unwrap_err();
            for request in world.transport.requests.lock().unwrap().iter() {
                assert_eq!(request.headers()[header], KEY);
                assert!(!request.headers().contains_key(other) && request.headers().contains_key("user-agent"));
                assert!(!request.uri().to_string().contains(KEY) && !format!("{request:?}").contains(KEY));
            }
        }
    }
    let world = always(Answer::ok("[]"));
    let source = build(&CoingeckoOhlc, &format!("{COINS}api_key = \"\"")).unwrap();
    read_split(source.as_ref(), &Split::new("bitcoin"), &world.run).await.unwrap();
    assert!(world.transport.requests.lock().unwrap()[0].headers().keys().all(|name| !name.as_str().starts_with("x-cg")));
}

#[tokio::test]
async fn the_limits_of_each_plan_on_coingeckos_own_hosts() {
    let limits = |per_minute, per_month| BudgetLimits { per_minute: std::num::NonZeroU32::new(per_minute), per_month };
    let key = format!("api_key = \"{KEY}\"\n");
    let cases = [
        (String::new(), limits(10, None)),
        (key.clone(), limits(25, Some(10_000))),
        (format!("{key}base_url = \"https://pro-api.coingecko.com/api/v3\"\n"), limits(300, None)),
        (format!("{key}base_url = \"https://proxy.example/api/v3\"\n"), limits(0, None)),
        ("base_url = \"http://127.0.0.1:9\"\n".to_owned(), limits(0, None)),
        (format!("{key}http = {{ requests_per_minute = 5 }}\n"), limits(5, Some(10_000))),
        ("base_url = \"http://127.0.0.1:9\"\nhttp = { requests_per_month = 7 }\n".to_owned(), limits(0, Some(7))),
    ];
    for (toml, expected) in cases {
        let mut world = always(Answer::ok("[]"));
        let budget = Arc::new(TestBudget::default());
        world.run.ports.budget = budget.clone();
        let source = build(&CoingeckoOhlc, &format!("{toml}{COINS}")).unwrap();
        read_split(source.as_ref(), &Split::new("bitcoin"), &world.run).await.unwrap();
        assert_eq!(budget.requests.lock().unwrap()[0].1, expected, "{toml}");
    }
}

#[tokio::test]
async fn the_probe_is_a_ping() {
    for (plugin, toml) in [(&CoingeckoOhlc as &dyn Plugin, COINS), (&CoingeckoMarkets, "top = 1")] {
        let world = always(Answer::ok(fixture("ping.json")));
        build(plugin, toml).unwrap().probe(&world.run).await.unwrap();
        assert_eq!(world.transport.asked(), ["/api/v3/ping"]);
    }
}

/// The faults of a config as `text under the caret: message`.
fn faults(plugin: &dyn Plugin, toml: &str) -> Vec<String> {
    let faults = build(plugin, toml).err().unwrap_or_default();
    faults.iter().map(|fault| format!("{}: {}", &toml[fault.span.clone().unwrap()], fault.message)).collect()
}

#[test]
fn faults_point_at_their_place() {
    let key = format!("api_key = \"{KEY}\"\n");
    let cases = [
        ("coins = [\"a\", \"b\", \"a\"]".to_owned(), "\"a\": \"a\" is named twice"),
        ("coins = []".to_owned(), "[]: `coins` names no coin"),
        ("coins = [\"a\", \"\"]".to_owned(), "\"\": \"\" cannot be the id"),
        ("coins = [\"../x\"]".to_owned(), "\"../x\": "),
        ("coins = [\"a\"]\ntop = 3".to_owned(), "3: `top` and `coins` both"),
        ("top = 0".to_owned(), "0: `top`"),
        ("top = 5001".to_owned(), "5001: `top`"),
        ("interval = \"1h\"".to_owned(), "source \"coingecko_ohlc\" needs `top` or `coins`"),
        ("top = 1\ninterval = \"2h\"".to_owned(), "\"2h\": `interval`: expected \"30m\", \"1h\", \"4h\" or \"4d\""),
        ("top = 1\nvolume = true".to_owned(), "volume: source \"coingecko_ohlc\" has no key `volume`"),
        ("top = 1\nvolume_24h = true\ninterval = \"4h\"".to_owned(), "true: `volume_24h` goes with"),
        ("top = 1\nvs_currency = \"USD\"".to_owned(), "\"USD\": \"USD\" is not a currency"),
        ("top = 1\nbase_url = \"api.coingecko.com\"".to_owned(), "\"api.coingecko.com\": this is not a URL"),
        ("top = 1\nplan = \"demo\"".to_owned(), "\"demo\": this plan needs a key"),
        ("top = 1\nplan = \"gold\"".to_owned(), "\"gold\": `plan`: expected"),
        (format!("top = 1\n{key}plan = \"keyless\""), "\"keyless\": `plan` is \"keyless\", but"),
        (
            format!("top = 1\n{key}plan = \"pro\"\nbase_url = \"https://api.coingecko.com/api/v3\""),
            "\"https://api.coingecko.com/api/v3\": api.coingecko.com takes no pro keys",
        ),
        (format!("top = 1\n{key}plan = \"demo\"\nbase_url = \"https://pro-api.coingecko.com/api/v3\""), "takes pro keys alone"),
        (
            format!("top = 1\n{key}base_url = \"http://proxy.example\""),
            "\"http://proxy.example\": the key would be sent to proxy.example over plain http",
        ),
        ("top = 1\n[http]\nretries = 99".to_owned(), "`http.retries`"),
        ("top = 1\n[http]\nretrys = 9".to_owned(), "retrys: `http` in source \"coingecko_ohlc\" has no key `retrys`"),
    ];
    for (toml, expected) in &cases {
        let found = faults(&CoingeckoOhlc, toml);
        assert!(found.len() == 1 && found[0].contains(expected), "{toml}: {found:?}");
        assert!(!found[0].contains(KEY));
    }
    let markets = [
        ("ids = [\"a\", \"a\"]", "\"a\": \"a\" is named twice"),
        ("ids = []", "[]: `ids` names no coin"),
        ("top = 1\nids = [\"a\"]", "[\"a\"]: `top` and `ids`"),
        ("top = 1\nprice_change_percentage = [\"24\"]", "\"24\": `price_change_percentage` does not know"),
        ("top = 1\nprice_change_percentage = [\"1h\", \"1h\"]", "\"1h\": \"1h\" is named twice"),
    ];
    for (toml, expected) in markets {
        let found = faults(&CoingeckoMarkets, toml);
        assert!(found.len() == 1 && found[0].contains(expected), "{toml}: {found:?}");
    }
}

#[test]
fn faults_are_reported_together() {
    let toml = "coins = [\"a\", \"a\"]\ntop = 1\nvs_currency = \"\"\nbase_url = \"x\"\n";
    assert_eq!(faults(&CoingeckoOhlc, toml).len(), 4);
}

#[test]
fn a_key_may_go_over_plain_http_to_a_named_host() {
    let toml = format!("top = 1\napi_key = \"{KEY}\"\nbase_url = \"http://proxy.example\"\nhttp = {{ allow_insecure_key = [\"proxy.example\"] }}");
    assert!(build(&CoingeckoOhlc, &toml).is_ok());
}

#[test]
fn the_samples_work_and_every_option_is_described() {
    let types: Vec<_> = plugins().iter().map(|plugin| plugin.describe().type_name).collect();
    assert_eq!(types, ["coingecko_markets", "coingecko_ohlc"]);
    for plugin in plugins() {
        let described = plugin.describe();
        let body = described.sample.strip_prefix("[source]\n").unwrap().replace("${COINGECKO_API_KEY:-}", "");
        let body: String = body.lines().filter(|line| !line.starts_with("type ")).map(|line| format!("{line}\n")).collect();
        assert_eq!(faults(plugin.as_ref(), &body), [""; 0]);
        // What stands in comments works too.
        let all: String = body.lines().map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line))).collect();
        assert_eq!(faults(plugin.as_ref(), &all.replace("[source.http]", "[http]")), [""; 0]);
        let schema = (described.config)();
        let properties = schema.get("properties").unwrap().as_object().unwrap();
        for (name, property) in properties {
            assert!(property.get("description").is_some(), "{name}: {property}");
        }
        assert!(properties["http"].to_string().contains("requests_per_minute"));
    }
}

fn quick(plugin: &dyn Plugin, toml: &str, body: &[u8], status: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let source = build(plugin, &format!("{toml}\n[http]\nretries = 0\n")).unwrap();
    let world = always(Answer::status(status, body));
    runtime.block_on(async {
        if let Ok(splits) = source.splits(&world.run).await {
            for split in splits {
                let _ = read_split(source.as_ref(), &split, &world.run).await;
            }
        }
    });
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let stamp = prop_oneof![any::<i64>(), (0..60_i64).prop_map(|n| 1_779_120_000_000 + n * 1_800_000)];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        stamp.prop_map(Into::into),
        "[a-z_]{0,8}|error|status|id|total_volumes".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            proptest::collection::btree_map("id|error|status|error_code|error_message|total_volumes|roi|[a-z]{1,3}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_rows() -> impl Strategy<Value = serde_json::Value> {
    let row = (any_json(), any_json(), any_json(), any_json(), any_json()).prop_map(|(a, b, c, d, e)| serde_json::json!([a, b, c, d, e]));
    proptest::collection::vec(row, 0..12).prop_map(Into::into)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_body_makes_it_panic(bytes in any::<Vec<u8>>(), json in any_json(), rows in any_rows(), status in prop_oneof![Just(200_u16), 200_u16..600]) {
        for body in [bytes, json.to_string().into_bytes(), rows.to_string().into_bytes()] {
            quick(&CoingeckoOhlc, "top = 2", &body, status);
            quick(&CoingeckoOhlc, "coins = [\"a\"]\nvolume_24h = true", &body, status);
            quick(&CoingeckoOhlc, "coins = [\"a\"]\ninterval = \"4d\"", &body, status);
            quick(&CoingeckoMarkets, "top = 300\nprice_change_percentage = [\"1h\"]", &body, status);
            quick(&CoingeckoMarkets, "ids = [\"a\"]", &body, status);
        }
    }
}
