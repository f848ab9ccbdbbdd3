//! Cox's partial likelihood against PyTorch's, values and gradients.

use serde::Deserialize;
use sfm_trainer::data::labels::Outcome;
use sfm_trainer::loss::cox::{Member, Ties, cox, partial_likelihood};

/// Of float64 sums of hundreds of terms.
const EXACT: f64 = 1e-9;

#[derive(Deserialize)]
struct Case {
    name: String,
    ties: Ties,
    hazard: Vec<f64>,
    time: Vec<f64>,
    event: Vec<bool>,
    loss: f64,
    gradient: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../tests/data/evaluate/cox.json");
    serde_json::from_str(text).expect("the goldens parse")
}

impl Case {
    fn members(&self) -> Vec<Member> {
        let rows = self.time.iter().zip(&self.event).zip(&self.hazard);
        rows.map(|((&time, &event), &log_hazard)| Member { time, event, log_hazard }).collect()
    }
}

#[test]
fn values_and_gradients_are_pytorchs() {
    for case in cases() {
        let (loss, gradient) =
            partial_likelihood(&case.members(), case.ties).expect("there are events");
        let off = (loss - case.loss).abs() / (1.0 + case.loss.abs());
        assert!(off < EXACT, "{}: {loss}, not {}", case.name, case.loss);
        for (own, golden) in gradient.iter().zip(&case.gradient) {
            assert!((own - golden).abs() < EXACT, "{}: {own}, not {golden}", case.name);
        }
    }
}

#[test]
fn hazards_of_any_size_stay_finite() {
    let member = |time, log_hazard| Member { time, event: true, log_hazard };
    let members = [member(1.0, -1e5), member(2.0, 1e5), member(2.0, -1e5), member(3.0, 0.0)];
    for ties in [Ties::Efron, Ties::Breslow] {
        let (loss, gradient) = partial_likelihood(&members, ties).expect("there are events");
        assert!(loss.is_finite() && gradient.iter().all(|g| g.is_finite()), "{loss} {gradient:?}");
    }
}

#[test]
fn a_label_without_events_has_no_loss_and_no_gradient() {
    let outcome = |event, years| Some(Outcome { event, years });
    let rows = [
        [outcome(true, 1.0), outcome(false, 1.0), outcome(true, 2.0)],
        [outcome(false, 2.0), outcome(false, 2.0), None],
        [outcome(true, 3.0), outcome(false, 3.0), outcome(false, 5.0)],
    ];
    let rows: Vec<&[Option<Outcome>]> = rows.iter().map(|row| row.as_slice()).collect();
    let log_hazards = [0.3, 1.0, -0.2, 0.1, -1.0, 0.9, -0.4, 2.0, 0.5];
    let result = cox(&log_hazards, &rows, Ties::Efron);
    assert_eq!(result.by_label[1], None);
    assert!([1, 4, 7].iter().all(|&cell| result.gradient[cell] == 0.0));
    assert_eq!(result.gradient[5], 0.0, "a masked outcome has no gradient");
    // One event, two at risk: log(e^-0.2 + e^0.5) + 0.2.
    let third = ((-0.2_f64).exp() + 0.5_f64.exp()).ln() + 0.2;
    assert!((result.by_label[2].expect("has an event") - third).abs() < EXACT);
    let first = result.by_label[0].expect("has events");
    assert!((result.loss - (first + third) / 2.0).abs() < EXACT);
}
