//! Which nights are unlike the others in a figure: farther from the median than 3.5 times the
//! scaled median absolute deviation (Iglewicz and Hoaglin, *How to Detect and Handle Outliers*,
//! 1993), which a few odd nights cannot shift. Says nothing of few nights, nor where more than half
//! of them have one and the same value.

/// Nights it takes.
pub const MIN_NIGHTS: usize = 10;
/// Deviations from the median that are too many.
pub const LIMIT: f64 = 3.5;
/// Makes the median absolute deviation of a normal distribution its standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;

/// Median and spread of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The scaled median absolute deviation; above zero.
    pub sigma: f64,
}

impl Spread {
    /// Of `values`, if there are enough and they differ.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.len() < MIN_NIGHTS {
            return None;
        }
        let median = median(values)?;
        let deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        let sigma = MAD_TO_SIGMA * self::median(&deviations)?;
        (sigma > 0.0).then_some(Self { median, sigma })
    }

    /// How many sigma `value` is from the median, if that is too many.
    pub fn outlying(&self, value: f64) -> Option<f64> {
        let deviation = (value - self.median) / self.sigma;
        (deviation.abs() > LIMIT).then_some(deviation)
    }
}

/// The median of finite values; `None` of none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(lower.midpoint(upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_far_off_is_found_and_does_not_hide_another() {
        let mut values: Vec<f64> = (0..20).map(f64::from).collect();
        values.extend([1000.0, 2000.0]);
        let spread = Spread::of(&values).expect("enough");
        // The median of 22 values is between 10 and 11, that of their deviations 5.5.
        assert_eq!(spread, Spread { median: 10.5, sigma: 5.5 * MAD_TO_SIGMA });
        let outlying = values.iter().filter(|value| spread.outlying(**value).is_some()).count();
        assert_eq!(outlying, 2);
        assert_eq!(spread.outlying(10.5 + 3.5 * spread.sigma), None);
        assert!(spread.outlying(10.5 - 3.6 * spread.sigma).is_some_and(|d| d < -LIMIT));
    }

    #[test]
    fn few_nights_or_equal_ones_have_no_outliers() {
        assert_eq!(Spread::of(&[1.0; 9]), None);
        assert_eq!(Spread::of(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 300.0]), None);
        assert_eq!(
            (median(&[]), median(&[3.0, 1.0]), median(&[5.0])),
            (None, Some(2.0), Some(5.0))
        );
    }
}
