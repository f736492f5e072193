//! What becomes of files that are bad, edited, added and removed; of budgets; of the end.

use std::time::Duration;

use serde_json::json;

use crate::served::{Served, recipe};
use crate::support::{On, Reply, Room, Server, assert_same_hours};

fn write(room: &Room, name: &str, text: &str) {
    room.write(&format!("pipelines/{name}.toml"), text);
}

fn broken(name: &str) -> String {
    recipe(name, "solana").toml().replace("every =", "evry =")
}

#[test]
fn a_broken_pipeline_and_a_failing_one_stop_no_other_and_each_is_followed_by_its_file() {
    let server = Server::start();
    server.fault(On::ohlc("dogecoin"), Reply::status(404, "{}"));
    let room = Room::new(&server);
    // No tick comes while the test goes on, whatever the hour.
    write(&room, "a", &recipe("a", "bitcoin").trigger("type = \"cron\"\nschedule = \"0 0 1 1 *\"").toml());
    write(&room, "b", &broken("b"));
    write(&room, "c", &recipe("c", "dogecoin").toml());
    room.write("pipelines/a.test.toml", "this is no pipeline");
    let mut served = Served::start(&room);
    served.wait_until_ready();
    served.wait_for_runs("a", 1);
    served.wait_for_runs("c", 1);

    let all = served.get("/health");
    assert_eq!((all.status, &all.json()["status"]), (503, &json!("unhealthy")));
    assert_eq!(all.json()["pipelines"].as_array().unwrap().len(), 3, "the tests of a pipeline are no pipeline");
    let ok = served.get("/health?pipeline=a");
    assert_eq!((ok.status, &ok.json()["status"]), (200, &json!("healthy")), "{ok:?}");
    let failing = served.get("/health?pipeline=c");
    assert_eq!((failing.status, &failing.json()["status"]), (200, &json!("degraded")), "{failing:?}");
    assert_eq!(served.get("/health?pipeline=b").status, 503);
    assert_eq!(
        served.reason("b"),
        "it does not run: error[E010]: trigger \"interval\" has no key `evry` --> pipelines/b.toml:5:1",
        "it says what check says"
    );
    served.get("/api/v1/pipelines/b").assert_problem(404, "pipeline-down", "/api/v1/pipelines/b", "did you mean `every`?");
    assert_eq!(served.said("pipelines/b.toml has errors, it does not run"), 1);
    assert_same_hours("a", &crate::support::room::parse_hours("a", room.read("data/a/bitcoin.csv").as_bytes()), &server.expected("bitcoin"));

    // Mended, and it runs; a new one is found.
    write(&room, "b", &recipe("b", "solana").toml());
    write(&room, "d", &recipe("d", "ethereum").toml());
    served.wait_for_runs("b", 1);
    served.wait_for_runs("d", 1);
    assert_eq!(served.health("b")["status"], "healthy");
    assert_eq!(served.health("d")["status"], "healthy");

    // A name that is taken is refused to the newcomer, and free when its bearer is gone. To move a file is no such thing.
    write(&room, "e", &recipe("d", "ripple").toml().replace("data/d", "data/e"));
    served.wait_for("the name is taken", |served| served.get("/health").body.contains("two pipelines are named"));
    assert_eq!(served.health("d")["status"], "healthy");
    std::fs::remove_file(room.path("pipelines/d.toml")).unwrap();
    served.wait_for("the old state does not fit what took the name", |served| served.reason("d").contains("does not fit pipelines/e.toml any more"));
    std::fs::remove_file(room.path("pipelines/e.toml")).unwrap();
    served.wait_for("it is gone", |served| served.get("/health?pipeline=d").status == 404);
    std::fs::rename(room.path("pipelines/a.toml"), room.path("pipelines/z.toml")).unwrap();
    served.wait_for("the file was moved", |served| served.get("/api/v1/pipelines/a").body.contains("pipelines/z.toml"));
    assert_eq!(server.asked("ohlc", "bitcoin").len(), 1, "it did not run anew for that");
    assert!(!served.get("/metrics").body.contains("pipeline=\"d\""), "its series are gone with it");
    assert!(served.end().success());
}

