//! An engine that breaks down in the night: nothing is staged any more, everything is recorded.

use prost::Message;
use sfm_models::Bundle;
use sfm_models::bundle::BundleWriter;
use sfm_runtime::source::Source;
use sfm_runtime::source::edf::EdfSource;
use tract_onnx::pb::{self, tensor_proto::DataType};

use crate::run::{free_tcp, json, logs, recording, sim, stream, turn, wait};

/// `name`, of one number or a list of them.
fn floats(name: &str, dims: &[i64], values: &[f32]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        data_type: DataType::Float as i32,
        dims: dims.to_vec(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn node(op: &str, input: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        name: output.to_owned(),
        op_type: op.to_owned(),
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    }
}

/// The repository's bundle with an encoder that asks for the sixth of two numbers as soon as a token
/// is absent: never when it is tried before a session, always when the first epoch is in.
fn breaking_bundle() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/mini/mini.sfm");
    let bundle = Bundle::open(path).expect("opens");
    let onnx = bundle.graph("encoder").expect("a graph");
    let mut model = pb::ModelProto::decode(onnx).expect("ONNX");
    let graph = model.graph.as_mut().expect("a graph");
    for name in graph.node.iter_mut().flat_map(|node| &mut node.output) {
        if name == "window" {
            *name = "window.sound".to_owned();
        }
    }
    graph.initializer.extend([
        floats("two", &[2], &[0.0, 0.0]),
        floats("five", &[], &[5.0]),
        floats("minus_four", &[], &[-4.0]),
    ]);
    let mut least = node("ReduceMin", &["present"], "least");
    let attribute = |name: &str, value: i64| pb::AttributeProto {
        name: name.to_owned(),
        i: value,
        r#type: pb::attribute_proto::AttributeType::Int as i32,
        ..Default::default()
    };
    least.attribute.push(attribute("keepdims", 0));
    let mut index = node("Cast", &["index.float"], "index");
    index.attribute.push(attribute("to", i64::from(DataType::Int64 as i32)));
    graph.node.extend([
        least,
        node("Mul", &["least", "minus_four"], "scaled"),
        node("Add", &["scaled", "five"], "index.float"),
        index,
        node("Gather", &["two", "index"], "nothing"),
        node("Add", &["window.sound", "nothing"], "window"),
    ]);
    let mut writer = BundleWriter::new();
    for file in bundle.manifest().files.keys() {
        writer.file(file, bundle.file(file).expect("a file").to_vec());
    }
    writer.graph("encoder", model.encode_to_vec());
    writer.to_bytes(bundle.manifest().clone()).expect("a bundle")
}

#[test]
fn a_session_whose_engine_breaks_down_is_recorded_to_its_end() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    std::fs::write(dir.join("breaking.sfm"), breaking_bundle()).expect("written");
    let (minutes, port) = (12, free_tcp());
    let host = stream(
        dir,
        &format!("--tcp listen:{port} --speed 60 --out out --backend tract --bundle breaking.sfm"),
    );
    let sensors =
        sim(dir, &recording(minutes), &format!("--tcp {port} --speed 60 --report sim.json"));
    assert_eq!(wait(sensors, dir), 0, "{}", logs(dir));
    assert_eq!(wait(host, dir), 5, "{}", logs(dir));
    let said = logs(dir);
    assert!(!said.contains("panicked"), "{said}");
    assert!(said.contains("nothing more is staged, recording goes on"), "{said}");
    let last = said.lines().rfind(|line| line.starts_with("sfm-stream: ")).expect("a reason");
    assert!(last.contains("graph 'encoder'") && last.contains("recover out"), "{last}");
    let source = EdfSource::open(&dir.join("out/recording.edf")).expect("the recording opens");
    let recorded_s = source.info().duration_s.expect("a length");
    assert!(recorded_s >= minutes as f64 * 60.0 - 2.0, "{recorded_s} s:\n{said}");
    assert_eq!(json(&dir.join("out/session.json"))["ended"], false, "it is to be recovered");
}
