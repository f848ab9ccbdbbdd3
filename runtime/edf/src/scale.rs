//! From digital to physical values.

/// Digital to physical values by EDF's two pairs of limits. Recording and replay share it, so that
/// a sample means the same to the bit whether it comes from a sensor or from the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Physical units per digital step.
    gain: f64,
    digital_min: f64,
    physical_min: f64,
}

impl Scale {
    /// The line through (digital minimum, physical minimum) and the maxima; `None` if either pair
    /// is one value or a physical limit is no finite number.
    pub fn new(digital: (i32, i32), physical: (f64, f64)) -> Option<Self> {
        let (digital_min, digital_max) = (f64::from(digital.0), f64::from(digital.1));
        let gain = (physical.1 - physical.0) / (digital_max - digital_min);
        let usable = gain.is_finite() && gain != 0.0;
        usable.then_some(Self { gain, digital_min, physical_min: physical.0 })
    }

    /// The physical value of a digital one.
    pub fn physical(&self, digital: i32) -> f64 {
        (f64::from(digital) - self.digital_min) * self.gain + self.physical_min
    }
}
