//! `quantiles.json`: where a hazard lies among those of the training cohort.

use serde::{Deserialize, Serialize};

/// Quantiles of each hazard in a reference cohort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceQuantiles {
    /// Who the cohort is, for the user.
    pub cohort: String,
    /// Recordings in it.
    pub recordings: usize,
    /// Per hazard its quantiles at equal steps from the minimum to the maximum, ascending.
    pub hazards: Vec<Vec<f32>>,
}

impl ReferenceQuantiles {
    /// Most quantiles of one hazard.
    pub const MAX_STEPS: usize = 1001;

    /// The quantiles, in percent steps, of `log_hazards` (a row a recording, a column a hazard).
    pub fn of(cohort: String, log_hazards: &[Vec<f32>]) -> Self {
        let classes = log_hazards.first().map_or(0, Vec::len);
        let column = |k: usize| {
            let mut values: Vec<f32> =
                log_hazards.iter().filter_map(|row| row.get(k).copied()).collect();
            values.sort_by(f32::total_cmp);
            (0..=100).map(|percent| interpolated(&values, f64::from(percent) / 100.0)).collect()
        };
        Self { cohort, recordings: log_hazards.len(), hazards: (0..classes).map(column).collect() }
    }

    /// Checks that there are quantiles for each of `classes` hazards.
    ///
    /// # Errors
    /// One line that says what does not fit.
    pub fn check(&self, classes: usize) -> Result<(), String> {
        if self.hazards.len() != classes {
            return Err(format!("{} hazards, not the head's {classes}", self.hazards.len()));
        }
        let fits = |values: &Vec<f32>| {
            (2..=Self::MAX_STEPS).contains(&values.len())
                && values.iter().all(|v| v.is_finite())
                && values.windows(2).all(|pair| pair[0] <= pair[1])
        };
        match self.hazards.iter().position(|values| !fits(values)) {
            Some(hazard) => Err(format!(
                "the quantiles of hazard {hazard} are not 2 to {} ascending numbers",
                Self::MAX_STEPS
            )),
            None => Ok(()),
        }
    }

    /// Percent of the cohort with a lower hazard than `log_hazard`, 0 to 100, interpolated; NaN if
    /// there is no such hazard.
    pub fn percentile(&self, hazard: usize, log_hazard: f32) -> f32 {
        let Some(values) = self.hazards.get(hazard).filter(|v| v.len() > 1) else {
            return f32::NAN;
        };
        // Between the first and the last of equal quantiles lies their middle.
        let (below, not_above) = (
            values.partition_point(|&v| v < log_hazard),
            values.partition_point(|&v| v <= log_hazard),
        );
        let steps = (values.len() - 1) as f32;
        if below == values.len() {
            return 100.0;
        }
        if not_above == 0 {
            return 0.0;
        }
        if below < not_above {
            return 100.0 * (below + not_above - 1) as f32 / 2.0 / steps;
        }
        let (low, high) = (values[below - 1], values[below]);
        100.0 * ((below - 1) as f32 + (log_hazard - low) / (high - low)) / steps
    }
}

/// The value at `fraction` of the sorted `values`, linear between neighbors (numpy's default).
fn interpolated(values: &[f32], fraction: f64) -> f32 {
    let Some(last) = values.len().checked_sub(1) else { return f32::NAN };
    let position = fraction * last as f64;
    let index = (position.floor() as usize).min(last);
    let next = values[(index + 1).min(last)];
    values[index] + (next - values[index]) * (position - index as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_cohort() {
        let rows: Vec<Vec<f32>> = (0..201).map(|i| vec![i as f32 / 10.0, 1.0]).collect();
        let reference = ReferenceQuantiles::of("test".into(), &rows);
        assert_eq!(reference.check(2), Ok(()));
        for (value, percent) in [(-1.0, 0.0), (0.0, 0.0), (5.0, 25.0), (7.05, 35.25), (30.0, 100.0)]
        {
            let found = reference.percentile(0, value);
            assert!((found - percent).abs() < 1e-3, "{value}: {found}, not {percent}");
        }
        assert_eq!(reference.percentile(1, 1.0), 50.0, "a tie is in the middle");
        assert!(reference.percentile(2, 1.0).is_nan());
    }

    #[test]
    fn quantiles_that_do_not_ascend_are_refused() {
        let mut reference = ReferenceQuantiles::of("test".into(), &[vec![1.0], vec![2.0]]);
        assert!(reference.check(2).is_err());
        reference.hazards[0].swap(3, 90);
        assert!(reference.check(1).expect_err("refused").contains("hazard 0"));
    }
}
