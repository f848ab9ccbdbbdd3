//! Any bytes as an ONNX graph, up to where its protocol buffers are decoded: parts are counted
//! without panic, without recursion and in time that grows with the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../runtime/src/infer/graph_check/wire.rs"]
mod wire;

fuzz_target!(|bytes: &[u8]| {
    if let Err(reason) = wire::check(bytes) {
        assert!(!reason.contains(char::is_control), "{reason:?}");
    }
});
