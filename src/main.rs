//! The program with its built-in plugins, one line each.

use std::process::ExitCode;
use std::sync::Arc;

use pipeline::cli::App;
use pipeline_contract::Transport;

#[cfg(all(feature = "jemalloc", any(target_os = "linux", target_os = "macos")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    #[cfg(all(feature = "jemalloc", any(target_os = "linux", target_os = "macos")))]
    give_back();
    let app = App::new(transport());
    #[cfg(feature = "triggers")]
    let app = app.with(pipeline_triggers::plugins());
    #[cfg(feature = "coingecko")]
    let app = app.with(pipeline_source_coingecko::plugins());
    #[cfg(feature = "file")]
    let app = app.with(pipeline_source_file::plugins());
    #[cfg(feature = "csv")]
    let app = app.with(pipeline_sink_csv::plugins());
    #[cfg(feature = "jsonl")]
    let app = app.with(pipeline_sink_jsonl::plugins());
    app.main()
}

#[cfg(feature = "coingecko")]
fn transport() -> Arc<dyn Transport> {
    Arc::new(pipeline_http::ReqwestTransport::default())
}

/// No built-in source speaks HTTP, so none is linked.
#[cfg(not(feature = "coingecko"))]
fn transport() -> Arc<dyn Transport> {
    Arc::new(pipeline::cli::NoTransport)
}

/// What was freed goes back to the system within a second, also while the process waits for its next tick. Where that cannot be set (there
/// are no such threads on musl) the process is only larger.
#[cfg(all(feature = "jemalloc", any(target_os = "linux", target_os = "macos")))]
fn give_back() {
    use tikv_jemalloc_ctl::{Access, AsName, background_thread};
    let set = |name: &'static [u8], value: isize| name.name().write(value);
    // Of what is there already, and of what is made later.
    for (name, ms) in [
        (&b"arena.0.dirty_decay_ms\0"[..], 1000),
        (b"arena.0.muzzy_decay_ms\0", 0),
        (b"arenas.dirty_decay_ms\0", 1000),
        (b"arenas.muzzy_decay_ms\0", 0),
    ] {
        let _ = set(name, ms);
    }
    let _ = background_thread::write(true);
}

#[cfg(all(test, feature = "jemalloc", any(target_os = "linux", target_os = "macos")))]
mod tests {
    use tikv_jemalloc_ctl::{Access, AsName, background_thread};

    /// `give_back` passes over what cannot be set, so a name that is wrong would be noticed nowhere else.
    #[test]
    fn the_allocator_knows_what_it_is_told() {
        super::give_back();
        let read = |name: &'static [u8]| -> isize { name.name().read().expect("it is known") };
        assert_eq!((read(b"arena.0.dirty_decay_ms\0"), read(b"arena.0.muzzy_decay_ms\0")), (1000, 0));
        assert_eq!((read(b"arenas.dirty_decay_ms\0"), read(b"arenas.muzzy_decay_ms\0")), (1000, 0));
        assert_eq!(background_thread::read(), Ok(cfg!(all(target_os = "linux", not(target_env = "musl")))));
    }
}
