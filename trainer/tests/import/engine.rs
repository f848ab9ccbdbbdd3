//! Exported graphs in tract: one plan per concrete shape, as the runtime runs them.

use burn::backend::Flex;
use burn::prelude::{Tensor as BurnTensor, TensorData};
use tract_onnx::prelude::*;

use crate::data::Device;

/// One input of a graph: its name, shape and values.
pub enum Input<'a> {
    Float(&'a str, Vec<usize>, Vec<f32>),
    Int(&'a str, Vec<i64>),
}

/// A float input from a burn tensor.
pub fn input<'a, const D: usize>(name: &'a str, tensor: &BurnTensor<Flex, D>) -> Input<'a> {
    Input::Float(name, tensor.dims().to_vec(), crate::data::values(tensor))
}

/// Runs a graph with inputs in any order; returns the outputs by name.
pub fn run(onnx: &[u8], inputs: &[Input]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut model = tract_onnx::onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true)
        .model_for_read(&mut std::io::Cursor::new(onnx))
        .unwrap();
    let names = |outlets: &[OutletId], model: &InferenceModel| -> Vec<String> {
        outlets
            .iter()
            .map(|o| model.outlet_label(*o).unwrap_or(&model.node(o.node).name).into())
            .collect()
    };
    let input_names = names(model.input_outlets().unwrap(), &model);
    let output_names = names(model.output_outlets().unwrap(), &model);
    assert_eq!(input_names.len(), inputs.len());
    let mut tensors = tvec!();
    for (index, wanted) in input_names.iter().enumerate() {
        let tensor = inputs.iter().find_map(|input| input.tensor(wanted)).unwrap();
        let fact = InferenceFact::dt_shape(tensor.datum_type(), tensor.shape());
        model.set_input_fact(index, fact).unwrap();
        tensors.push(tensor.into());
    }
    let plan = model.into_optimized().unwrap().into_runnable().unwrap();
    let outputs = plan.run(tensors).unwrap();
    output_names
        .into_iter()
        .zip(outputs)
        .map(|(name, tensor)| {
            let values = tensor.to_plain_array_view::<f32>().unwrap().iter().copied().collect();
            (name, tensor.shape().to_vec(), values)
        })
        .collect()
}

/// The first output of a graph as a burn tensor.
pub fn first<const D: usize>(onnx: &[u8], inputs: &[Input]) -> BurnTensor<Flex, D> {
    let (_, shape, values) = run(onnx, inputs).swap_remove(0);
    BurnTensor::from_data(TensorData::new(values, shape), &Device::default())
}

impl Input<'_> {
    fn tensor(&self, wanted: &str) -> Option<Tensor> {
        match self {
            Input::Float(name, shape, values) if *name == wanted => {
                Some(Tensor::from_shape(shape, values).unwrap())
            }
            Input::Int(name, values) if *name == wanted => {
                Some(Tensor::from_shape(&[values.len()], values).unwrap())
            }
            _ => None,
        }
    }
}
