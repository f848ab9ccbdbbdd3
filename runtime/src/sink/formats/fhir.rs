//! `fhir.json`: the night as a bundle of HL7 FHIR R4 (hl7.org/fhir/R4): the program as a `Device`,
//! the sleep statistics as one `Observation`, hazards as a `RiskAssessment`. It names no person: who
//! was recorded is for the receiving system to say. No probability is stated anywhere.
//!
//! LOINC has codes for durations of sleep; what it has none for is named in words. `relativeRisk` is
//! the hazard over that of the median sleeper of the bundle's cohort: the scale of a Cox model has no
//! zero of its own, so without the cohort's quantiles there is none.

use serde_json::{Value, json};
use sfm_models::{Modality, ReferenceQuantiles};
use sha2::{Digest, Sha256};

use super::file;
use crate::edf::DateTime;
use crate::event::{Event, Night, OvernightRisk, Pass, Started};
use crate::sink::replace::ReplacedFile;
use crate::sink::{Place, Sink, SinkError};
use crate::statistics::SleepStatistics;

const LOINC: &str = "http://loinc.org";
const UCUM: &str = "http://unitsofmeasure.org";
const NOTICE: &str = "Research software, not a medical device. Hazards order people of a training \
                      cohort: they are no probabilities and no diagnosis.";

/// Writes `fhir.json`.
#[derive(Debug)]
pub(super) struct FhirSink {
    file: ReplacedFile,
    labels: Vec<(String, String)>,
    quantiles: Option<ReferenceQuantiles>,
    started: Option<Box<Started>>,
}

impl FhirSink {
    pub fn open(place: &Place<'_>) -> Result<Self, SinkError> {
        Ok(Self {
            file: file(place, "fhir.json")?,
            labels: place.labels.to_vec(),
            quantiles: place.quantiles.cloned(),
            started: None,
        })
    }

    fn bundle(&self, night: &Night) -> Value {
        let started = self.started.as_deref();
        let names = Names::of(started, night);
        let mut entries = vec![
            entry(&names.device, device(started)),
            entry(&names.observation, observation(started, night, &names)),
        ];
        if let Some(risk) = night.risk.as_ref().filter(|risk| !risk.log_hazards.is_empty())
            && night.is_ground().is_ok()
        {
            entries.push(entry(&names.assessment, self.assessment(risk, &names)));
        }
        json!({"resourceType": "Bundle", "type": "collection", "entry": entries})
    }

    fn assessment(&self, risk: &OvernightRisk, names: &Names) -> Value {
        let started = self.started.as_deref();
        let predictions = (0..).zip(&risk.log_hazards).map(|(index, log_hazard)| {
            let name = self.labels.get(index).map_or_else(
                || format!("label {index}"),
                |(phecode, phenotype)| format!("{phenotype} (phecode {phecode})"),
            );
            let percentile = risk.percentiles.as_ref().and_then(|all| all.get(index));
            let percentile = percentile.filter(|value| value.is_finite());
            let mut prediction = json!({
                "outcome": {"text": name},
                "rationale": rationale(*log_hazard, percentile.copied()),
            });
            if let Some(ratio) = self.ratio(index, *log_hazard) {
                prediction["relativeRisk"] = json!(ratio);
            }
            prediction
        });
        json!({
            "resourceType": "RiskAssessment",
            "status": "preliminary",
            "method": {"text": format!(
                "Cox proportional hazards over one night of polysomnography; bundle {}",
                started.map_or("", |started| &started.bundle)
            )},
            "subject": subject(),
            "performer": {"reference": names.device},
            "basis": [{"reference": names.observation}],
            "prediction": predictions.collect::<Vec<Value>>(),
            "note": notes(started, self.quantiles.as_ref()),
        })
    }

    /// The hazard over that of the cohort's median.
    fn ratio(&self, hazard: usize, log_hazard: f32) -> Option<f64> {
        let quantiles = self.quantiles.as_ref()?.hazards.get(hazard)?;
        let median = quantiles.get(quantiles.len() / 2)?;
        let ratio = f64::from(log_hazard - median).exp();
        (ratio.is_finite()).then(|| (ratio * 1e4).round() / 1e4)
    }
}

