//! Whole reports, of nights made of events.

use sfm_models::{Modality, SleepStage};

use super::*;
use crate::event::{
    ApneaEstimate, ChannelLedger, ChannelPatch, ChannelQuality, ChannelUse, EpochQuality,
    EpochStatus, Gap, OvernightRisk, Pass, SignalPatch, SleepEpoch, Started,
};
use crate::lights::{Lights, LightsMark};
use crate::skip::skipped;
use crate::statistics::SleepStatistics;

pub(super) fn channel(
    index: usize,
    label: &str,
    unit: &str,
    modality: Option<Modality>,
) -> ChannelUse {
    ChannelUse {
        channel: index,
        label: label.to_owned(),
        rate_hz: 128.0,
        unit: unit.to_owned(),
        modality,
        rule: "a rule".to_owned(),
    }
}

pub(super) fn started(pass: Pass) -> Started {
    Started {
        pass,
        format: "EDF".to_owned(),
        start: Some("2024-03-01T22:30:00".to_owned()),
        duration_s: Some(28_800.0),
        channels: vec![
            channel(0, "C4-M1", "uV", Some(Modality::Bas)),
            channel(1, "ECG", "mV", Some(Modality::Ekg)),
            channel(2, "SpO2", "%", Some(Modality::Resp)),
            channel(3, "Position", "", None),
            channel(4, "LLEG", "uV", Some(Modality::Emg)),
        ],
        modalities_absent: vec![],
        bundle: "test".to_owned(),
        bundle_sha256: "00ff".to_owned(),
        training_data: "simulated sleep".to_owned(),
        caution: Some("trained on simulated sleep only".to_owned()),
        backend: "tract".to_owned(),
    }
}

fn stages(letters: &str) -> Vec<Option<SleepStage>> {
    let stage = |letter| SleepStage::ALL.get("W123R".find(letter)?).copied();
    letters.chars().map(stage).collect()
}

pub(super) fn night(pass: Pass, letters: &str) -> Night {
    Night {
        statistics: SleepStatistics::from_hypnogram(&stages(letters)),
        counted: 0..letters.len(),
        ledger: vec![ChannelLedger { channel: 0, label: "C4-M1".to_owned(), ..Default::default() }],
        ..Night::empty(pass)
    }
}

fn epoch(index: usize, stage: Option<SleepStage>, status: EpochStatus) -> Event {
    let probability = |k| match stage {
        None => f32::NAN,
        Some(stage) if stage.index() == k => 0.8,
        Some(_) => 0.05,
    };
    Event::Epoch(SleepEpoch {
        pass: if status == EpochStatus::Final { Pass::Final } else { Pass::Live },
        epoch: index as u32,
        onset_s: index as f64 * 30.0,
        stage,
        probabilities: std::array::from_fn(probability),
        quality: 1.0,
        confidence: 0.8,
        status,
    })
}

fn risk() -> Option<OvernightRisk> {
    Some(OvernightRisk {
        embedding: vec![],
        log_hazards: vec![0.5, -0.25],
        percentiles: Some(vec![81.5, 12.0]),
        tokens: 9,
        tokens_left_out: 0,
    })
}

/// 5 s with a tone, saturation, and nothing else.
fn patch(index: u32) -> Event {
    let samples = |value: &dyn Fn(f32) -> f32| (0..640).map(|n| value(n as f32 / 128.0)).collect();
    let tone = |t: f32| 20.0 * (std::f32::consts::TAU * 10.0 * t).sin();
    let signals = [(0, samples(&tone)), (2, samples(&|_| 95.0)), (4, samples(&tone))];
    let channels = signals.map(|(channel, samples)| ChannelPatch { channel, samples });
    Event::Signals(Box::new(SignalPatch {
        pass: Pass::Live,
        patch: index,
        onset_s: f64::from(index) * 5.0,
        rate_hz: 128.0,
        channels: channels.to_vec(),
    }))
}

