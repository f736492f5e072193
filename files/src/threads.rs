//! Work that takes long, on a runtime that has tasks to do meanwhile.

use tokio::runtime::{Handle, RuntimeFlavor};

/// The runtime that the caller is on, if it has several threads: then others can go on with its tasks.
pub fn several() -> Option<Handle> {
    Handle::try_current().ok().filter(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Does work that keeps its thread (for the disk, say) while the runtime's other tasks go on, where it has several threads.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match several() {
        Some(_) => tokio::task::block_in_place(work),
        None => work(),
    }
}
