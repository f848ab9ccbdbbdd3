//! Breath, blood and heart: what an apnea does, and traits that a night shows.

use sfm_trainer::synth::events::{Apnea, Failing};
use sfm_trainer::synth::montage::Laboratory;
use sfm_trainer::synth::night::Night;
use sfm_trainer::synth::render::Renderer;

/// A night of the first subject with more than 25 apneas per hour.
fn apneic(hours: f64) -> Night {
    let nights = (0..200).map(|n| Night::new(13, n, hours, Some(Laboratory::Mesa)));
    let mut apneic = nights.filter(|n| n.person.ahi > 25.0 && n.events.apneas.len() > 8);
    apneic.next().unwrap()
}

fn whole(night: &Night, label: &str) -> (f64, Vec<f32>) {
    let place = night.channels.iter().position(|(c, _)| c.label == label).unwrap();
    let mut renderer = Renderer::new(night);
    let mut samples = Vec::new();
    for epoch in 0..night.stages.len() {
        renderer.render(epoch);
        samples.extend_from_slice(&renderer.samples[place]);
    }
    (f64::from(night.channels[place].0.rate_hz), samples)
}

fn between((rate_hz, samples): &(f64, Vec<f32>), start_s: f64, end_s: f64) -> &[f32] {
    let end = ((end_s * rate_hz) as usize).min(samples.len());
    &samples[((start_s * rate_hz) as usize).min(end)..end]
}

fn span(samples: &[f32]) -> f32 {
    let highest = samples.iter().fold(f32::MIN, |a, &b| a.max(b));
    highest - samples.iter().fold(f32::MAX, |a, &b| a.min(b))
}

#[test]
fn an_apnea_stops_the_flow_and_the_saturation_falls_after_it() {
    let mut night = apneic(0.5);
    // Loose sensors and movements would hide what is measured here.
    night.channels.iter_mut().for_each(|(_, lead_off)| *lead_off = None);
    night.events.movements.clear();
    let flow = whole(&night, "Flow");
    let belt = whole(&night, "Thor");
    let oxygen = whole(&night, "SpO2");
    let baseline = night.person.saturation as f32;
    let (mut full, mut effortless) = (0, 0);
    for Apnea { span: when, failing, desaturation } in &night.events.apneas {
        // The first breath may still end, and the last begin.
        let core = between(&flow, when.start_s + 3.0, when.end_s());
        let quiet = 1.67;
        match failing {
            Failing::Hypopnea => assert!(span(core) < 0.7 * quiet, "{}", span(core)),
            _ => assert!(span(core) < 0.35 * quiet, "{failing:?} {}", span(core)),
        }
        if *failing == Failing::Central {
            let core = between(&belt, when.start_s + 5.0, when.end_s());
            assert!(span(core) < 1.0, "{}", span(core));
            effortless += 1;
        }
        full += usize::from(*failing != Failing::Hypopnea);
        // Lowest in the half minute around the delayed end.
        let after = between(&oxygen, when.end_s(), when.end_s() + 25.0);
        let lowest = after.iter().fold(100.0_f32, |a, &b| a.min(b));
        assert!(lowest <= baseline - 0.6 * *desaturation as f32 + 1.0, "{lowest} of {baseline}");
        assert!(*desaturation >= 2.0);
    }
    assert!(full > effortless, "most apneas have an effort");
}

#[test]
fn most_apneas_end_in_an_arousal_and_the_heart_quickens() {
    let night = apneic(1.0);
    let ends = night.events.apneas.iter().map(|a| a.span.end_s());
    let (mut aroused, mut quicker, mut count) = (0, 0, 0);
    for end_s in ends {
        count += 1;
        aroused +=
            usize::from(night.events.arousals.iter().any(|a| (a.start_s - end_s).abs() < 2.0));
        let rate = |from: f64, to: f64| night.beats.between(from, to).len() as f64 / (to - from);
        quicker += usize::from(rate(end_s, end_s + 10.0) > rate(end_s - 10.0, end_s));
    }
    assert!(aroused * 100 > 40 * count, "{aroused} of {count}");
    assert!(quicker * 100 > 70 * count, "{quicker} of {count}");
}

/// Spearman's rank correlation; no ties.
fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let rank = |x: &[f64]| -> Vec<f64> {
        x.iter().map(|v| x.iter().filter(|w| *w < v).count() as f64).collect()
    };
    let (a, b) = (rank(a), rank(b));
    let n = a.len() as f64;
    let distance: f64 = a.iter().zip(&b).map(|(x, y)| (x - y).powi(2)).sum();
    1.0 - 6.0 * distance / (n * (n * n - 1.0))
}

#[test]
fn a_night_shows_the_traits_on_which_hazards_depend() {
    // One night each of different subjects.
    let nights: Vec<Night> = (0..33)
        .filter(|n| n % 11 != 10)
        .map(|n| Night::new(17, n, 8.0, Some(Laboratory::Mesa)))
        .collect();
    let traits = |k: usize| nights.iter().map(|n| n.person.traits[k]).collect::<Vec<_>>();
    let apneas: Vec<f64> = nights.iter().map(|n| n.events.ahi(&n.stages)).collect();
    let spontaneous = |n: &Night| {
        let near = |s: f64| n.events.apneas.iter().any(|a| (a.span.end_s() - s).abs() < 2.0);
        n.events.arousals.iter().filter(|a| !near(a.start_s)).count() as f64
    };
    let arousals: Vec<f64> = nights.iter().map(spontaneous).collect();
    // Root mean square of successive differences between beats.
    let variability = |n: &Night| {
        let beats = n.beats.between(0.0, 8.0 * 3600.0);
        let differences = beats.windows(3).map(|b| (b[2] - 2.0 * b[1] + b[0]).powi(2));
        differences.sum::<f64>() / beats.len() as f64
    };
    let variability: Vec<f64> = nights.iter().map(variability).collect();
    for (name, seen, hidden) in [
        ("apnea burden", &apneas, traits(1)),
        ("fragmentation", &arousals, traits(2)),
        ("hrv", &variability, traits(3)),
    ] {
        let correlation = rank_correlation(seen, &hidden);
        assert!(correlation > 0.85, "{name}: {correlation}");
    }
}