/// A folder, and the sinks' way through it.
struct Bench {
    dir: tempfile::TempDir,
    sinks: Vec<Box<dyn Sink>>,
    lights: Lights,
    risk: Option<OvernightRisk>,
    apnea: Option<ApneaEstimate>,
}

impl Bench {
    fn new(args: &ReportArgs, study: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let recording = dir.path().join("study.edf");
        std::fs::write(&recording, "abc").expect("written");
        let sinks = Self::open(args, study, dir.path());
        Bench { sinks, dir, lights: Lights::default(), risk: risk(), apnea: None }
    }

    fn open(args: &ReportArgs, study: &str, dir: &Path) -> Vec<Box<dyn Sink>> {
        let recording = dir.join("study.edf");
        let place = Place {
            out_dir: dir,
            study,
            recording: &recording,
            labels: &[],
            quantiles: None,
            resumed: None,
            health: None,
        };
        let about = About {
            cohort: Some(("a cohort".to_owned(), 160)),
            labels: vec![("401.1".to_owned(), "High <b>pressure".to_owned())],
            settings: vec![("map", "X=\"<script>".to_owned())],
        };
        args.sinks(&place, about).expect("opened")
    }

    fn take(&mut self, event: &Event) {
        self.sinks.iter_mut().for_each(|sink| sink.take(event).expect("taken"));
    }

    /// A live pass, then a final one whose stages are `letters` and whose live ones `live`.
    fn passes(&mut self, live: &str, letters: &str, started: &dyn Fn(Pass) -> Started) {
        self.take(&Event::Started(Box::new(started(Pass::Live))));
        for (index, stage) in stages(live).into_iter().enumerate() {
            self.take(&epoch(index, stage, EpochStatus::Provisional));
            self.take(&epoch(index, stage, EpochStatus::Settled));
        }
        (0..60).for_each(|index| self.take(&patch(index)));
        self.take(&Event::Night(Box::new(night(Pass::Live, live))));
        self.take(&Event::Started(Box::new(started(Pass::Final))));
        for (index, stage) in stages(letters).into_iter().enumerate() {
            self.take(&epoch(index, stage, EpochStatus::Final));
        }
        let (lights, missing) = (self.lights.clone(), started(Pass::Final).modalities_absent);
        let counted = lights.epochs(letters.len());
        let night = night(Pass::Final, &letters[counted.clone()]);
        let (risk, apnea) = (self.risk.clone(), self.apnea.clone());
        let night = Night { risk, apnea, lights, counted, missing, ..night };
        self.take(&Event::Night(Box::new(night)));
    }

    fn html(&self) -> String {
        std::fs::read_to_string(self.dir.path().join(FILE_NAME)).expect("a report")
    }
}

fn report(letters: &str) -> String {
    let mut bench = Bench::new(&ReportArgs::default(), "study");
    bench.passes(letters, letters, &started);
    bench.html()
}

/// A bench whose reports are PDF too; `None` where the machine has no font.
fn with_pdf(study: &str) -> Option<Bench> {
    if Painter::new().is_none() {
        skipped("fonts", "PDF: no font is installed");
        return None;
    }
    Some(Bench::new(&ReportArgs { report_pdf: true, ..Default::default() }, study))
}

fn eight_hours() -> String {
    [
        "W".repeat(30),
        "1".repeat(30),
        "2".repeat(500),
        "3".repeat(150),
        "R".repeat(200),
        "W".repeat(50),
    ]
    .concat()
}

