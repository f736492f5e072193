//! The files that run `pipeline serve` elsewhere, checked by those who will read them: systemd, Prometheus, Docker, Grafana.
//!
//! `tests/setup.sh` installs the programs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What a program says of files, and whether it is content with them.
fn ask(program: &str, args: &[&str]) -> (bool, String) {
    let local = root().join("target/tools/bin").join(program);
    let program = if local.exists() { local } else { PathBuf::from(program) };
    let output = Command::new(&program).args(args).current_dir(root()).output();
    let output = output.unwrap_or_else(|error| panic!("{} cannot be started: {error}: run tests/setup.sh first", program.display()));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

fn content(program: &str, args: &[&str]) {
    let (good, text) = ask(program, args);
    assert!(good, "{program} {args:?}:\n{text}");
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn prometheus_takes_the_configuration_and_the_rules_and_they_fire_when_they_should() {
    content("promtool", &["check", "config", "docs/prometheus/prometheus.yml"]);
    content("promtool", &["test", "rules", "docs/prometheus/alerts.test.yml"]);
}

#[test]
fn every_alert_has_a_test() {
    let named = |text: &str, key: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key).map(|name| name.trim().to_owned())).collect()
    };
    let tested = named(&read("docs/prometheus/alerts.test.yml"), "alertname:");
    let alerts = named(&read("docs/prometheus/alerts.yml"), "alert:");
    assert_eq!(alerts, tested);
}

/// All `expr`s of the dashboard.
fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(|expr| expr.as_str()).map(str::to_owned));
            fields.values().for_each(|value| expressions(value, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_prometheus_what_it_understands() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("docs/grafana/pipeline.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 10, "{found:?}");
    // As rules, since that is what promtool reads. Grafana fills in its own variables before it asks.
    let rules: Vec<_> = found
        .iter()
        .enumerate()
        .map(|(n, expr)| serde_json::json!({"record": format!("panel:{n}"), "expr": expr.replace("$__rate_interval", "5m").replace("$pipeline", ".*")}))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.yml");
    std::fs::write(&file, serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    content("promtool", &["check", "rules", file.to_str().unwrap()]);
}

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    let unit = "deploy/pipeline.service";
    let (_, text) = ask("systemd-analyze", &["verify", unit]);
    // The program is not installed here; nothing else may be said.
    let faults: Vec<&str> = text.lines().filter(|line| line.contains("pipeline.service") && !line.contains("is not executable")).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    content("systemd-analyze", &["security", "--offline=true", "--threshold=15", unit]);
}

#[test]
fn linters_of_docker_files_find_nothing() {
    content("hadolint", &["deploy/Dockerfile"]);
    content("check-jsonschema", &["--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"]);
}

#[test]
fn the_image_and_the_service_start_what_the_program_knows() {
    let unit = read("deploy/pipeline.service");
    let unit = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/pipeline ")).unwrap();
    let image = read("deploy/Dockerfile");
    let image: Vec<String> = serde_json::from_str(image.lines().find_map(|line| line.strip_prefix("CMD ")).unwrap()).unwrap();
    for args in [unit.split(' ').map(str::to_owned).collect(), image] {
        let output = Command::new(env!("CARGO_BIN_EXE_pipeline")).args(&args).arg("--help").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
