//! The program with its built-in plugins, one line each.

use std::process::ExitCode;
use std::sync::Arc;

use pipeline::cli::App;
use pipeline_contract::Transport;

fn main() -> ExitCode {
    let app = App::new(transport());
    #[cfg(all(feature = "jemalloc", any(target_os = "linux", target_os = "macos")))]
    let app = {
        allocator::set_up();
        app.on_thread(allocator::of_thread)
    };
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

/// The allocator: what was freed goes back to the system within a second, also while the process waits for its next tick.
///
/// Where something cannot be set (musl has no such threads) the process is only larger.
#[cfg(all(feature = "jemalloc", any(target_os = "linux", target_os = "macos")))]
mod allocator {
    use tikv_jemalloc_ctl::{Access, AsName, background_thread};

    #[global_allocator]
    static JEMALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    /// How long what was freed stays: of what is there already, and of what is made later.
    pub(super) const DECAY: [(&[u8], isize); 4] =
        [(b"arena.0.dirty_decay_ms\0", 1000), (b"arena.0.muzzy_decay_ms\0", 0), (b"arenas.dirty_decay_ms\0", 1000), (b"arenas.muzzy_decay_ms\0", 0)];
    /// The longest piece that a thread keeps for itself when it is freed.
    pub(super) const KEPT: (&[u8], usize) = (b"thread.tcache.max\0", 128);

    /// The heap of all threads. Rows are made on one thread and let go on another: a heap for each keeps what no other can use, and half as much
    /// again was the peak of a long run.
    pub(super) const ARENA: (&[u8], u32) = (b"thread.arena\0", 0);

    /// Settings of the process.
    pub(super) fn set_up() {
        for (name, ms) in DECAY {
            let _ = name.name().write(ms);
        }
        let _ = background_thread::write(true);
        of_thread();
    }

    /// Settings of a thread. Threads that wait for hours must not keep much; and what is kept scattered holds whole pages.
    pub(super) fn of_thread() {
        let _ = ARENA.0.name().write(ARENA.1);
        let _ = KEPT.0.name().write(KEPT.1);
    }
}

#[cfg(all(test, feature = "jemalloc", any(target_os = "linux", target_os = "macos")))]
mod tests {
    use tikv_jemalloc_ctl::{Access, AsName, background_thread};

    use super::allocator::{ARENA, DECAY, KEPT, of_thread, set_up};

    /// What cannot be set is passed over, so a name that is wrong would be noticed nowhere else.
    #[test]
    fn the_allocator_does_what_it_is_told() {
        set_up();
        for (name, ms) in DECAY {
            assert_eq!(name.name().read(), Ok(ms));
        }
        assert_eq!(background_thread::read(), Ok(cfg!(all(target_os = "linux", not(target_env = "musl")))));
        let of_this_thread = || -> (u32, usize) { (ARENA.0.name().read().unwrap(), KEPT.0.name().read().unwrap()) };
        assert_eq!(of_this_thread(), (ARENA.1, KEPT.1));
        let other = std::thread::spawn(move || {
            let before = of_this_thread();
            of_thread();
            (before, of_this_thread())
        });
        let (before, after) = other.join().unwrap();
        assert_ne!(before, (ARENA.1, KEPT.1), "each thread has to be told");
        assert_eq!(after, (ARENA.1, KEPT.1));
    }
}
