//! The page's files, which are part of the program: nothing is fetched from elsewhere. They hold
//! nothing of any bed, so that they are served before a token is shown.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use super::server::Served;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Address, kind, content.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", STYLE, include_str!("page/style.css")),
    ("/app.js", SCRIPT, include_str!("page/app.js")),
    ("/api.js", SCRIPT, include_str!("page/api.js")),
    ("/overview.js", SCRIPT, include_str!("page/overview.js")),
    ("/bed.js", SCRIPT, include_str!("page/bed.js")),
    ("/panels.js", SCRIPT, include_str!("page/panels.js")),
    ("/hypnogram.js", SCRIPT, include_str!("page/hypnogram.js")),
    ("/signals.js", SCRIPT, include_str!("page/signals.js")),
    ("/words.js", SCRIPT, include_str!("page/words.js")),
    ("/api/openapi.json", "application/json", include_str!("openapi.json")),
];

pub(super) fn routes() -> Router<Arc<Served>> {
    FILES.iter().fold(Router::new(), |router, &(address, kind, content)| {
        let kind = HeaderValue::from_static(kind);
        router.route(address, get(async move || ([(CONTENT_TYPE, kind)], content)))
    })
}
