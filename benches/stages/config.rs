//! A shipped pipeline file: from text to a definition, and to a plan. What `check` costs without its start and its files.

use std::path::Path;

use divan::Bencher;
use pipeline::config::{Env, SourceFile, load, parse};
use pipeline::plan::{Registry, plan};

fn shipped() -> std::sync::Arc<SourceFile> {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/crypto.toml")).unwrap_or_else(|fault| panic!("{fault:?}"))
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.add(pipeline_triggers::plugins());
    registry.add(pipeline_source_coingecko::plugins());
    registry.add(pipeline_sink_csv::plugins());
    registry
}

#[divan::bench]
fn parse_crypto(bencher: Bencher<'_, '_>) {
    let (file, env) = (shipped(), Env::default());
    assert!(parse(&file, &env).1.is_empty());
    bencher.bench_local(|| parse(&file, &env));
}

#[divan::bench]
fn parse_and_plan_crypto(bencher: Bencher<'_, '_>) {
    let (file, env, registry) = (shipped(), Env::default(), registry());
    let planned = || plan(&parse(&file, &env).0, &registry).0;
    assert!(planned().is_some());
    bencher.bench_local(planned);
}

/// All plugins asked for their types and options: once a start.
#[divan::bench]
fn plugins_listed() -> Registry {
    registry()
}
