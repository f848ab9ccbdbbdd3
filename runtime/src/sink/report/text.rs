//! Every word of the report by language. A new language is one more constant, and the compiler says
//! which texts it lacks. `{}` stands for what [`fill`] puts there, in order. Labels and notes that
//! come from elsewhere stay as they are.

use clap::ValueEnum;
use serde::Deserialize;

/// Languages of the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English
    #[default]
    En,
}

impl Language {
    pub(super) fn text(self) -> &'static Text {
        match self {
            Language::En => &EN,
        }
    }
}

/// `template` with its `{}` replaced in order.
pub(super) fn fill(template: &str, values: &[&str]) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut parts = template.split("{}");
    filled.push_str(parts.next().unwrap_or_default());
    for (part, value) in parts.zip(values.iter().copied().chain(std::iter::repeat(""))) {
        filled.push_str(value);
        filled.push_str(part);
    }
    filled
}

/// The texts.
#[derive(Debug)]
pub(super) struct Text {
    /// As `lang` has it.
    pub code: &'static str,
    pub title: &'static str,
    pub research: &'static str,
    pub start: &'static str,
    pub duration: &'static str,
    pub not_known: &'static str,
    pub pass: &'static str,
    pub pass_live: &'static str,
    pub pass_final: &'static str,
    pub no_sleep: &'static str,
    pub no_epochs: &'static str,
    pub all_unscored: &'static str,
    pub short: &'static str,
    pub cut: &'static str,
    pub figures: &'static str,
    pub scroll: &'static str,
    pub clock: &'static str,
    pub hours: &'static str,
    pub hypnogram: &'static str,
    pub epochs_of: &'static str,
    pub hypnodensity: &'static str,
    pub hypnodensity_described: &'static str,
    pub spectrogram: &'static str,
    pub spectrogram_described: &'static str,
    pub spectrogram_unit: &'static str,
    pub spo2: &'static str,
    pub heart: &'static str,
    pub muscle: &'static str,
    pub muscle_unitless: &'static str,
    pub lane_described: &'static str,
    pub quality: &'static str,
    pub quality_described: &'static str,
    pub not_shown: &'static str,
    pub unscored: &'static str,
    pub mean: &'static str,
    pub lowest: &'static str,
    pub sound: &'static str,
    pub gap: &'static str,
    pub flat: &'static str,
    pub out_of_range: &'static str,
    pub line_noise: &'static str,
    pub lights_off: &'static str,
    pub lights_on: &'static str,
    pub lights_unknown: &'static str,
    pub lights_counted: &'static str,
    pub lights_not_counted: &'static str,
    pub statistics: &'static str,
    pub statistics_lead: &'static str,
    pub measure: &'static str,
    pub trt: &'static str,
    pub spt: &'static str,
    pub tst: &'static str,
    pub efficiency: &'static str,
    pub maintenance: &'static str,
    pub sol: &'static str,
    pub rem_latency: &'static str,
    pub waso: &'static str,
    pub awakenings: &'static str,
    pub stage_changes: &'static str,
    pub not_scored: &'static str,
    pub stage: &'static str,
    pub minutes: &'static str,
    pub of_tst: &'static str,
    pub definitions: &'static str,
    pub agreement: &'static str,
    pub agreement_lead: &'static str,
    pub agreement_none: &'static str,
    pub provisional_settled: &'static str,
    pub settled_final: &'static str,
    pub kept: &'static str,
    pub kappa: &'static str,
    pub from_to: &'static str,
    pub channels: &'static str,
    pub channels_lead: &'static str,
    pub channel: &'static str,
    pub missing: &'static str,
    pub gaps: &'static str,
    pub longest_value: &'static str,
    pub bad_epochs: &'static str,
    pub risk: &'static str,
    pub risk_lead: &'static str,
    pub risk_cohort: &'static str,
    pub risk_caveat: &'static str,
    pub percentile: &'static str,
    pub log_hazard: &'static str,
    pub phenotype: &'static str,
    pub no_name: &'static str,
    pub withheld_sleep: &'static str,
    pub withheld_modalities: &'static str,
    pub withheld_cohort: &'static str,
    pub apnea: &'static str,
    pub apnea_said: &'static str,
    pub notes: &'static str,
    pub provenance: &'static str,
    pub software: &'static str,
    pub bundle: &'static str,
    pub trained_on: &'static str,
    pub engine: &'static str,
    pub recording: &'static str,
    pub checksum: &'static str,
    pub checksum_later: &'static str,
    pub checksum_unreadable: &'static str,
    pub settings: &'static str,
    pub channel_map: &'static str,
    pub rate: &'static str,
    pub unit: &'static str,
    pub used_for: &'static str,
    pub rule: &'static str,
    pub not_used: &'static str,
}