#[test]
fn a_night_is_told_with_its_figures_and_where_they_come_from() {
    let html = report(&eight_hours());
    for text in [
        "<!DOCTYPE html>",
        "lang=\"en\"",
        "trained on simulated sleep only",
        "data-aasm=\"TST\">440.0 min",
        "data-yasa=\"Lat_REM\">355.0 min",
        "data-aasm=\"Lat_REM\">340.0 min",
        "960 of 960 epochs (100.0 %) kept their stage",
        "81.5",
        "a cohort (160 recordings)",
        // Of "abc".
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "2024-03-01 22:30:00",
        "23:00\n</text>",
        "id=\"desc-spectrogram\"",
        "Spectrogram of C4-M1",
        "Not shown, since no channel gives it: Heart rate from ECG.",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(html.len() < 500_000, "{} bytes", html.len());
}

#[test]
fn nothing_is_fetched_and_no_script_runs() {
    let html = report(&eight_hours());
    let namespaces = html.replace("http://www.w3.org/2000/svg", "");
    for forbidden in
        ["http://", "https://", "//", "<script", "<link", "@import", "<iframe", "onload"]
    {
        let found = namespaces.match_indices(forbidden).filter(|(at, _)| {
            // Base64 may hold anything.
            !namespaces[..*at]
                .rsplit('"')
                .next()
                .is_some_and(|start| start.starts_with("data:image/png"))
        });
        assert_eq!(found.count(), 0, "{forbidden}");
    }
}

#[test]
fn names_are_harmless_wherever_they_come_from() {
    let evil = "Zoë \"O'Hara\" <script>alert(1)</script> 李\u{202e}\u{7}&amp;";
    let of = |pass| {
        let mut started = started(pass);
        for channel in &mut started.channels {
            channel.label = format!("<b>{}", channel.label);
            channel.unit = "</td>".to_owned();
        }
        let evil = || evil.to_owned();
        (started.bundle, started.training_data, started.backend) = (evil(), evil(), evil());
        (started.caution, started.start) = (Some(evil()), Some(evil()));
        started.channels[3].rule = evil();
        started
    };
    let args = ReportArgs { plots: true, report_pdf: true, ..Default::default() };
    let mut bench = Bench::new(&args, evil);
    bench.take(&Event::Warning { message: evil.to_owned() });
    bench.passes(&eight_hours(), &eight_hours(), &of);
    let html = bench.html();
    assert!(html.contains("李") && html.contains("Zoë"));
    assert_eq!(bench.dir.path().join(PDF).exists(), Painter::new().is_some());
    let mut texts = vec![html];
    for file in std::fs::read_dir(bench.dir.path().join(PLOTS)).expect("plots") {
        let path = file.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            let svg = std::fs::read_to_string(&path).expect("read");
            resvg::usvg::roxmltree::Document::parse(&svg).expect("well-formed");
            texts.push(svg);
        }
    }
    assert!(texts.len() > 4);
    for text in texts {
        for forbidden in ["<script>", "<b>", "</td></td>", "\u{202e}", "\u{7}", "alert(1)</script>"]
        {
            assert!(!text.contains(forbidden), "{forbidden:?}");
        }
    }
}

/// What it says is checked by `tests/foreign/report.py`, which reads it.
#[test]
fn every_night_is_a_pdf_too_and_equal_nights_are_equal_bytes() {
    let pdf_of = |letters: &str| {
        let mut bench = with_pdf("study")?;
        bench.passes(letters, letters, &started);
        bench.sinks[0].finish().expect("nothing is left undone");
        let pdf = std::fs::read(bench.dir.path().join(PDF)).expect("a PDF");
        assert!(pdf.starts_with(b"%PDF-1.7") && pdf.len() < 1_000_000, "{} bytes", pdf.len());
        Some(pdf)
    };
    let Some(night) = pdf_of(&eight_hours()) else { return };
    assert!(night == pdf_of(&eight_hours()).expect("as before"));
    for letters in [&*"W".repeat(960), &"2".repeat(20), &"?".repeat(960), ""] {
        assert!(pdf_of(letters).is_some_and(|pdf| pdf != night));
    }
}

