//! Graphs that no exporter writes: a bundle either works or is refused with exit code 4 and the
//! graph's name. No panic of an engine reaches the user, and none of these takes memory or time
//! without limit (see [`crate::run`]).

use prost::Message;
use sfm_models::Bundle;
use sfm_models::bundle::BundleWriter;
use tract_onnx::pb::{self, tensor_proto::DataType};

use crate::recordings::noise;
use crate::run::{Bench, Run, data};

fn mini() -> Bundle {
    Bundle::open(data("mini/mini.sfm")).expect("opens")
}

fn graph_of(bundle: &Bundle, name: &str) -> pb::ModelProto {
    pb::ModelProto::decode(bundle.graph(name).expect("a graph")).expect("ONNX")
}

/// The bundle with the graph `name` changed.
fn changed(bundle: &Bundle, name: &str, edit: impl FnOnce(&mut pb::GraphProto)) -> Vec<u8> {
    let mut model = graph_of(bundle, name);
    edit(model.graph.as_mut().expect("a graph"));
    let mut writer = BundleWriter::new();
    for file in bundle.manifest().files.keys() {
        writer.file(file, bundle.file(file).expect("a file").to_vec());
    }
    writer.graph(name, model.encode_to_vec());
    writer.to_bytes(bundle.manifest().clone()).expect("a bundle")
}

/// Verifies the changed bundle: it works, or is refused by the graph's name.
fn verified(bench: &Bench, name: &str, what: &str, bytes: Vec<u8>) -> Run {
    bench.file("odd.sfm", bytes);
    let run = bench.run("bundle verify odd.sfm");
    if run.code != 0 {
        let line = run.refused(4);
        assert!(
            line.starts_with("odd.sfm: ") && line.contains(&format!("'{name}")),
            "{what}: {line}"
        );
    }
    run
}

fn attribute<'g>(
    graph: &'g mut pb::GraphProto,
    op: &str,
    name: &str,
) -> &'g mut pb::AttributeProto {
    let node = graph.node.iter_mut().find(|node| node.op_type == op).expect(op);
    node.attribute.iter_mut().find(|attribute| attribute.name == name).expect(name)
}

fn weights(graph: &mut pb::GraphProto) -> &mut pb::TensorProto {
    let floats = |tensor: &&mut pb::TensorProto| {
        tensor.data_type == DataType::Float as i32 && tensor.dims.len() == 2
    };
    graph.initializer.iter_mut().find(floats).expect("weights")
}

#[test]
fn a_transpose_out_of_range_is_4_wherever_it_is_met() {
    let (bench, bundle) = (Bench::new(), mini());
    for name in ["encoder", "staging.layer0.attend"] {
        for perm in [vec![0, 2, 1, 9], vec![0, 0, 0, 0], vec![-1, -2, -3, -4], vec![1], vec![]] {
            let what = format!("{name} {perm:?}");
            let bytes =
                changed(&bundle, name, |graph| attribute(graph, "Transpose", "perm").ints = perm);
            assert_eq!(verified(&bench, name, &what, bytes).code, 4, "{what}");
            let run = bench.replay(&data("edf/short_psg.edf"), "--bundle odd.sfm");
            assert_eq!(run.code, 4, "{what}: {run:#?}");
            let last = run.stderr.lines().last().expect("the reason");
            assert!(last.contains(&format!("graph '{name}'")), "{what}: {last}");
        }
    }
}

type Edit = fn(&mut pb::GraphProto);

/// Changes that no engine can make sense of.
const REFUSED: [(&str, Edit); 8] = [
    ("a weight is missing", |graph| drop(graph.initializer.pop())),
    ("a node is missing", |graph| drop(graph.node.remove(0))),
    ("a weight of a huge shape", |graph| weights(graph).dims = vec![1 << 30, 1 << 30]),
    ("a weight of an impossible shape", |graph| weights(graph).dims = vec![-1, 4]),
    ("a weight in another file", |graph| weights(graph).data_location = Some(1)),
    ("a cycle", |graph| {
        let last = graph.node.last().expect("nodes").output[0].clone();
        graph.node[0].input[0] = last;
    }),
    ("an output that nothing computes", |graph| graph.output[0].name = "nothing".to_owned()),
    ("an operator that does not exist", |graph| graph.node[0].op_type = "Dream".to_owned()),
];

