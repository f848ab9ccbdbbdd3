//! Inputs and weights by the formula of `train_goldens.py`, and gradients in PyTorch's layout.

use burn::backend::{Autodiff, Flex};
use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::prelude::*;

pub type Train = Autodiff<Flex>;
pub type Gradients = <Train as burn::tensor::backend::AutodiffBackend>::Gradients;

pub fn values(length: usize, salt: usize, scale: f64, center: f64) -> Vec<f32> {
    (0..length)
        .map(|i| (center + scale * (12.9898 * i as f64 + 0.7 * salt as f64).sin()) as f32)
        .collect()
}

pub fn fill<B: Backend, const D: usize>(shape: [usize; D], salt: usize) -> Tensor<B, D> {
    let values = values(shape.iter().product(), salt, 1.0, 0.0);
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

/// Parameter i with salt i; as large as the usual initial values.
pub fn fill_parameters<M: Module<Train>>(module: M) -> M {
    module.map(&mut Fill::default())
}

#[derive(Default)]
struct Fill {
    index: usize,
    norms: Vec<bool>,
    fields: Vec<String>,
}

impl ModuleMapper<Train> for Fill {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.fields.push(name.to_owned());
        self.norms.push(container.ends_with("Norm"));
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.fields.pop();
        self.norms.pop();
    }

    fn map_float<const D: usize>(
        &mut self,
        param: Param<Tensor<Train, D>>,
    ) -> Param<Tensor<Train, D>> {
        if !param.is_require_grad() {
            return param;
        }
        let shape = param.dims();
        // Where PyTorch keeps [out, in], burn keeps [in, out].
        let mut torch_shape = shape;
        if D == 2 {
            torch_shape.reverse();
        }
        let scale = match D {
            1 => 0.3,
            _ => 1.7 / (torch_shape[1..].iter().product::<usize>() as f64).sqrt(),
        };
        let gamma = self.fields.last().is_some_and(|field| field == "gamma");
        let center = if gamma { 1.0 } else { 0.0 };
        let values = values(shape.iter().product(), self.index, scale, center);
        self.index += 1;
        let tensor = Tensor::from_data(TensorData::new(values, torch_shape), &Default::default());
        let tensor = if D == 2 { tensor.transpose() } else { tensor };
        param.map(|_| tensor.require_grad())
    }
}

/// The gradients of all parameters in PyTorch's layout.
pub fn gradients<M: Module<Train>>(module: &M, gradients: &Gradients) -> Vec<Vec<f32>> {
    let mut collect = Collect { gradients, found: Vec::new() };
    module.visit(&mut collect);
    collect.found
}

struct Collect<'a> {
    gradients: &'a Gradients,
    found: Vec<Vec<f32>>,
}

impl ModuleVisitor<Train> for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Train, D>>) {
        if !param.is_require_grad() {
            return;
        }
        let gradient = param.val().grad(self.gradients).expect("a gradient");
        let gradient = if D == 2 { gradient.transpose() } else { gradient };
        self.found.push(gradient.to_data().to_vec().unwrap());
    }
}

/// The gradients of a loss that weighs every value of the outputs differently.
pub fn backward<const D: usize>(output: Tensor<Train, D>, salt: usize) -> Tensor<Train, 1> {
    let weights = fill(output.dims(), salt);
    (output * weights).sum()
}
