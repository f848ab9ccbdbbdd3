//! A night of made-up events. Every figure follows from its place, so a test knows what a row of
//! a file has to hold.

use sfm_models::{Modality, SleepStage};
use sfm_runtime::event::{
    ApneaEstimate, ChannelLedger, ChannelUse, EpochStatus, Event, Gap, Night, OvernightRisk, Pass,
    SleepEpoch, Started, WindowEmbedding,
};
use sfm_runtime::lights::Lights;
use sfm_runtime::statistics::SleepStatistics;

/// Patches of a whole window.
pub const WINDOW: u32 = 60;

/// A recording of `epochs` epochs and `dim` figures an embedding.
#[derive(Debug, Clone, Copy)]
pub struct Recording {
    pub epochs: u32,
    pub dim: usize,
}

impl Recording {
    pub fn patches(self) -> u32 {
        self.epochs * 6
    }

    pub fn windows(self) -> u32 {
        self.patches().div_ceil(WINDOW)
    }

    /// BAS is always there; RESP begins with the fourth window; EKG never comes; EMG is absent in
    /// the sixth window of the live pass and in the third one of the final pass.
    pub fn present(pass: Pass, window: u32, modality: Modality) -> bool {
        match (modality, pass) {
            (Modality::Bas, _) => true,
            (Modality::Resp, _) => window >= 3,
            (Modality::Ekg, _) => false,
            (Modality::Emg, Pass::Live) => window != 5,
            (Modality::Emg, Pass::Final) => window != 2,
        }
    }

    /// The figure of a token data set at a row and column; NaN where the row is absent.
    pub fn token(pass: Pass, modality: Modality, patch: u32, column: usize) -> f32 {
        let lost_patch = modality == Modality::Emg && patch == 7;
        if lost_patch || !Self::present(pass, patch / WINDOW, modality) {
            return f32::NAN;
        }
        let sign = if pass == Pass::Live { 1.0 } else { -1.0 };
        sign * (1.0 + patch as f32 + modality.index() as f32 / 4.0 + column as f32 / 1024.0)
    }

    /// The figure of a data set of the group `5min`.
    pub fn pooled(pass: Pass, modality: Modality, window: u32, column: usize) -> f32 {
        if !Self::present(pass, window, modality) {
            return f32::NAN;
        }
        let sign = if pass == Pass::Live { 1.0 } else { -1.0 };
        sign * (1e5 + window as f32 + modality.index() as f32 / 4.0 + column as f32 / 128.0)
    }

    pub fn window(self, pass: Pass, window: u32) -> Event {
        let first_patch = window * WINDOW;
        let patches = WINDOW.min(self.patches() - first_patch);
        let values = |modality| {
            let columns = move |patch| (0..self.dim).map(move |c| (patch, c));
            Self::present(pass, window, modality).then(|| {
                (first_patch..first_patch + patches)
                    .flat_map(columns)
                    .map(|(patch, column)| Self::token(pass, modality, patch, column))
                    .collect()
            })
        };
        let pooled = |modality| {
            Self::present(pass, window, modality)
                .then(|| (0..self.dim).map(|c| Self::pooled(pass, modality, window, c)).collect())
        };
        Event::Window(Box::new(WindowEmbedding {
            pass,
            window,
            first_patch,
            patches,
            embed_dim: self.dim,
            tokens: Modality::ALL.map(values),
            pooled: Modality::ALL.map(pooled),
        }))
    }

    /// A walk over the stages that differs a little between what is known when.
    pub fn stage(epoch: u32, status: EpochStatus) -> Option<SleepStage> {
        let mut mixed = (epoch / 9).wrapping_mul(0x9e37_79b9);
        mixed ^= mixed >> 15;
        let hesitates = epoch.is_multiple_of(9);
        match (mixed % 11, status) {
            (10, _) => None,
            (_, EpochStatus::Provisional) if hesitates => Some(SleepStage::Wake),
            (_, EpochStatus::Settled) if hesitates => Some(SleepStage::N1),
            (m, _) => SleepStage::ALL.get(m as usize / 2).copied(),
        }
    }