#[test]
fn nights_that_are_none_say_so_and_give_no_hazards() {
    let no_sleep = report(&"W".repeat(960));
    assert!(no_sleep.contains("No sleep: not one epoch"), "no sleep");
    let short = report(&"2".repeat(20));
    assert!(short.contains("The recording is 10 min long"), "10 min");
    let unscored = report(&"?".repeat(960));
    assert!(unscored.contains("all of them are “?”"), "every epoch '?'");
    let nothing = report("");
    assert!(nothing.contains("the recording holds no epoch"), "nothing");
    for html in [no_sleep, short, unscored, nothing] {
        assert!(!html.contains("Phecode") && !html.contains("81.5"));
        assert!(html.contains("No relative hazards are shown: they need 4 h of sleep."));
    }
    let day = report(&eight_hours().repeat(3));
    assert!(day.contains("Phecode") && !day.contains("The recording is"));
    assert!(day.len() < 900_000, "{} bytes", day.len());
}

#[test]
fn hazards_are_withheld_where_two_modalities_are_missing() {
    let absent =
        |pass| Started { modalities_absent: vec![Modality::Resp, Modality::Emg], ..started(pass) };
    let mut bench = Bench::new(&ReportArgs::default(), "study");
    bench.passes(&eight_hours(), &eight_hours(), &absent);
    let html = bench.html();
    assert!(html.contains("two or more kinds of signals are missing (RESP, EMG)"));
    assert!(!html.contains("Phecode"));
}

#[test]
fn apnea_is_shown_where_hazards_are_not() {
    let apnea = ApneaEstimate { ahi_5: 0.75, ahi_15: 0.25, severity: [0.25; 4], tokens: 9 };
    for risk in [None, risk()] {
        let mut bench = Bench::new(&ReportArgs::default(), "study");
        (bench.risk, bench.apnea) = (risk.clone(), Some(apnea.clone()));
        bench.passes(&eight_hours(), &eight_hours(), &started);
        let html = bench.html();
        assert_eq!(html.contains("Relative hazards</h2>"), risk.is_some());
        assert!(html.contains("at least 5/h 75 % likely, of at least 15/h 25 %"));
    }
    // Of a night that says too little, neither.
    let mut bench = Bench::new(&ReportArgs::default(), "study");
    bench.apnea = Some(apnea);
    bench.passes("WW22", "WW22", &started);
    assert!(!bench.html().contains("Sleep apnea by the network"));
}

#[test]
fn what_changed_between_the_passes_is_counted() {
    let mut bench = Bench::new(&ReportArgs::default(), "study");
    let letters = eight_hours();
    bench.passes(&letters.replacen("W1", "WR", 1), &letters, &started);
    assert!(bench.html().contains("959 of 960 epochs (99.9 %) kept their stage"));
}

