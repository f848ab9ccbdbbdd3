//! Figures against scikit-learn, lifelines and scikit-survival.

use serde::Deserialize;
use sfm_trainer::evaluate::classification::{Confusion, Quartiles, auroc};
use sfm_trainer::evaluate::survival::{auroc_at, c_index, calibration_slope};
use sfm_trainer::loss::cox::Member;

/// Of a share of counts.
const EXACT: f64 = 1e-12;
/// Of what others find by iteration.
const FITTED: f64 = 1e-6;

#[derive(Deserialize)]
struct Goldens {
    classification: Vec<Classes>,
    auroc: Vec<Area>,
    survival: Vec<Survival>,
}

#[derive(Deserialize)]
struct Classes {
    classes: usize,
    truth: Vec<usize>,
    predicted: Vec<usize>,
    confusion: Vec<Vec<u64>>,
    precision: Vec<f64>,
    recall: Vec<f64>,
    f1: Vec<f64>,
    support: Vec<u64>,
    macro_f1: f64,
    accuracy: f64,
    kappa: f64,
}

#[derive(Deserialize)]
struct Area {
    score: Vec<f64>,
    positive: Vec<bool>,
    auroc: f64,
}

#[derive(Deserialize)]
struct Survival {
    hazard: Vec<f64>,
    distinct: Vec<f64>,
    time: Vec<f64>,
    event: Vec<bool>,
    c_index: f64,
    horizons: Vec<f64>,
    auroc: Vec<f64>,
    slope: f64,
}

fn goldens() -> Goldens {
    let text = include_str!("../../../tests/data/evaluate/figures.json");
    serde_json::from_str(text).expect("the goldens parse")
}

#[track_caller]
fn close(own: f64, golden: f64, tolerance: f64) {
    assert!((own - golden).abs() < tolerance, "{own}, not {golden}");
}

#[test]
fn classes_are_scikit_learns() {
    for golden in goldens().classification {
        let mut confusion = Confusion::new(golden.classes);
        golden.truth.iter().zip(&golden.predicted).for_each(|(&t, &p)| confusion.add(t, p));
        assert_eq!(confusion.rows(), golden.confusion);
        for class in 0..golden.classes {
            let own = confusion.class(class);
            assert_eq!(own.support, golden.support[class]);
            if own.f1.is_nan() {
                continue;
            }
            close(own.precision, golden.precision[class], EXACT);
            close(own.recall, golden.recall[class], EXACT);
            close(own.f1, golden.f1[class], EXACT);
        }
        close(confusion.macro_f1(), golden.macro_f1, EXACT);
        close(confusion.accuracy(), golden.accuracy, EXACT);
        close(confusion.kappa(), golden.kappa, EXACT);
    }
}

#[test]
fn areas_are_scikit_learns() {
    for golden in goldens().auroc {
        let own = auroc(&golden.score, &golden.positive).expect("both kinds are there");
        close(own, golden.auroc, EXACT);
    }
    assert_eq!(auroc(&[1.0, 2.0], &[true, true]), None);
}

#[test]
fn survival_is_lifelines_and_scikit_survivals() {
    for golden in goldens().survival {
        let members = |hazards: &[f64]| -> Vec<Member> {
            let rows = golden.time.iter().zip(&golden.event).zip(hazards);
            rows.map(|((&time, &event), &log_hazard)| Member { time, event, log_hazard }).collect()
        };
        let tied = members(&golden.hazard);
        close(c_index(&tied).expect("there are pairs"), golden.c_index, EXACT);
        close(calibration_slope(&tied).expect("there are events"), golden.slope, FITTED);
        let distinct = members(&golden.distinct);
        for (&horizon, &area) in golden.horizons.iter().zip(&golden.auroc) {
            close(auroc_at(&distinct, horizon).expect("both kinds are there"), area, 1e-9);
        }
    }
}

#[test]
fn figures_that_are_not_defined_are_none() {
    let member = |time, event| Member { time, event, log_hazard: time };
    let censored = [member(1.0, false), member(2.0, false)];
    assert_eq!(c_index(&censored), None);
    assert_eq!(calibration_slope(&censored), None);
    assert_eq!(auroc_at(&censored, 1.5), None);
    assert_eq!(c_index(&[]), None);
    // Perfect order: the steeper the better, without end.
    let ordered: Vec<Member> = (0..6)
        .map(|i| Member { time: f64::from(i), event: true, log_hazard: -f64::from(i) })
        .collect();
    assert_eq!(c_index(&ordered), Some(1.0));
    assert_eq!(calibration_slope(&ordered), None);
    assert_eq!(Quartiles::of([f64::NAN]), None);
}
