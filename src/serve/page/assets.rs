//! Style, script and icon: part of the program, with a hash of their content in the name, so that browsers may keep them for ever.

use std::sync::LazyLock;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file and what it is called.
pub(super) struct Asset {
    /// Its name with the hash, as `style-0123456789abcdef.css`.
    file: String,
    content_type: &'static str,
    text: &'static str,
}

impl Asset {
    fn new(stem: &str, extension: &str, content_type: &'static str, text: &'static str) -> Self {
        Self { file: format!("{stem}-{:016x}.{extension}", xxhash_rust::xxh3::xxh3_64(text.as_bytes())), content_type, text }
    }

    /// Where it is.
    pub(super) fn href(&self) -> String {
        format!("/static/{}", self.file)
    }
}

pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| Asset::new("style", "css", "text/css; charset=utf-8", include_str!("style.css")));
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| Asset::new("live", "js", "text/javascript; charset=utf-8", include_str!("live.js")));
pub(super) static ICON: LazyLock<Asset> = LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("icon.svg")));

/// The file of this name; an older one is not there any more.
pub(super) fn answer(file: &str) -> Response {
    match [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.file == file) {
        Some(asset) => {
            let headers = [(header::CONTENT_TYPE, asset.content_type), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
            (headers, asset.text).into_response()
        }
        None => (StatusCode::NOT_FOUND, "no such file\n").into_response(),
    }
}
