//! The pure-Rust engine. tract wants concrete shapes, so a session keeps one optimized plan per
//! set of input shapes and callers use few of them: row-wise graphs run in fixed blocks, windows
//! are padded to a few lengths. Plans are shared by threads, each run has its own state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::*;

use super::{Fault, InferError, Input, Session, copy_output, guarded};

const ENGINE: &str = "tract";

/// A graph in tract.
pub struct TractSession {
    name: String,
    model: InferenceModel,
    plans: Mutex<HashMap<Vec<Vec<usize>>, Arc<TypedRunnableModel>>>,
}

impl TractSession {
    /// Parses the ONNX file `onnx` of graph `name`.
    ///
    /// # Errors
    /// [`InferError`] if tract cannot parse it.
    pub fn load(name: &str, onnx: &[u8]) -> Result<Self, InferError> {
        let model = guarded(name, ENGINE, Fault::Graph, || {
            tract_onnx::onnx()
                .with_ignore_output_shapes(true)
                .with_ignore_value_info(true)
                .model_for_read(&mut std::io::Cursor::new(onnx))
                .map_err(|e| format!("{e:#}"))
        })?;
        Ok(Self { name: name.to_owned(), model, plans: Mutex::default() })
    }

    fn plan(&self, inputs: &[Input<'_>]) -> TractResult<Arc<TypedRunnableModel>> {
        let key: Vec<Vec<usize>> = inputs.iter().map(|i| i.shape().to_vec()).collect();
        // Held while compiling: two threads that need one new plan compile it once.
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&key) {
            return Ok(plan.clone());
        }
        let mut model = self.model.clone();
        for (index, input) in inputs.iter().enumerate() {
            let fact = match input {
                Input::F32(shape, _) => f32::fact(*shape),
                Input::I64(shape, _) => i64::fact(*shape),
            };
            model = model.with_input_fact(index, fact.into())?;
        }
        let plan = model.into_optimized()?.into_runnable()?;
        plans.insert(key, plan.clone());
        Ok(plan)
    }

    fn try_run(&self, inputs: &[Input<'_>], outputs: &mut [&mut [f32]]) -> TractResult<()> {
        let plan = self.plan(inputs)?;
        let values = inputs
            .iter()
            .map(|input| {
                Ok(match input {
                    Input::F32(shape, data) => Tensor::from_shape(shape, data)?.into_tvalue(),
                    Input::I64(shape, data) => Tensor::from_shape(shape, data)?.into_tvalue(),
                })
            })
            .collect::<TractResult<TVec<TValue>>>()?;
        let results = plan.run(values)?;
        if results.len() < outputs.len() {
            let reason = format!("{} outputs where {} are due", results.len(), outputs.len());
            return Err(TractError::msg(reason));
        }
        for (result, output) in results.iter().zip(outputs) {
            let view = result.view();
            copy_output(view.as_slice::<f32>()?, output).map_err(TractError::msg)?;
        }
        Ok(())
    }
}

impl Session for TractSession {
    fn run(&self, inputs: &[Input<'_>], outputs: &mut [&mut [f32]]) -> Result<(), InferError> {
        // On the CPU a run depends on nothing but the graph.
        guarded(&self.name, ENGINE, Fault::Graph, || {
            self.try_run(inputs, outputs).map_err(|e| format!("{e:#}"))
        })
    }
}
