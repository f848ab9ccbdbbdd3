//! Elementary functions lane by lane, and small products, generic over the instruction set.

use pulp::Simd;

/// Vectors that the small product keeps of each row: with four rows they fill the registers.
pub(super) const VECTORS: usize = 4;

/// `slice` from `start`, one vector of it; lanes behind its end are zero.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, slice: &[f32], start: usize) -> S::f32s {
    let end = slice.len().min(start + S::F32_LANES);
    simd.partial_load_f32s(&slice[start.min(end)..end])
}

/// Puts `vector` into `slice` from `start`; lanes behind its end are dropped.
#[inline(always)]
pub(super) fn store<S: Simd>(simd: S, slice: &mut [f32], start: usize, vector: S::f32s) {
    let end = slice.len().min(start + S::F32_LANES);
    simd.partial_store_f32s(&mut slice[start.min(end)..end], vector);
}

/// `sums[r][v] += rows[r][k] * columns[k][v]`, summed over k in order.
#[inline(always)]
pub(super) fn accumulate<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    columns: &[[S::f32s; V]],
    sums: &mut [[S::f32s; V]; R],
) {
    let rows = rows.map(|row| &row[..columns.len()]);
    let mut local = *sums;
    for (k, column) in columns.iter().enumerate() {
        for (row, sums) in rows.iter().zip(&mut local) {
            let x = simd.splat_f32s(row[k]);
            for (sum, &weight) in sums.iter_mut().zip(column) {
                *sum = simd.mul_add_e_f32s(x, weight, *sum);
            }
        }
    }
    *sums = local;
}

/// 2^n and exp(r) - 1 with x = n ln 2 + r, |r| <= ln(2) / 2, for |x| <= 87. The polynomial is
/// minimax, so small |x| keep their digits.
#[inline(always)]
fn split_exp<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    /// Adding it rounds to an integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const Q: [f32; 5] = [1.395_048e-3, 8.368_889e-3, 4.166_620_6e-2, 1.666_651_8e-1, 0.5];
    let rounded =
        simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), simd.splat_f32s(ROUND));
    let n = simd.sub_f32s(rounded, simd.splat_f32s(ROUND));
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN_2_HIGH), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN_2_LOW), r);
    let mut q = simd.splat_f32s(Q[0]);
    for coefficient in &Q[1..] {
        q = simd.mul_add_e_f32s(q, r, simd.splat_f32s(*coefficient));
    }
    let exp_r_minus_1 = simd.mul_add_e_f32s(simd.mul_f32s(r, r), q, r);
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    let two_to_n =
        simd.transmute_f32s_u32s(simd.add_u32s(bits, simd.splat_u32s(1.0_f32.to_bits())));
    (two_to_n, exp_r_minus_1)
}

/// exp(x) - 1 for x in -87..=0.
#[inline(always)]
fn exp_minus_1<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (two_to_n, exp_r_minus_1) = split_exp(simd, x);
    let two_to_n_minus_1 = simd.sub_f32s(two_to_n, simd.splat_f32s(1.0));
    simd.mul_add_e_f32s(two_to_n, exp_r_minus_1, two_to_n_minus_1)
}

/// 1 / (1 + exp(-x)).
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    // The bound comes first: where an operand is NaN, processors return the second.
    let x = simd.min_f32s(simd.splat_f32s(87.0), x);
    let x = simd.max_f32s(simd.splat_f32s(-87.0), x);
    let (two_to_n, exp_r_minus_1) = split_exp(simd, simd.neg_f32s(x));
    let exp = simd.mul_add_e_f32s(two_to_n, exp_r_minus_1, two_to_n);
    simd.div_f32s(one, simd.add_f32s(one, exp))
}

/// The hyperbolic tangent, -m / (2 + m) with m = exp(-2|x|) - 1 and the sign of x.
#[inline(always)]
pub(super) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let low = simd.mul_f32s(simd.abs_f32s(x), simd.splat_f32s(-2.0));
    let m = exp_minus_1(simd, simd.max_f32s(simd.splat_f32s(-87.0), low));
    let magnitude = simd.div_f32s(simd.neg_f32s(m), simd.add_f32s(simd.splat_f32s(2.0), m));
    let sign = simd.and_u32s(simd.transmute_u32s_f32s(x), simd.splat_u32s(1 << 31));
    simd.transmute_f32s_u32s(simd.or_u32s(simd.transmute_u32s_f32s(magnitude), sign))
}

/// x for x > 0, exp(x) - 1 below.
#[inline(always)]
pub(super) fn elu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let below = simd.min_f32s(simd.splat_f32s(0.0), x);
    let negative = exp_minus_1(simd, simd.max_f32s(simd.splat_f32s(-87.0), below));
    // Not the maximum of x and 0, which drops NaN on some instruction sets.
    simd.add_f32s(simd.sub_f32s(x, below), negative)
}

/// exp(x) for x <= 0.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (two_to_n, exp_r_minus_1) = split_exp(simd, simd.max_f32s(simd.splat_f32s(-87.0), x));
    simd.mul_add_e_f32s(two_to_n, exp_r_minus_1, two_to_n)
}

/// Floats that begin on a cache line, so that no vector lies across two.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    buffer: Vec<f32>,
    skip: usize,
}

impl Aligned {
    const LINE: usize = 16;

    /// Zeros.
    pub fn zeros(length: usize) -> Self {
        let buffer = vec![0.0; length + Self::LINE];
        let skip = buffer.as_ptr().align_offset(Self::LINE * size_of::<f32>()).min(Self::LINE);
        Self { buffer, skip }
    }

    /// The values.
    pub fn values(&self) -> &[f32] {
        let end = self.buffer.len() - Self::LINE + self.skip;
        &self.buffer[self.skip..end]
    }

    /// The values.
    pub fn values_mut(&mut self) -> &mut [f32] {
        let end = self.buffer.len() - Self::LINE + self.skip;
        &mut self.buffer[self.skip..end]
    }
}

/// As vectors; `values` are whole ones.
#[inline(always)]
pub(super) fn vectors<S: Simd>(values: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(values).0
}

/// As vectors; `values` are whole ones.
#[inline(always)]
pub(super) fn vectors_mut<S: Simd>(values: &mut [f32]) -> &mut [S::f32s] {
    S::as_mut_simd_f32s(values).0
}
