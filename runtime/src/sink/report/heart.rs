//! Heart rate of a stretch of ECG. R peaks by two moving averages (Elgendi 2013, PLoS ONE 8(9):
//! e73557): band-pass of 8 to 20 Hz, square, and where the average over the length of a QRS complex
//! exceeds the one over the length of a beat, the complex's largest value is its peak. The rate is 60
//! over the median interval, which one missed or one false peak does not move.

use rustfft::FftPlanner;
use rustfft::num_complex::Complex32;

/// Pass band, Hz, and the width of its edges.
const BAND_HZ: (f32, f32) = (8.0, 20.0);
const EDGE_HZ: f32 = 2.0;
/// Lengths of a QRS complex and of a beat, seconds.
const QRS_S: f64 = 0.097;
const BEAT_S: f64 = 0.611;
/// Part of the mean that the beat's average is raised by, against noise between beats.
const OFFSET: f32 = 0.08;
/// Intervals that hearts have, seconds: 200 to 24 beats per minute.
const INTERVAL_S: std::ops::RangeInclusive<f64> = 0.3..=2.5;
/// Fewer say nothing about 30 s.
const MIN_INTERVALS: usize = 8;

/// Beats per minute of `ecg`, one channel in any unit at `rate_hz`, NaN where samples are missing;
/// `None` where too few beats follow each other at a heart's pace.
pub(super) fn rate_bpm(ecg: &[f32], rate_hz: f64) -> Option<f32> {
    let peaks = r_peaks(ecg, rate_hz);
    let mut intervals: Vec<f64> = peaks
        .windows(2)
        // Beats may be missing where samples are.
        .filter(|pair| ecg[pair[0]..pair[1]].iter().all(|x| x.is_finite()))
        .map(|pair| (pair[1] - pair[0]) as f64 / rate_hz)
        .filter(|interval| INTERVAL_S.contains(interval))
        .collect();
    if intervals.len() < MIN_INTERVALS {
        return None;
    }
    intervals.sort_by(f64::total_cmp);
    let middle = intervals.len() / 2;
    let median = (intervals[middle] + intervals[(intervals.len() - 1) / 2]) / 2.0;
    Some((60.0 / median) as f32)
}

/// Indices of the R peaks, ascending.
fn r_peaks(ecg: &[f32], rate_hz: f64) -> Vec<usize> {
    let energy: Vec<f32> = band_pass(ecg, rate_hz as f32).iter().map(|x| x * x).collect();
    let mean = energy.iter().sum::<f32>() / energy.len().max(1) as f32;
    let samples = |seconds: f64| (seconds * rate_hz).round() as usize;
    let (qrs, beat) = (averaged(&energy, samples(QRS_S)), averaged(&energy, samples(BEAT_S)));
    let is_inside = |n: usize| qrs[n] > beat[n] + OFFSET * mean;
    let mut peaks: Vec<usize> = Vec::new();
    let mut n = 0;
    while n < energy.len() {
        let start = n;
        while n < energy.len() && is_inside(n) {
            n += 1;
        }
        let largest = (start..n).max_by(|&a, &b| energy[a].total_cmp(&energy[b]));
        if let Some(peak) = largest.filter(|_| n - start >= samples(QRS_S)) {
            peaks.push(peak);
        }
        n += 1;
    }
    peaks
}

/// `ecg` without what is outside of the band; missing samples are the mean.
fn band_pass(ecg: &[f32], rate_hz: f32) -> Vec<f32> {
    let present = ecg.iter().filter(|x| x.is_finite());
    let mean = present.clone().sum::<f32>() / present.count().max(1) as f32;
    // Zeros behind the end keep it from touching the beginning.
    let length = (ecg.len() + rate_hz as usize).next_power_of_two();
    let centered = ecg.iter().map(|x| if x.is_finite() { x - mean } else { 0.0 });
    let mut buffer: Vec<Complex32> = centered.map(|x| Complex32::new(x, 0.0)).collect();
    buffer.resize(length, Complex32::ZERO);
    let mut planner = FftPlanner::new();
    planner.plan_fft_forward(length).process(&mut buffer);
    for (n, value) in buffer.iter_mut().enumerate() {
        let hz = n.min(length - n) as f32 * rate_hz / length as f32;
        *value *= gain(hz) / length as f32;
    }
    planner.plan_fft_inverse(length).process(&mut buffer);
    buffer[..ecg.len()].iter().map(|x| x.re).collect()
}

/// 1 within the band, falling to 0 as a raised cosine at its edges.
fn gain(hz: f32) -> f32 {
    let outside = (BAND_HZ.0 - hz).max(hz - BAND_HZ.1).max(0.0);
    if outside >= EDGE_HZ {
        0.0
    } else {
        0.5 + 0.5 * (std::f32::consts::PI * outside / EDGE_HZ).cos()
    }
}

/// Centered moving average over about `length` values, fewer at the ends.
fn averaged(values: &[f32], length: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64];
    let mut sum = 0.0;
    sums.extend(values.iter().map(|&value| {
        sum += f64::from(value);
        sum
    }));
    let half = length / 2;
    let at = |n: usize| {
        let (from, to) = (n.saturating_sub(half), (n + half + 1).min(values.len()));
        ((sums[to] - sums[from]) / (to - from) as f64) as f32
    };
    (0..values.len()).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: f64 = 128.0;

    /// 30 s with QRS complexes, T waves, breathing and mains hum.
    fn ecg(bpm: f64, polarity: f64) -> Vec<f32> {
        let wave = |t: f64, at: f64, width: f64| (-((t - at) / width).powi(2)).exp();
        let at = |n: usize| {
            let t = n as f64 / RATE_HZ;
            let phase = (t * bpm / 60.0).fract() * 60.0 / bpm;
            let beat = wave(phase, 0.1, 0.012) - 0.2 * wave(phase, 0.13, 0.012)
                + 0.25 * wave(phase, 0.35, 0.05);
            let hum = 0.05 * (std::f64::consts::TAU * 50.0 * t).sin();
            (polarity * beat + 0.3 * (std::f64::consts::TAU * 0.25 * t).sin() + hum) as f32
        };
        (0..3840).map(at).collect()
    }

    #[test]
    fn known_rates_are_found_either_way_up() {
        for (bpm, polarity) in [(45.0, 1.0), (62.0, 1.0), (62.0, -1.0), (118.0, 1.0), (160.0, 1.0)]
        {
            let found = rate_bpm(&ecg(bpm, polarity), RATE_HZ).expect("a heart beats");
            assert!((f64::from(found) - bpm).abs() < 1.0, "{found} for {bpm}");
        }
    }

    #[test]
    fn a_hole_makes_no_beats_and_silence_no_rate() {
        let mut signal = ecg(70.0, 1.0);
        signal[1000..2200].fill(f32::NAN);
        let found = rate_bpm(&signal, RATE_HZ).expect("two thirds are there");
        assert!((found - 70.0).abs() < 1.0, "{found}");
        assert_eq!(rate_bpm(&[f32::NAN; 3840], RATE_HZ), None);
        assert_eq!(rate_bpm(&[0.5; 3840], RATE_HZ), None);
        assert_eq!(rate_bpm(&[], RATE_HZ), None);
    }
}