#[test]
fn a_bad_edit_or_one_that_does_not_fit_the_state_leaves_the_old_version_at_work_until_it_is_mended() {
    let server = Server::start();
    let room = Room::new(&server);
    let old = recipe("a", "bitcoin").trigger("type = \"interval\"\nevery = \"300ms\"").run("deadline = \"30s\"");
    write(&room, "a", &old.toml());
    let mut served = Served::start(&room);
    served.wait_for_runs("a", 1);
    let runs_on = |served: &mut Served, what: &str| {
        let before = server.count("ohlc");
        served.wait_for(what, |_| server.count("ohlc") >= before + 2);
    };

    write(&room, "a", &old.toml().replace("every =", "evry ="));
    let fault =
        "its file was changed and has errors, the old version goes on: error[E010]: trigger \"interval\" has no key `evry` --> pipelines/a.toml:5:1";
    served.wait_for("the fault is told", |served| served.get("/health").body.contains("has no key `evry`"));
    let reasons = served.health("a")["reasons"].clone();
    assert!(reasons.as_array().unwrap().iter().any(|reason| reason["message"].as_str().unwrap().starts_with(fault)), "{reasons}");
    runs_on(&mut served, "it runs after a bad edit");

    write(&room, "a", &old.toml().replace("data/a/", "data/elsewhere/"));
    served.wait_for("the misfit is told", |served| served.get("/api/v1/pipelines/a").body.contains("does not fit pipelines/a.toml any more"));
    runs_on(&mut served, "it runs after an edit that does not fit its state");
    assert!(!room.exists("data/elsewhere"), "nothing of the misfit ran");

    write(&room, "a", &old.toml().replace("[\"bitcoin\"]", "[\"bitcoin\", \"ethereum\"]"));
    served.wait_for("the good edit runs", |_| !server.asked("ohlc", "ethereum").is_empty());
    served.wait_for("nothing is wrong any more", |served| served.get("/api/v1/pipelines/a").json()["fault"].is_null());
    assert_eq!(served.said("was changed and has errors"), 2, "each fault is told once: {}", served.log());
    assert!(served.end().success());
}

#[test]
fn an_edit_waits_for_the_run_that_goes_on_and_cuts_nothing() {
    let server = Server::start();
    server.fault(On::ohlc("bitcoin").times(1), Reply::Late(std::time::Duration::from_secs(4)));
    let room = Room::new(&server);
    let old = recipe("a", "bitcoin").http("timeout = \"20s\"\nretries = 0\nrequests_per_minute = 100000");
    write(&room, "a", &old.toml());
    let mut served = Served::start(&room);
    served.wait_for("the run is under way", |_| server.count("ohlc") == 1);
    write(&room, "a", &old.toml().replace("[\"bitcoin\"]", "[\"ethereum\"]").replace("every = \"1h\"", "every = \"2h\""));
    served.wait_for("the edit is seen", |served| served.said("changed") == 1);
    assert_eq!(server.count("ohlc"), 1);
    served.wait_for_runs("a", 1);
    let runs = served.get("/api/v1/pipelines/a/runs").json();
    assert_eq!(runs["runs"].as_array().unwrap().last().unwrap()["status"], "ok", "{runs}");
    served.wait_for("the new version is there", |served| served.get("/api/v1/pipelines/a").body.contains("\"max_age_seconds\":2"));
    assert!(served.end().success());
}

#[test]
fn what_takes_the_name_or_the_place_of_another_waits_until_that_has_ended_its_run() {
    let server = Server::start();
    let late = || Reply::Late(std::time::Duration::from_secs(5));
    server.fault(On::ohlc("bitcoin").times(1), late()).fault(On::ohlc("ethereum").times(1), late());
    let room = Room::new(&server);
    let patient = |name: &str, coin: &str| recipe(name, coin).http("timeout = \"20s\"\nretries = 0\nrequests_per_minute = 100000").toml();
    write(&room, "a", &patient("a", "bitcoin"));
    write(&room, "b", &patient("b", "ethereum"));
    let mut served = Served::start(&room);
    served.wait_for("both runs are under way", |_| server.count("ohlc") == 2);
    // One gets a new name; another goes, and a file that writes to its place comes.
    write(&room, "a", &patient("c", "bitcoin"));
    std::fs::remove_file(room.path("pipelines/b.toml")).unwrap();
    write(&room, "d", &patient("b", "ethereum").replace("name = \"b\"", "name = \"d\""));
    served.wait_for("the newcomer is told of the place", |served| served.reason("d").contains("two pipelines write to data/b/{coin_id}.csv"));
    assert_eq!(server.count("ohlc"), 2, "neither has begun: {}", served.log());
    served.wait_for_runs("c", 1);
    served.wait_for_runs("d", 1);
    let lines = served.lines();
    let place = |what: &str, name: &str| {
        let of = |line: &serde_json::Value| line["pipeline"] == *name || line["span"]["pipeline"] == *name;
        lines.iter().position(|line| line["message"] == *what && of(line)).unwrap_or_else(|| panic!("{what} of {name}: {}", served.log()))
    };
    assert!(place("run finished", "a") < place("run started", "c"));
    assert!(place("run finished", "b") < place("run started", "d"));
    assert_eq!(served.get("/health?pipeline=a").status, 404);
}