#[test]
fn what_no_engine_can_make_sense_of_is_4() {
    let (bench, bundle) = (Bench::new(), mini());
    for name in ["pool", "encoder", "staging.pool", "risk.rnn"] {
        for (what, edit) in REFUSED {
            let run = verified(&bench, name, what, changed(&bundle, name, edit));
            assert_eq!(run.code, 4, "{name}: {what}");
        }
    }
}

#[test]
fn a_result_of_an_absurd_size_is_4() {
    let (bench, bundle) = (Bench::new(), mini());
    let bytes = changed(&bundle, "pool", |graph| {
        let sizes: Vec<u8> = [1_i64 << 20, 1 << 20].iter().flat_map(|n| n.to_le_bytes()).collect();
        graph.initializer.push(pb::TensorProto {
            name: "sizes".to_owned(),
            data_type: DataType::Int64 as i32,
            dims: vec![2],
            raw_data: sizes,
            ..Default::default()
        });
        graph.node.push(pb::NodeProto {
            op_type: "ConstantOfShape".to_owned(),
            input: vec!["sizes".to_owned()],
            output: vec!["huge".to_owned()],
            ..Default::default()
        });
    });
    assert_eq!(verified(&bench, "pool", "huge", bytes).code, 4);
}

/// One change at random of a node, an attribute or a weight; the same on every machine.
fn damage(graph: &mut pb::GraphProto, seed: usize) -> String {
    let draw = |salt: usize, below: usize| noise(seed, salt).unsigned_abs() as usize % below.max(1);
    let odd = [99, -99, -1, 0, 7, 1 << 19, i64::MIN, i64::MAX][draw(0, 8)];
    let node = draw(1, graph.node.len());
    match draw(2, 8) {
        0 => {
            let all: Vec<usize> = (0..graph.node.len()).collect();
            let with: Vec<_> =
                all.into_iter().filter(|&n| !graph.node[n].attribute.is_empty()).collect();
            let Some(&at) = with.get(draw(3, with.len())) else { return "nothing".to_owned() };
            let attributes = &mut graph.node[at].attribute;
            let place = draw(4, attributes.len());
            let attribute = &mut attributes[place];
            attribute.i = odd;
            attribute.f = f32::NAN;
            attribute.ints.iter_mut().for_each(|number| *number = odd);
            format!("attribute {} of node {at} is {odd}", attribute.name)
        }
        1 => {
            let tensor = draw(3, graph.initializer.len());
            let Some(tensor) = graph.initializer.get_mut(tensor) else {
                return "nothing".to_owned();
            };
            if tensor.data_type == DataType::Int64 as i32 {
                tensor.raw_data.chunks_mut(8).for_each(|n| n.copy_from_slice(&odd.to_le_bytes()));
            } else {
                tensor.dims.reverse();
            }
            format!("weight {} is odd", tensor.name)
        }
        2 => {
            graph.node[node].input.reverse();
            format!("inputs of node {node} swapped")
        }
        3 => {
            drop(graph.node[node].input.pop());
            format!("node {node} lacks an input")
        }
        4 => {
            let ops =
                ["Transpose", "Concat", "Softmax", "LSTM", "Conv", "Reshape", "Split", "Slice"];
            graph.node[node].op_type = ops[draw(3, ops.len())].to_owned();
            format!("node {node} is a {}", graph.node[node].op_type)
        }
        5 => {
            graph.node[node].attribute.clear();
            format!("node {node} has no attributes")
        }
        6 => {
            let tensor = draw(3, graph.initializer.len());
            let Some(tensor) = graph.initializer.get_mut(tensor) else {
                return "nothing".to_owned();
            };
            tensor.data_type =
                [DataType::Int32, DataType::Float, DataType::Bool][draw(4, 3)] as i32;
            format!("weight {} is of another type", tensor.name)
        }
        _ => {
            graph.output.reverse();
            graph.input.reverse();
            "inputs and outputs swapped".to_owned()
        }
    }
}

#[test]
fn any_damage_works_or_is_4() {
    let (bench, bundle) = (Bench::new(), mini());
    let graphs =
        ["pool", "encoder", "staging.pool", "staging.layer0.attend", "staging.rnn", "risk.rnn"];
    let (mut works, mut refused) = (0, 0);
    for seed in 0..60 {
        let name = graphs[seed % graphs.len()];
        let mut what = String::new();
        let bytes = changed(&bundle, name, |graph| what = damage(graph, seed));
        match verified(&bench, name, &format!("{seed}: {what}"), bytes).code {
            0 => works += 1,
            _ => refused += 1,
        }
    }
    assert!(refused > 20, "{works} work, {refused} are refused");
}
