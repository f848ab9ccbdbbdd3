//! Hypnograms of whole nights against the proportions of adults' sleep, and the stages' marks in
//! the signals: slow waves, spindles, alpha, atonia, eye movements.

use sfm_models::SleepStage::{self, N1, N2, N3, Rem, Wake};
use sfm_trainer::synth::hypnogram::hypnogram;
use sfm_trainer::synth::montage::Laboratory;
use sfm_trainer::synth::night::Night;
use sfm_trainer::synth::noise::{Resonator, stream};
use sfm_trainer::synth::person::Person;
use sfm_trainer::synth::render::Renderer;

#[test]
fn nights_have_the_shares_and_the_order_of_adults_sleep() {
    let nights: Vec<Vec<SleepStage>> =
        (0..100).map(|n| hypnogram(&mut stream(7, "test", n), 960, &Person::new(7, n))).collect();
    let share = |stage, from: usize, to: usize| {
        let found = nights.iter().flat_map(|n| &n[from..to]).filter(|&&s| s == stage).count();
        found as f64 / (100 * (to - from)) as f64
    };
    // Ohayon et al. 2004, middle-aged and elderly adults, as shares of the time in bed.
    for (stage, low, high) in
        [(Wake, 0.1, 0.3), (N1, 0.04, 0.15), (N2, 0.35, 0.55), (N3, 0.08, 0.22), (Rem, 0.12, 0.25)]
    {
        let share = share(stage, 0, 960);
        assert!((low..high).contains(&share), "{stage}: {share}");
    }
    assert!(share(N3, 0, 480) > 2.0 * share(N3, 480, 960), "N3 shrinks over the night");
    assert!(share(Rem, 480, 960) > 1.5 * share(Rem, 0, 480), "REM grows over the night");
    for night in &nights {
        assert_eq!((night.len(), night[0], night[959]), (960, Wake, Wake));
        let stays = night.windows(2).filter(|w| w[0] == w[1]).count();
        assert!(stays > 800, "{stays} of 959 epochs are followed by their own stage");
    }
}

/// Samples of a channel in all epochs, with their stages.
struct ByStage {
    rate_hz: f64,
    epochs: Vec<Epoch>,
}

type Epoch = (SleepStage, Vec<f32>);

impl ByStage {
    fn of(night: &Night, labels: &[&str]) -> Vec<ByStage> {
        let place =
            |label: &&str| night.channels.iter().position(|(c, _)| c.label == *label).unwrap();
        let places: Vec<usize> = labels.iter().map(place).collect();
        let mut channels: Vec<ByStage> = places
            .iter()
            .map(|&p| ByStage { rate_hz: f64::from(night.channels[p].0.rate_hz), epochs: vec![] })
            .collect();
        let mut renderer = Renderer::new(night);
        for (epoch, &stage) in night.stages.iter().enumerate() {
            renderer.render(epoch);
            for (channel, &place) in channels.iter_mut().zip(&places) {
                channel.epochs.push((stage, renderer.samples[place].clone()));
            }
        }
        channels
    }

    /// What the eyes do in opposite directions: brain and lids are the same in both.
    fn minus(&self, other: &ByStage) -> ByStage {
        let difference =
            |(a, b): (&Epoch, &Epoch)| (a.0, a.1.iter().zip(&b.1).map(|(x, y)| x - y).collect());
        let epochs = self.epochs.iter().zip(&other.epochs).map(difference).collect();
        ByStage { rate_hz: self.rate_hz, epochs }
    }

    /// Median over a stage's epochs of `figure`.
    fn median(&self, stage: SleepStage, figure: impl Fn(&[f32]) -> f32) -> f32 {
        let epochs = self.epochs.iter().filter(|(s, _)| *s == stage);
        let mut figures: Vec<f32> = epochs.map(|(_, samples)| figure(samples)).collect();
        figures.sort_by(f32::total_cmp);
        figures[figures.len() / 2]
    }

    /// Median root mean square of a band, up to the filter's gain.
    fn band(&self, stage: SleepStage, center_hz: f32, width_hz: f32) -> f32 {
        self.median(stage, |samples| {
            let mut filter = Resonator::new(center_hz, width_hz, self.rate_hz as f32);
            rms(&samples.iter().map(|&x| filter.step(x)).collect::<Vec<_>>())
        })
    }
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32).sqrt()
}

/// Median peak-to-peak height of stretches of 1.2 s, about one slow wave.
fn peak_to_peak(samples: &[f32], rate_hz: f64) -> f32 {
    let smooth: Vec<f32> = samples
        .windows(rate_hz as usize / 10)
        .map(|w| w.iter().sum::<f32>() / w.len() as f32)
        .collect();
    let mut heights: Vec<f32> = smooth
        .chunks_exact((1.2 * rate_hz) as usize)
        .map(|w| {
            w.iter().fold(f32::MIN, |a, &b| a.max(b)) - w.iter().fold(f32::MAX, |a, &b| a.min(b))
        })
        .collect();
    heights.sort_by(f32::total_cmp);
    heights[heights.len() / 2]
}

#[test]
fn stages_leave_their_marks_in_eeg_eog_and_emg() {
    for (laboratory, labels) in [
        (Laboratory::Mesa, ["EEG3", "EEG2", "EOG-L", "EOG-R", "EMG"]),
        (Laboratory::Stanford, ["C4-M1", "O2-M1", "LEOG", "REOG", "Chin"]),
    ] {
        let complete = |night: &Night| {
            labels.iter().all(|l| night.channels.iter().any(|(c, _)| c.label == *l))
        };
        let nights = (0..20).map(|n| Night::new(11, n, 1.0, Some(laboratory)));
        let night = nights.into_iter().find(complete).unwrap();
        let [central, posterior, eye, other_eye, chin] = &ByStage::of(&night, &labels)[..] else {
            panic!()
        };
        // AASM: slow waves of N3 are above 75 microvolts from peak to peak.
        let height = |stage| central.median(stage, |s| peak_to_peak(s, central.rate_hz));
        let slow = height(N3);
        assert!((75.0..180.0).contains(&slow), "slow waves of {slow} microvolts");
        assert!(height(N2) < 0.75 * slow && height(Rem) < 0.5 * slow);
        // Spindles, alpha, rolling and rapid eye movements, atonia.
        let sigma = |stage| central.band(stage, night.person.spindle_hz, 2.0);
        assert!(sigma(N2) > 1.3 * sigma(Rem), "{} {}", sigma(N2), sigma(Rem));
        let alpha = |stage| posterior.band(stage, night.person.alpha_hz, 1.5);
        assert!(alpha(Wake) > 1.5 * alpha(N1), "{} {}", alpha(Wake), alpha(N1));
        let rolling = |stage| eye.minus(other_eye).band(stage, 0.3, 0.2);
        assert!(rolling(N1) > 2.0 * rolling(N2), "{} {}", rolling(N1), rolling(N2));
        let largest = |stage| eye.median(stage, |s| s.iter().fold(0.0, |a, b| b.abs().max(a)));
        assert!(largest(Rem) > 80.0 && largest(Rem) > 1.3 * largest(N2));
        let tone = |stage| chin.median(stage, rms);
        assert!(tone(Wake) > tone(N1) && tone(N1) > tone(N2) && tone(N2) > tone(N3));
        assert!(tone(Rem) < 0.5 * tone(N3), "{} {}", tone(Rem), tone(N3));
    }
}
