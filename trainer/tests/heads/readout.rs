//! The last layer of a risk head against brute force, and what labels share.

use sfm_trainer::data::labels::Outcome;
use sfm_trainer::finetune::risk::readout::{Features, Fitting};
use sfm_trainer::loss::cox::{Member, Ties, partial_likelihood};

/// Six people, two features of which the second is constant; times without ties.
fn people() -> (Features, Vec<Option<Outcome>>) {
    let values = vec![2.0, 5.0, 1.2, 5.0, 0.4, 5.0, 1.0, 5.0, -0.5, 5.0, -1.0, 5.0];
    let outcome = |years, event| Some(Outcome { years, event });
    let outcomes = [
        outcome(1.0, true),
        outcome(2.0, true),
        outcome(3.0, false),
        outcome(4.0, true),
        outcome(5.0, true),
        outcome(6.0, false),
    ];
    (Features { width: 2, values }, outcomes.to_vec())
}

#[test]
fn the_penalized_loss_is_least() {
    let (features, outcomes) = people();
    let rows: Vec<&[Option<Outcome>]> = outcomes.chunks(1).collect();
    // Standard deviation of 2, 1.2, 0.4, 1, -0.5, -1.
    let deviation = 1.020_484_6_f64;
    let ridge = 0.1;
    let layer = Fitting::new(&features, &rows, Ties::Efron).shared(ridge);
    let loss = |weight: f64| {
        let members: Vec<Member> = features
            .values
            .chunks(2)
            .zip(&outcomes)
            .map(|(row, outcome)| {
                let outcome = outcome.expect("is known");
                let time = f64::from(outcome.years);
                Member { time, event: outcome.event, log_hazard: weight * row[0] }
            })
            .collect();
        let (loss, _) = partial_likelihood(&members, Ties::Efron).expect("has events");
        loss + 0.5 * ridge * (weight * deviation).powi(2)
    };
    let weight = layer.weights[0];
    assert!(weight > 0.1, "the first have the event first: {weight}");
    assert_eq!(layer.weights[1], 0.0, "what does not vary tells nothing");
    // By brute force.
    let best = (0..40_000)
        .map(|i| f64::from(i) * 1e-4)
        .min_by(|a, b| loss(*a).total_cmp(&loss(*b)))
        .expect("some weight");
    assert!((weight - best).abs() < 3e-4, "{weight}, not {best}");
    // The mean night has hazard 0, and the layer says what its weights say.
    let hazards = layer.log_hazards(&features);
    assert!(hazards.iter().sum::<f64>().abs() < 1e-9);
    assert!((hazards[0] - hazards[5] - 3.0 * weight).abs() < 1e-9);
}

#[test]
fn labels_share_what_they_have_in_common() {
    let (features, outcomes) = people();
    // The second label is the first one turned round, the third has no events.
    let rows: Vec<Vec<Option<Outcome>>> = outcomes
        .iter()
        .map(|outcome| {
            let turned = outcome.map(|o| Outcome { years: 7.0 - o.years, event: true });
            let never = outcome.map(|o| Outcome { event: false, ..o });
            vec![*outcome, turned, never]
        })
        .collect();
    let rows: Vec<&[Option<Outcome>]> = rows.iter().map(Vec::as_slice).collect();
    let fitting = Fitting::new(&features, &rows, Ties::Breslow);
    let shared = fitting.shared(0.1);
    assert_eq!(shared.weights[0], shared.weights[1]);
    assert_eq!(shared.weights[0], shared.weights[2]);
    let own = fitting.own(&shared, 0.1);
    assert!(own.weights[0] > shared.weights[0] && own.weights[1] < shared.weights[0]);
    assert!((own.weights[2] - shared.weights[0]).abs() < 1e-12, "no events, nothing of its own");
    // A strong penalty leaves nothing of their own to any.
    let held = fitting.own(&shared, 1e6);
    assert!((held.weights[0] - shared.weights[0]).abs() < 1e-5);
    let one: Vec<&[Option<Outcome>]> = rows.iter().map(|row| &row[2..]).collect();
    let none = Fitting::new(&features, &one, Ties::Efron).shared(0.1);
    assert_eq!(none.weights, [0.0, 0.0]);
}