    pub fn epoch(pass: Pass, epoch: u32, status: EpochStatus) -> Event {
        let stage = Self::stage(epoch, status);
        let probability = |of: SleepStage| match stage {
            None => f32::NAN,
            Some(stage) if stage == of => 0.8,
            Some(_) => 0.05,
        };
        Event::Epoch(SleepEpoch {
            pass,
            epoch,
            onset_s: 30.0 * f64::from(epoch),
            stage,
            probabilities: SleepStage::ALL.map(probability),
            quality: if stage.is_some() { 1.0 } else { 0.125 },
            confidence: if stage.is_some() { 0.8 } else { 0.0 },
            status,
        })
    }

    /// Both passes, in the order in which the pipeline speaks.
    pub fn events(self) -> Vec<Event> {
        let mut events = vec![self.started(Pass::Live)];
        for window in 0..self.windows() {
            let last = self.epochs.min((window + 1) * 10);
            let epochs = window * 10..last;
            events.extend(
                epochs.clone().map(|e| Self::epoch(Pass::Live, e, EpochStatus::Provisional)),
            );
            events.extend(epochs.map(|e| Self::epoch(Pass::Live, e, EpochStatus::Settled)));
            events.push(self.window(Pass::Live, window));
        }
        events.push(Event::Gap(gap()));
        events.push(self.night(Pass::Live, EpochStatus::Settled));
        events.push(self.started(Pass::Final));
        events.extend((0..self.windows()).map(|w| self.window(Pass::Final, w)));
        events.extend((0..self.epochs).map(|e| Self::epoch(Pass::Final, e, EpochStatus::Final)));
        events.push(self.night(Pass::Final, EpochStatus::Final));
        events
    }

    pub fn started(self, pass: Pass) -> Event {
        Event::Started(Box::new(Started {
            pass,
            format: "EDF+C".to_owned(),
            start: Some("2024-02-29T22:15:30".to_owned()),
            duration_s: Some(30.0 * f64::from(self.epochs)),
            channels: vec![ChannelUse {
                unit: "uV".to_owned(),
                channel: 0,
                label: "C4-M1".to_owned(),
                rate_hz: 256.0,
                modality: Some(Modality::Bas),
                rule: "EEG derivation".to_owned(),
            }],
            modalities_absent: vec![Modality::Ekg],
            bundle: "synthetic".to_owned(),
            bundle_sha256: "00".repeat(32),
            training_data: "nothing".to_owned(),
            caution: Some("random weights".to_owned()),
            backend: "none: the events are made up".to_owned(),
        }))
    }

    pub fn night(self, pass: Pass, status: EpochStatus) -> Event {
        let hypnogram: Vec<_> = (0..self.epochs).map(|e| Self::stage(e, status)).collect();
        Event::Night(Box::new(Night {
            pass,
            statistics: SleepStatistics::from_hypnogram(&hypnogram),
            lights: Lights::default(),
            counted: 0..hypnogram.len(),
            missing: Vec::new(),
            risk: Some(OvernightRisk {
                embedding: (0..self.dim).map(|c| c as f32 / 7.0).collect(),
                log_hazards: vec![0.5, -1.25, f32::NAN],
                percentiles: None,
                tokens: self.patches(),
                tokens_left_out: 0,
            }),
            apnea: Some(ApneaEstimate {
                ahi_5: 0.75,
                ahi_15: 0.5,
                severity: [0.25, 0.25, 0.25, 0.25],
                tokens: 2,
            }),
            ledger: vec![ChannelLedger { label: "C4-M1".to_owned(), ..Default::default() }],
            notes: vec!["made up".to_owned()],
        }))
    }
}

pub fn labels() -> Vec<(String, String)> {
    vec![
        ("250.2".to_owned(), "Type 2 diabetes".to_owned()),
        ("427.21".to_owned(), "Fibrillation, \"atrial\"".to_owned()),
    ]
}

fn gap() -> Gap {
    Gap {
        pass: Pass::Live,
        channel: 0,
        label: "C4-M1".to_owned(),
        start: 256,
        samples: 128,
        onset_s: 1.0,
        duration_s: 0.5,
    }
}