const EN: Text = Text {
    code: "en",
    title: "Sleep report",
    research: "Research software, not a medical device. Nothing on this page is a diagnosis or fit to base one on.",
    start: "Start of recording",
    duration: "Length",
    not_known: "not known",
    pass: "Stages",
    pass_live: "as they were scored live; a pass over the whole recording replaces them",
    pass_final: "final, scored with the whole recording as context",
    no_sleep: "No sleep: not one epoch was staged N1, N2, N3 or R. Latencies and shares of sleep do not exist.",
    no_epochs: "Nothing was staged: the recording holds no epoch.",
    all_unscored: "Nothing could be staged: too little signal is present in every epoch, so all of them are “?”.",
    short: "The recording is {} long. Statistics of a night mean little over so short a time.",
    cut: "The pictures show the first 48 h; the statistics count everything.",
    figures: "The night",
    scroll: "Charts of the night on one time axis; scroll sideways on a narrow screen",
    clock: "Times are the recording’s local time.",
    hours: "The recording does not say when it began: times are hours since its start.",
    hypnogram: "Hypnogram",
    epochs_of: "Epochs by stage",
    hypnodensity: "Hypnodensity: how probable the network finds each stage",
    hypnodensity_described: "Stacked probabilities of N3, N2, N1, R and W over the night, from below",
    spectrogram: "Spectrogram of {}",
    spectrogram_described: "Welch spectra, an epoch a column, 0.5 to 30 Hz; colors from {} to {} dB",
    spectrogram_unit: "re 1 µV²/Hz",
    spo2: "Oxygen saturation, {}",
    heart: "Heart rate from {}",
    muscle: "Muscle activity of {}, {} RMS",
    muscle_unitless: "unit not known,",
    lane_described: "From {} to {}, median {}",
    quality: "Signal quality and gaps by channel",
    quality_described: "A strip for each channel; the table of channels has the same in numbers",
    not_shown: "Not shown, since no channel gives it: {}.",
    unscored: "? (not staged)",
    mean: "mean",
    lowest: "lowest",
    sound: "sound",
    gap: "missing",
    flat: "flat or electrode off",
    out_of_range: "clipped or implausible",
    line_noise: "50 or 60 Hz",
    lights_off: "Lights off",
    lights_on: "Lights on",
    lights_unknown: "Lights off and on are not in the recording.",
    lights_counted: "Counted are the epochs from lights off to lights on, {} to {} behind the start of the recording; night.json and cohort.csv count the whole recording.",
    lights_not_counted: "Counted is the whole recording, as if the lights went off at its start and on at its end.",
    statistics: "Sleep statistics",
    statistics_lead: "By the definitions of the AASM manual, and beside them as YASA counts.",
    measure: "Measure",
    trt: "Total recording time (TRT; YASA: TIB)",
    spt: "Sleep period time (SPT)",
    tst: "Total sleep time (TST)",
    efficiency: "Sleep efficiency (SE), TST / TRT",
    maintenance: "Sleep maintenance efficiency (SME), TST / SPT",
    sol: "Sleep onset latency (SOL)",
    rem_latency: "REM latency",
    waso: "Wake after sleep onset (WASO)",
    awakenings: "Awakenings",
    stage_changes: "Stage changes",
    not_scored: "Not staged (?)",
    stage: "Stage",
    minutes: "min",
    of_tst: "% of TST",
    definitions: "The two differ in two rows. REM latency: AASM counts from sleep onset, YASA from the start. WASO: AASM counts to lights on, YASA to the last epoch of sleep. “?” epochs are in TRT and in no stage.",
    agreement: "From provisional to final",
    agreement_lead: "An epoch is provisional when its 30 s are in, settled when its 5-min window closes, final after the pass over the whole recording. Rows: the earlier stage; columns: the later one; numbers are epochs.",
    agreement_none: "Only one kind of stage was told, so that there is nothing to compare.",
    provisional_settled: "Provisional to settled",
    settled_final: "Settled to final",
    kept: "{} of {} epochs ({} %) kept their stage",
    kappa: "Cohen’s κ {}",
    from_to: "from \\ to",
    channels: "Channels",
    channels_lead: "Bad signals are reported; they are not masked. What is missing is.",
    channel: "Channel",
    missing: "Missing",
    gaps: "Gaps",
    longest_value: "Longest at one value",
    bad_epochs: "Epochs with something wrong",
    risk: "Relative hazards",
    risk_lead: "The {} highest of {} by percentile. These are relative hazards: they order people of a cohort by this network. They are no probabilities, no risk in numbers of years, and no diagnosis; somebody is always highest.",
    risk_cohort: "The cohort of the percentiles: {} ({} recordings). The network was trained on: {}.",
    risk_caveat: "Why they may not apply: this person may be unlike that cohort in age, illness, medication or origin; sensors, montage and scoring differ between laboratories; and one night is not every night.",
    percentile: "Percentile",
    log_hazard: "Relative log-hazard",
    phenotype: "Phenotype",
    no_name: "label {}, without a name",
    withheld_sleep: "No relative hazards are shown: they need 4 h of sleep.",
    withheld_modalities: "No relative hazards are shown: two or more kinds of signals are missing ({}).",
    withheld_cohort: "No relative hazards are shown: the bundle brings no cohort to compare them with. They are in risk.csv.",
    apnea: "Sleep apnea by the network",
    apnea_said: "The network finds an apnea-hypopnea index of at least 5/h {} likely, of at least 15/h {}; none {}, mild {}, moderate {}, severe {}. It counts no events; this is no diagnosis.",
    notes: "Notes",
    provenance: "How this came about",
    software: "Program",
    bundle: "Bundle",
    trained_on: "Trained on",
    engine: "Engine",
    recording: "Recording",
    checksum: "SHA-256 of the recording",
    checksum_later: "still being recorded",
    checksum_unreadable: "could not be read",
    settings: "Settings",
    channel_map: "Channel map",
    rate: "Rate",
    unit: "Unit",
    used_for: "Used for",
    rule: "Why",
    not_used: "not used",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_take_their_values_in_order() {
        assert_eq!(fill("{} of {}", &["1", "2"]), "1 of 2");
        assert_eq!(fill("{}, {}", &["{}"]), "{}, ");
        assert_eq!(fill("none", &["1"]), "none");
    }
}
