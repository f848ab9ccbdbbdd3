//! Butterworth low-pass design as a cascade of second-order sections.
//!
//! The analog prototype's pole pairs go through the bilinear transform with the cut-off
//! prewarped, as in `scipy.signal.butter`. Each section has unit gain at 0 Hz. Sections instead
//! of one long polynomial: the same response, but exact at cut-offs far below the Nyquist rate.

use std::f64::consts::PI;

use super::DspError;

/// Highest order accepted.
pub const MAX_ORDER: usize = 16;

/// One second-order section, `a0` = 1; an odd order's last section has `b2` = `a2` = 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Section {
    /// Numerator, powers 0, -1, -2 of z.
    pub b: [f64; 3],
    /// Denominator, powers -1 and -2 of z.
    pub a: [f64; 2],
}

impl Section {
    fn low_pass(a: [f64; 2], order: usize) -> Self {
        let dc = 1.0 + a[0] + a[1];
        let b = match order {
            1 => [dc / 2.0, dc / 2.0, 0.0],
            _ => [dc / 4.0, dc / 2.0, dc / 4.0],
        };
        Self { b, a }
    }

    /// Magnitude of the section's poles.
    pub fn pole_radius(&self) -> f64 {
        if self.a[1] == 0.0 { self.a[0].abs() } else { self.a[1].sqrt() }
    }
}

/// Sections of the Butterworth low-pass of `order` at `cutoff`, a fraction of the Nyquist rate.
///
/// # Errors
/// [`DspError::Preprocessing`] unless 0 < `cutoff` < 1 and 1 <= `order` <= [`MAX_ORDER`].
pub fn low_pass(order: usize, cutoff: f64) -> Result<Vec<Section>, DspError> {
    if !(1..=MAX_ORDER).contains(&order) {
        return Err(DspError::Preprocessing(format!(
            "low-pass order {order} is not between 1 and {MAX_ORDER}"
        )));
    }
    if !(cutoff > 0.0 && cutoff < 1.0) {
        return Err(DspError::Preprocessing(format!(
            "low-pass cut-off at {cutoff} of the Nyquist rate is not between 0 and 1"
        )));
    }
    let t = (PI * cutoff / 2.0).tan();
    let mut sections: Vec<Section> = (0..order / 2)
        .map(|pair| {
            let angle = PI * (2 * pair + order + 1) as f64 / (2 * order) as f64;
            let slope = 2.0 * t * angle.cos();
            let a0 = 1.0 - slope + t * t;
            Section::low_pass([2.0 * (t * t - 1.0) / a0, (1.0 + slope + t * t) / a0], 2)
        })
        .collect();
    if order % 2 == 1 {
        sections.push(Section::low_pass([(t - 1.0) / (t + 1.0), 0.0], 1));
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.signal.butter(4, 64 / 100)`, scipy 1.17.
    #[test]
    fn order_four_multiplies_out_to_the_textbook_polynomials() {
        let sections = low_pass(4, 0.64).expect("valid design");
        let product = |p: &[f64], q: [f64; 3]| {
            let mut r = vec![0.0; p.len() + 2];
            for (i, x) in p.iter().enumerate() {
                for (j, y) in q.iter().enumerate() {
                    r[i + j] += x * y;
                }
            }
            r
        };
        let a = sections.iter().fold(vec![1.0], |p, s| product(&p, [1.0, s.a[0], s.a[1]]));
        let b = sections.iter().fold(vec![1.0], |p, s| product(&p, s.b));
        let expected_a =
            [1.0, 1.0963595991031125, 0.8683333744219266, 0.2817498124282978, 0.04338961192724407];
        let expected_b = [
            0.20561452486753623,
            0.8224580994701449,
            1.2336871492052173,
            0.8224580994701449,
            0.20561452486753623,
        ];
        for (got, want) in a.iter().chain(&b).zip(expected_a.iter().chain(&expected_b)) {
            assert!((got - want).abs() < 1e-14, "{got} is not {want}");
        }
    }

    #[test]
    fn every_order_passes_dc_and_halves_the_power_at_the_cutoff() {
        for order in 1..=MAX_ORDER {
            let cutoff = 0.3;
            let power: f64 = low_pass(order, cutoff)
                .expect("valid design")
                .iter()
                .map(|s| power_gain(s, PI * cutoff))
                .product();
            assert!((power - 0.5).abs() < 1e-12, "order {order}: {power}");
            let dc: f64 = low_pass(order, cutoff)
                .expect("valid design")
                .iter()
                .map(|s| power_gain(s, 0.0))
                .product();
            assert!((dc - 1.0).abs() < 1e-12, "order {order}: {dc}");
        }
    }

    fn power_gain(s: &Section, w: f64) -> f64 {
        let magnitude = |c: [f64; 3]| {
            let re = c[0] + c[1] * w.cos() + c[2] * (2.0 * w).cos();
            let im = c[1] * w.sin() + c[2] * (2.0 * w).sin();
            re * re + im * im
        };
        magnitude(s.b) / magnitude([1.0, s.a[0], s.a[1]])
    }

    #[test]
    fn refuses_what_cannot_be_designed() {
        assert!(low_pass(0, 0.5).is_err());
        assert!(low_pass(MAX_ORDER + 1, 0.5).is_err());
        for cutoff in [0.0, 1.0, -0.5, f64::NAN] {
            assert!(low_pass(4, cutoff).is_err());
        }
    }
}