impl Sink for FhirSink {
    fn name(&self) -> String {
        self.file.path().display().to_string()
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        match event {
            Event::Started(started) => self.started = Some(started.clone()),
            Event::Night(night) => {
                self.file.write(format!("{:#}\n", self.bundle(night)).as_bytes())?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The names by which the entries refer to each other.
struct Names {
    device: String,
    observation: String,
    assessment: String,
}

impl Names {
    /// From what the night is, so that the same night gives the same bundle.
    fn of(started: Option<&Started>, night: &Night) -> Self {
        let content = serde_json::to_vec(&(started, night)).unwrap_or_default();
        let name = |kind: &str| {
            let digest = Sha256::new().chain_update(&content).chain_update(kind).finalize();
            let mut bytes: [u8; 16] = std::array::from_fn(|i| digest[i]);
            // Version 8, "custom", of RFC 9562.
            bytes[6] = bytes[6] & 0x0f | 0x80;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            format!("urn:uuid:{}", parts.join("-"))
        };
        Self {
            device: name("Device"),
            observation: name("Observation"),
            assessment: name("RiskAssessment"),
        }
    }
}

fn entry(name: &str, resource: Value) -> Value {
    json!({"fullUrl": name, "resource": resource})
}

fn subject() -> Value {
    json!({"display": "the person recorded, not identified here"})
}

fn device(started: Option<&Started>) -> Value {
    let mut versions = vec![json!({
        "type": {"text": "software"},
        "value": env!("CARGO_PKG_VERSION"),
    })];
    if let Some(started) = started {
        versions.push(json!({
            "type": {"text": "bundle of weights, SHA-256"},
            "value": started.bundle_sha256,
        }));
    }
    json!({
        "resourceType": "Device",
        "deviceName": [{"name": "sfm-stream", "type": "model-name"}],
        "version": versions,
        "note": [{"text": NOTICE}],
    })
}

fn observation(started: Option<&Started>, night: &Night, names: &Names) -> Value {
    let mut observation = json!({
        "resourceType": "Observation",
        "status": if night.pass == Pass::Final { "final" } else { "preliminary" },
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "procedure",
        }]}],
        "code": {"text": "sleep statistics of one night by AASM definitions"},
        "subject": subject(),
        "device": {"reference": names.device},
        "component": components(&night.statistics),
        "note": notes(started, None),
    });
    if let Some((start, end)) = started.and_then(days) {
        observation["effectivePeriod"] = json!({"start": start, "end": end});
    }
    observation
}

/// The days the recording began and ended: EDF knows no time zone, and FHIR takes no time without.
fn days(started: &Started) -> Option<(String, String)> {
    let start: DateTime = started.start.as_deref()?.parse().ok()?;
    let end = start.plus_seconds(started.duration_s.unwrap_or_default());
    let day = |moment: DateTime| {
        let (year, month, day) = moment.date();
        format!("{year:04}-{month:02}-{day:02}")
    };
    Some((day(start), day(end)))
}

/// One figure: a LOINC code where there is one, words, value, unit in UCUM.
type Figure = (Option<&'static str>, &'static str, Option<f64>, &'static str);

fn components(statistics: &SleepStatistics) -> Vec<Value> {
    let stage = &statistics.stage_min;
    let figures: [Figure; 12] = [
        (Some("93832-4"), "Sleep duration", Some(statistics.tst_min), "min"),
        (Some("93830-8"), "Light sleep duration", Some(stage.n1 + stage.n2), "min"),
        (Some("93831-6"), "Deep sleep duration", Some(stage.n3), "min"),
        (Some("93829-0"), "REM sleep duration", Some(stage.rem), "min"),
        (Some("103212-7"), "Duration of falling asleep", statistics.sol_min, "min"),
        (Some("103215-0"), "Wake time after sleep onset", statistics.waso_min, "min"),
        (None, "total recording time", Some(statistics.trt_min), "min"),
        (None, "duration of stage N1", Some(stage.n1), "min"),
        (None, "duration of stage N2", Some(stage.n2), "min"),
        (None, "REM latency from sleep onset", statistics.rem_latency_min, "min"),
        (None, "sleep efficiency", statistics.sleep_efficiency_pct, "%"),
        (None, "time not scored", Some(statistics.unscored_min), "min"),
    ];
    figures.into_iter().map(component).collect()
}

fn component((loinc, words, value, unit): Figure) -> Value {
    let mut component = json!({"code": {"text": words}});
    if let Some(code) = loinc {
        component["code"]["coding"] = json!([{"system": LOINC, "code": code, "display": words}]);
    }
    match value.filter(|value| value.is_finite()) {
        Some(value) => {
            component["valueQuantity"] =
                json!({"value": value, "unit": unit, "system": UCUM, "code": unit});
        }
        None => {
            component["dataAbsentReason"] = json!({"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
                "code": "not-applicable",
            }]});
        }
    }
    component
}

fn rationale(log_hazard: f32, percentile: Option<f32>) -> String {
    let mut text = format!("relative log-hazard {log_hazard:.4}");
    if let Some(percentile) = percentile {
        text.push_str(&format!(", percentile {percentile:.1} of the bundle's training cohort"));
    }
    text
}

fn notes(started: Option<&Started>, cohort: Option<&ReferenceQuantiles>) -> Vec<Value> {
    let mut texts = vec![NOTICE.to_owned()];
    if let Some(started) = started {
        texts.push(format!("Trained on: {}", started.training_data));
        texts.extend(started.caution.clone());
        if !started.modalities_absent.is_empty() {
            let absent: Vec<_> =
                started.modalities_absent.iter().map(Modality::to_string).collect();
            texts.push(format!("Without signal of {}", absent.join(", ")));
        }
    }
    if let Some(cohort) = cohort {
        texts.push(format!(
            "relativeRisk is a hazard ratio: against the median hazard of {} ({} recordings), no \
             general population",
            cohort.cohort, cohort.recordings
        ));
    }
    // FHIR's markdown may be shown as such: what a bundle or a file brought in stays text.
    let escaped = |text: String| {
        text.chars()
            .flat_map(|c| "\\`*_[]<>".contains(c).then_some('\\').into_iter().chain([c]))
            .collect::<String>()
    };
    texts.into_iter().map(|text| json!({"text": escaped(text)})).collect()
}