#[test]
fn pipelines_with_one_host_and_key_share_its_budget() {
    let server = Server::start();
    let room = Room::new(&server);
    for (name, coin) in [("a", "bitcoin"), ("b", "ethereum")] {
        let one = recipe(name, coin).source(&format!("coins = [\"{coin}\"]\ninterval = \"1h\""));
        let one = one.sink(&format!("[sink]\ntype = \"csv\"\npath = \"data/{name}.csv\"\n"));
        write(&room, name, &one.http("timeout = \"1500ms\"\nretries = 0\nrequests_per_minute = 2").toml());
    }
    let mut served = Served::with(&room, &["-v"]);
    served.wait_for("one waits for the other's request", |served| served.said("waiting for the request budget") == 1);
    served.wait_for("the other is done", |served| {
        let all = served.get("/health").json();
        all["pipelines"].as_array().unwrap().iter().filter(|one| one["last_success"].is_string()).count() == 1
    });
    assert_eq!(server.count("ohlc"), 1, "a budget of each would have let both ask at once");
    assert!(served.end().success(), "what waits is let go");
}

#[test]
fn a_pipeline_without_ticks_is_shown_and_left_to_whoever_runs_it() {
    let server = Server::start();
    let room = Room::new(&server);
    write(&room, "a", &recipe("a", "bitcoin").trigger("type = \"manual\"").toml());
    let mut served = Served::start(&room);
    served.wait_until_ready();
    assert_eq!(served.health("a")["next_tick"], json!(null));
    assert_eq!(room.once("pipelines/a.toml").code, Some(0), "its state is free");
    assert!(served.end().success());
}

#[test]
fn one_whose_state_another_process_has_is_down_until_that_ends() {
    let server = Server::start();
    server.fault(On::ohlc("ethereum"), Reply::Silence);
    let room = Room::new(&server);
    write(&room, "a", &recipe("a", "bitcoin").toml());
    write(&room, "b", &recipe("b", "ethereum").http("timeout = \"60s\"\nretries = 0\nrequests_per_minute = 100000").toml());
    let mut holder = room.start(&["run", "pipelines/b.toml", "--once"]);
    // It asks when it has the lock.
    while server.count("ohlc") == 0 {
        assert!(holder.is_running());
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut served = Served::start(&room);
    served.wait_until_ready();
    served.wait_for_runs("a", 1);
    let why = served.reason("b");
    assert!(why.contains("it does not run: pipeline \"b\": .pipeline/b/lock is held by process"), "{why}");
    assert_eq!(served.get("/health").status, 503);
    server.behave();
    holder.kill();
    served.wait_for_runs("b", 1);
    assert_eq!(served.get("/health").status, 200);
}

#[test]
fn sigterm_lets_what_is_read_be_stored_and_the_next_start_goes_on() {
    let server = Server::start();
    server.fault(On::ohlc("ethereum"), Reply::Silence);
    let room = Room::new(&server);
    let two = recipe("a", "bitcoin").source("coins = [\"bitcoin\", \"ethereum\"]\ninterval = \"1h\"\nvolume_24h = true");
    let two = two.http("timeout = \"60s\"\nretries = 0\nrequests_per_minute = 100000").run("concurrency = 1");
    write(&room, "a", &two.toml());
    let mut served = Served::start(&room);
    served.wait_for("the second split hangs", |_| server.asked("ohlc", "ethereum").len() == 1);
    served.wait_for("the first is told as read", |served| served.get("/api/v1/pipelines/a").json()["run"]["splits_done"] == 1);
    assert_eq!(served.end().code(), Some(0));
    assert!(room.exists("data/a/bitcoin.csv"), "what was read is stored");
    server.behave();
    let mut served = Served::start(&room);
    served.wait_for_runs("a", 1);
    assert_eq!(server.asked("ohlc", "bitcoin").len(), 1, "the same run went on where it was stopped");
    assert_eq!(served.health("a")["last_run"]["status"], "ok");
}

#[test]
fn a_port_in_use_and_a_folder_that_is_not_there_are_said_at_once() {
    let server = Server::start();
    let room = Room::new(&server);
    write(&room, "a", &recipe("a", "bitcoin").toml());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let outcome = room.pipeline(&["serve", "--listen", &address]);
    assert_eq!(outcome.code, Some(2), "{outcome}");
    assert!(outcome.stderr.contains(&format!("error: cannot listen on {address}: ")), "{outcome}");
    assert!(outcome.stderr.contains("another program listens there: end it, or choose another port with --listen"), "{outcome}");
    let outcome = room.pipeline(&["serve", "nowhere", "--listen", "127.0.0.1:0"]);
    assert_eq!((outcome.code, outcome.stderr.trim()), (Some(2), "error: nowhere: there is no such file or folder"));
    assert_eq!(server.seen().len(), 0, "nothing ran");
}

#[test]
fn an_empty_folder_waits_for_its_first_pipeline() {
    let server = Server::start();
    let room = Room::new(&server);
    std::fs::create_dir(room.path("pipelines")).unwrap();
    let mut served = Served::start(&room);
    served.wait_until_ready();
    assert_eq!(served.get("/health").json()["status"], "healthy");
    write(&room, "a", &recipe("a", "bitcoin").toml());
    served.wait_for_runs("a", 1);
}
