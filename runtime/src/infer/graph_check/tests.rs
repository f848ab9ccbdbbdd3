use prost::Message;
use tract_onnx::pb;

use super::*;

fn node(op: &str, input: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: op.to_owned(),
        name: op.to_lowercase(),
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    }
}

fn value(name: &str) -> pb::ValueInfoProto {
    pb::ValueInfoProto { name: name.to_owned(), ..Default::default() }
}

fn integers(name: &str, values: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        data_type: pb::tensor_proto::DataType::Int64 as i32,
        dims: vec![values.len() as i64],
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..Default::default()
    }
}

/// y = x spread to the shape s.
fn graph() -> pb::GraphProto {
    pb::GraphProto {
        node: vec![node("Expand", &["x", "s"], "y")],
        initializer: vec![integers("s", &[2, 3])],
        input: vec![value("x")],
        output: vec![value("y")],
        ..Default::default()
    }
}

fn bytes(graph: pb::GraphProto) -> Vec<u8> {
    pb::ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec()
}

#[track_caller]
fn refused(edit: impl FnOnce(&mut pb::GraphProto), reason: &str) {
    let mut graph = graph();
    edit(&mut graph);
    let error = check("pool", &bytes(graph)).expect_err(reason).to_string();
    assert!(error.contains("'pool'") && error.contains(reason), "{error}");
}

#[test]
fn a_graph_is_refused_for_what_is_wrong_with_it() {
    check("pool", &bytes(graph())).expect("in order");
    refused(
        |g| g.initializer[0] = integers("s", &[1 << 20, 1 << 20]),
        "makes 1099511627776 values",
    );
    refused(|g| g.initializer[0].dims = vec![1 << 40], "holds 2 values");
    refused(|g| g.initializer[0].dims = vec![-2], "has the shape [-2]");
    refused(|g| g.initializer[0].dims = vec![i64::MAX, i64::MAX], "has the shape");
    refused(|g| g.initializer.clear(), "uses 's', which nothing");
    refused(|g| g.initializer[0].data_location = Some(1), "in another file");
    refused(|g| g.node[0].input[0] = "y".to_owned(), "uses 'y', which nothing before it");
    refused(|g| g.node.push(node("Relu", &["x"], "y")), "computes 'y' once more");
    refused(|g| g.output[0].name = "z".to_owned(), "nothing computes its output 'z'");
    let attribute = |edit: fn(&mut pb::AttributeProto)| {
        let mut attribute = pb::AttributeProto { name: "a".to_owned(), ..Default::default() };
        edit(&mut attribute);
        move |g: &mut pb::GraphProto| g.node[0].attribute.push(attribute)
    };
    refused(attribute(|a| a.g = Some(pb::GraphProto::default())), "a graph of its own");
    refused(attribute(|a| a.ints = vec![1, -(1 << 40)]), "is -1099511627776");
}

#[test]
fn axes_are_those_of_a_tensor() {
    let norm = |axis: i64| {
        let mut norm = node("LayerNormalization", &["x", "s"], "z");
        let attribute =
            pb::AttributeProto { name: "axis".to_owned(), i: axis, ..Default::default() };
        norm.attribute.push(attribute);
        move |g: &mut pb::GraphProto| g.node.push(norm)
    };
    let mut sound = graph();
    norm(-1)(&mut sound);
    check("pool", &bytes(sound)).expect("in order");
    refused(norm(-99), "is -99, which no tensor has");
    refused(norm(-3), "has axis -3, but a weight of 1 axes");
}

#[test]
fn parts_and_depth_are_counted_before_anything_is_made_of_them() {
    // A graph of empty nodes, two bytes each.
    let nodes = [0x0a, 0x00].repeat(1 << 19);
    let mut model = vec![0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut model);
    model.extend(nodes);
    let error = check("encoder", &model).expect_err("many").to_string();
    assert!(error.contains("parts"), "{error}");
    let mut deep = graph();
    for _ in 0..20 {
        let inner = pb::AttributeProto { g: Some(deep), ..Default::default() };
        let mut outer = node("If", &[], "y");
        outer.attribute.push(inner);
        deep = pb::GraphProto { node: vec![outer], ..Default::default() };
    }
    let error = check("encoder", &bytes(deep)).expect_err("deep").to_string();
    assert!(error.contains("deep"), "{error}");
    for noise in [&b"no graph at all"[..], &[], &[0x3a, 0xff], &[0xff; 40]] {
        check("encoder", noise).expect_err("no model");
    }
}
