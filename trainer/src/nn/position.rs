//! The sinusoidal positional table: a constant, kept with the weights because its length is a
//! property of the checkpoint.

use burn::module::Param;
use burn::prelude::*;

/// Size of a [`PositionalTable`].
#[derive(Config, Debug)]
pub struct PositionalTableConfig {
    /// Rows: the longest sequence, in tokens.
    pub length: usize,
    /// E, the length of a token.
    pub embed_dim: usize,
}

/// One row to add to the token at each position.
#[derive(Module, Debug)]
pub struct PositionalTable<B: Backend> {
    /// [length, E]; never trained.
    pub table: Param<Tensor<B, 2>>,
}

impl PositionalTableConfig {
    /// Sines in the even columns, cosines in the odd ones (Vaswani et al. 2017).
    pub fn init<B: Backend>(&self, device: &B::Device) -> PositionalTable<B> {
        let value = |position: usize, column: usize| {
            let exponent = (column / 2 * 2) as f64 / self.embed_dim as f64;
            let angle = position as f64 * 10_000_f64.powf(-exponent);
            (if column.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
        };
        let values: Vec<f32> = (0..self.length)
            .flat_map(|position| (0..self.embed_dim).map(move |column| value(position, column)))
            .collect();
        let data = TensorData::new(values, [self.length, self.embed_dim]);
        PositionalTable::from_table(Tensor::from_data(data, device))
    }
}

impl<B: Backend> PositionalTable<B> {
    /// Wraps an existing table [length, E].
    pub fn from_table(table: Tensor<B, 2>) -> Self {
        PositionalTable { table: Param::from_tensor(table).set_require_grad(false) }
    }

    /// Adds rows 0 to T - 1 to `x` [N, T, E]; T must not exceed [`PositionalTable::length`].
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.forward_from(x, 0)
    }

    /// Adds rows `first` to `first` + T - 1 to `x` [N, T, E]; the last must be in the table.
    pub fn forward_from(&self, x: Tensor<B, 3>, first: usize) -> Tensor<B, 3> {
        let [_, tokens, _] = x.dims();
        x + self.table.val().narrow(0, first, tokens).unsqueeze()
    }

    /// Rows of the table.
    pub fn length(&self) -> usize {
        let [length, _] = self.table.val().dims();
        length
    }
}
