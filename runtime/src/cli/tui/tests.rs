use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::event::{
    ChannelPatch, ChannelQuality, ChannelUse, EpochQuality, Event, Gap, ModalityChange,
    SignalPatch, SleepEpoch, Started,
};

/// The screen as text.
fn picture(state: &State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, state)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(width).max(1));
    let text = |row: &[ratatui::buffer::Cell]| row.iter().map(|c| c.symbol()).collect::<String>();
    rows.map(|row| text(row) + "\n").collect()
}

fn started() -> Started {
    let channel = |channel, label: &str, modality| ChannelUse {
        channel,
        label: label.to_owned(),
        rate_hz: 128.0,
        unit: String::new(),
        modality,
        rule: String::new(),
    };
    Started {
        pass: Pass::Live,
        format: "EDF".to_owned(),
        start: None,
        duration_s: Some(600.0),
        channels: vec![
            channel(0, "C4\u{1b}[2J", Some(Modality::Bas)),
            channel(1, "Photo", None),
            channel(2, "Airflow", Some(Modality::Resp)),
        ],
        modalities_absent: vec![],
        bundle: "default".to_owned(),
        bundle_sha256: String::new(),
        training_data: String::new(),
        caution: Some("trained on simulated sleep".to_owned()),
        backend: String::new(),
    }
}

fn epoch(epoch: u32, stage: Option<SleepStage>, status: EpochStatus) -> Event {
    Event::Epoch(SleepEpoch {
        pass: Pass::Live,
        epoch,
        onset_s: 30.0 * f64::from(epoch),
        stage,
        probabilities: [0.05, 0.05, 0.1, 0.05, 0.75],
        quality: 0.9,
        confidence: 0.5,
        status,
    })
}

fn night() -> State {
    let mut state = State::new("study\u{7}");
    state.take(&Event::Started(Box::new(started())));
    for patch in 0..8 {
        let samples: Vec<f32> = (0..640).map(|k| (k as f32 / 20.0).sin()).collect();
        state.take(&Event::Signals(Box::new(SignalPatch {
            pass: Pass::Live,
            patch,
            onset_s: 5.0 * f64::from(patch),
            rate_hz: 128.0,
            channels: vec![
                ChannelPatch { channel: 0, samples },
                ChannelPatch { channel: 2, samples: vec![] },
            ],
        })));
    }
    for index in 0..10 {
        let stage = if index < 5 { SleepStage::N2 } else { SleepStage::Rem };
        state.take(&epoch(index, Some(stage), EpochStatus::Settled));
    }
    state.take(&Event::Quality(Box::new(EpochQuality {
        pass: Pass::Live,
        epoch: 10,
        sound: 0.5,
        channels: vec![ChannelQuality {
            channel: 0,
            label: "C4".to_owned(),
            lead_off: true,
            ..ChannelQuality::default()
        }],
    })));
    state.take(&epoch(10, Some(SleepStage::Rem), EpochStatus::Provisional));
    state.take(&Event::Gap(Gap {
        pass: Pass::Live,
        channel: 2,
        label: "Airflow".to_owned(),
        start: 0,
        samples: 320,
        onset_s: 1.0,
        duration_s: 2.5,
    }));
    state.take(&Event::Warning { message: "an odd header".to_owned() });
    state
}

#[test]
fn the_picture_has_everything() {
    let text = picture(&night(), 100, 32);
    for wanted in [
        "research software, not a medical device",
        "trained on simulated sleep",
        "live 00:00:40 of 00:10:00",
        "default",
        "BAS",
        "RESP",
        "stage R  provisional 00:05:00",
        "0.75",
        "present 90 %, sound 50 %",
        "lead off: C4",
        "1 gap, 2.50 s  Airflow",
        "warning: an odd header",
    ] {
        assert!(text.contains(wanted), "no '{wanted}' in\n{text}");
    }
    assert!(text.contains('░') && text.contains("RRRR"), "{text}");
    assert!(text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "a signal\n{text}");
    assert!(!text.contains(['\u{1b}', '\u{7}']), "nothing a terminal obeys");
    assert!(!text.contains("Photo"), "no modality, no strip");
}

#[test]
fn the_last_half_minute_is_kept_and_absent_samples_are_none() {
    let state = night();
    assert_eq!(state.traces[0].samples.len(), 3840);
    assert!(state.traces[2].samples.iter().all(|sample| sample.is_nan()));
    assert!(bars(&state.traces[2], 100, 128.0).is_empty());
    let bars = bars(&state.traces[0], 100, 128.0);
    assert_eq!(bars.len(), 100);
    assert!(bars.iter().all(|bar| bar.1 <= bar.2 && (0.0..SHOWN_S).contains(&bar.0)));
}

#[test]
fn no_size_is_too_small() {
    let (night, empty) = (night(), State::new("study"));
    for (width, height) in [(40, 12), (72, 22), (71, 60), (1, 1), (3, 40), (200, 2), (0, 0)] {
        for state in [&night, &empty] {
            picture(state, width, height);
        }
    }
    let text = picture(&night, 40, 12);
    assert!(text.contains("stage R  provisional") && text.contains("hypnogram"), "{text}");
}

#[test]
fn the_final_pass_keeps_the_stages_and_counts_gaps_anew() {
    let mut state = night();
    state.take(&Event::Started(Box::new(Started { pass: Pass::Final, ..started() })));
    assert!(picture(&state, 100, 32).contains("final 00:00:00 of 00:10:00"));
    assert_eq!(state.epochs.iter().flatten().count(), 11);
    assert_eq!(state.traces[2].gaps, 0);
    state.take(&Event::Modality(ModalityChange {
        pass: Pass::Final,
        modality: Modality::Resp,
        present: false,
        epoch: 0,
        onset_s: 0.0,
    }));
    state.take(&epoch(0, None, EpochStatus::Final));
    let text = picture(&state, 100, 32);
    assert!(text.contains("lost: RESP") && text.contains("stage ?"), "{text}");
}

#[test]
fn what_is_wrong_with_a_session_is_in_the_head() {
    let mut night = night();
    let why = "device 00000000000000a1: no samples for 12 s".to_owned();
    night.trouble = Some((Status::Degraded, why.clone()));
    for (width, height) in [(100, 32), (60, 12)] {
        let text = picture(&night, width, height);
        assert!(text.contains(&format!("degraded: {why}")), "{text}");
        assert!(text.contains("stage R  provisional") && text.contains("hypnogram"), "{text}");
    }
}
