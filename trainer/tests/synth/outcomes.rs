//! Outcomes follow from traits as far as their coefficients say.

use sfm_trainer::synth::outcome::{OUTCOMES, Observed, concordance, observe};
use sfm_trainer::synth::person::Person;

fn observed(log_hazard: f64, event: bool, years: f64) -> Observed {
    Observed { log_hazard, event, years }
}

#[test]
fn concordance_counts_the_pairs_whose_order_is_known() {
    // By hand: pairs (1, 2) (1, 3) (1, 4) (3, 4); subject 2 is censored before 3 and 4 end.
    let people = [
        observed(2.0, true, 1.0),
        observed(3.0, false, 2.0),
        observed(1.0, true, 3.0),
        observed(1.0, false, 4.0),
    ];
    // Wrong, right, right, tied.
    assert_eq!(concordance(&people), Some(2.5 / 4.0));
    assert_eq!(concordance(&people[1..2]), None);
}

#[test]
fn the_truth_is_a_good_predictor_and_half_of_the_events_are_seen() {
    let people: Vec<Person> = (0..1000).map(|subject| Person::new(3, subject)).collect();
    let all: Vec<_> = people.iter().map(|person| observe(3, person)).collect();
    for (k, outcome) in OUTCOMES.iter().enumerate() {
        let mut one: Vec<Observed> = all.iter().map(|o| o[k]).collect();
        let seen = one.iter().filter(|o| o.event).count() as f64 / one.len() as f64;
        let ceiling = concordance(&one).unwrap();
        assert!((0.4..0.6).contains(&seen), "{}: {seen}", outcome.phenotype);
        assert!((0.82..0.88).contains(&ceiling), "{}: {ceiling}", outcome.phenotype);
        // Age and sex alone leave something for the night to tell.
        for (o, person) in one.iter_mut().zip(&people) {
            let [age, .., male] = outcome.coefficients;
            o.log_hazard = age * person.traits[0] + male * person.traits[4];
        }
        let demographics = concordance(&one).unwrap();
        assert!(demographics < ceiling - 0.05, "{}: {demographics}", outcome.phenotype);
    }
}
