//! The live page's interface through the programs: `sfm-stream --web` with a recording and with
//! `sfm-sim`'s sensors, asked over plain sockets. The page itself is driven in Chromium by
//! `tests/foreign/web_page.py`.

#[path = "../live/run.rs"]
#[allow(dead_code)]
mod run;

mod access;
mod client;
mod crowd;
mod http;
mod live;
mod replay;