#[test]
fn statistics_count_from_lights_off_to_lights_on() {
    let mut bench = Bench::new(&ReportArgs::default(), "study");
    bench.lights = Lights {
        off_s: Some(300.0),
        on_s: Some(28_500.0),
        marks: [(300.0, false), (28_500.0, true)]
            .map(|(onset_s, is_on)| LightsMark { onset_s, is_on })
            .to_vec(),
        notes: vec![],
    };
    bench.passes(&eight_hours(), &eight_hours(), &started);
    let html = bench.html();
    for text in [
        "data-first=\"10\" data-end=\"950\"",
        "data-aasm=\"TIB\">470.0 min",
        "data-aasm=\"SOL\">10.0 min",
        "data-aasm=\"WASO\">20.0 min",
        "from lights off to lights on, 5 min to 7 h 55 min behind the start",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(report(&eight_hours()).contains("Counted is the whole recording"));
}

#[test]
fn recordings_of_weeks_are_cut_in_the_pictures_alone() {
    let mut record = Record::default();
    let events = [0, 5_759, 5_760, u32::MAX as usize].map(|at| epoch(at, None, EpochStatus::Final));
    events.iter().for_each(|event| record.take(event));
    assert!(record.is_cut() && record.epochs.len() == record::MAX_EPOCHS);
}

#[test]
fn plots_are_pictures_that_other_programs_open() {
    let args = ReportArgs { no_report: true, plots: true, ..Default::default() };
    let mut bench = Bench::new(&args, "study");
    bench.take(&Event::Started(Box::new(started(Pass::Live))));
    let pass = Pass::Live;
    bench.take(&Event::Gap(Gap {
        pass,
        channel: 0,
        label: String::new(),
        start: 0,
        samples: 1,
        onset_s: 60.0,
        duration_s: 90.0,
    }));
    let flat = ChannelQuality { channel: 1, flat: 1.0, lead_off: true, ..Default::default() };
    let quality = EpochQuality { pass, epoch: 4, sound: 0.5, channels: vec![flat] };
    bench.take(&Event::Quality(Box::new(quality)));
    bench.passes("WW22?R", "WW22?R", &started);
    assert!(!bench.dir.path().join(FILE_NAME).exists());
    let plots = bench.dir.path().join(PLOTS);
    for name in ["hypnogram", "hypnodensity", "spectrogram", "spo2", "movement", "quality"] {
        assert!(plots.join(format!("{name}.svg")).exists(), "{name}");
    }
    if Painter::new().is_none() {
        skipped("fonts", "PNG: no font is installed");
        let left_undone = bench.sinks[0].finish().expect_err("said once");
        assert!(left_undone.to_string().contains("no font"));
        return;
    }
    let png = std::fs::read(plots.join("hypnogram.png")).expect("a PNG");
    let pixels = resvg::tiny_skia::Pixmap::decode_png(&png).expect("it is one");
    let count = |color: (u8, u8, u8)| {
        pixels.pixels().iter().filter(|p| (p.red(), p.green(), p.blue()) == color).count()
    };
    assert_eq!(pixels.width(), figures::WIDTH);
    assert!(count((0xc8, 0x44, 0x1b)) > 1_000, "REM has its own color");
}

#[test]
fn an_older_report_does_not_stay() {
    let bench = Bench::new(&ReportArgs { plots: true, ..Default::default() }, "study");
    let dir = bench.dir.path();
    std::fs::create_dir_all(dir.join(PLOTS)).expect("made");
    let old = [dir.join(FILE_NAME), dir.join(PDF), dir.join(PLOTS).join("spo2.png")];
    old.iter().for_each(|path| std::fs::write(path, "old").expect("written"));
    let none = ReportArgs { no_report: true, ..Default::default() };
    assert!(Bench::open(&none, "study", dir).is_empty());
    assert!(old.iter().all(|path| !path.exists()));
}

/// The page's second column is what YASA says of ten hypnograms (`tests/foreign/hypnogram.py`), to
/// the page's one decimal; REM latency and WASO of the first are those of the AASM manual.
#[test]
fn the_second_column_is_yasas() {
    let goldens = include_str!("../../../../tests/data/yasa.json");
    let goldens: Vec<serde_json::Value> = serde_json::from_str(goldens).expect("JSON");
    assert_eq!(goldens.len(), 10);
    for golden in &goldens {
        let html = report(golden["hypnogram"].as_str().expect("a hypnogram"));
        let cell = |column: &str, key: &str| -> Option<f64> {
            let (_, rest) = html.split_once(&format!("{column}=\"{key}\">")).expect(key);
            let text = rest.split(['<', ' ']).next().expect("a cell");
            text.parse().ok()
        };
        let yasa = |key: &str| golden["yasa"][key].as_f64();
        let agree = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < 0.051,
            (a, b) => a.is_none() && b.is_none(),
        };
        for key in ["TIB", "SPT", "TST", "SE", "SME", "SOL", "Lat_REM", "WASO"] {
            let ours = cell("data-yasa", key);
            assert!(agree(ours, yasa(key)), "{key}: {ours:?}, YASA {:?}", yasa(key));
        }
        for (stage, name) in [("W", "WAKE"), ("N1", "N1"), ("N2", "N2"), ("N3", "N3"), ("R", "REM")]
        {
            assert!(agree(cell("data-stage", stage), yasa(name)), "{name}");
        }
        let aasm = yasa("Lat_REM").zip(yasa("SOL")).map(|(rem, onset)| rem - onset);
        assert!(agree(cell("data-aasm", "Lat_REM"), aasm), "REM latency");
    }
}
