//! What became of the people of a part of a split, beside their age and sex.

use std::path::Path;

use super::nights::Nights;
use super::{FinetuneError, some_of};
use crate::data::labels::Outcome;
use crate::data::{Demographics, Events};

/// Outcomes and demographics of recordings, in the order of their nights.
#[derive(Debug, Clone)]
pub struct Followed {
    /// N rows of K; `None` is masked.
    pub outcomes: Vec<Vec<Option<Outcome>>>,
    /// Age scaled to 0..1, and 1 = male; zeros where the head takes none.
    pub demographics: Vec<[f32; 2]>,
    /// Whose recording it is.
    pub subjects: Vec<String>,
}

impl Followed {
    /// Finds the outcomes of `nights`, and age and sex if they are `needed`; nights without are
    /// left out with a note.
    ///
    /// # Errors
    /// [`FinetuneError::TooFew`] if fewer than two nights are left.
    pub fn find(
        nights: &mut Nights,
        events: &Events,
        people: &Demographics,
        age_range: (f64, f64),
        needed: bool,
        source: &Path,
    ) -> Result<Self, FinetuneError> {
        let mut lacking = Vec::new();
        let inputs = |id: &str| people.person(id).and_then(|p| p.inputs(age_range));
        nights.retain(
            |recording| {
                let id = recording.id.as_str();
                let usable = events.outcomes(id).is_some_and(|row| row.iter().any(Option::is_some))
                    && (!needed || inputs(id).is_some());
                if !usable {
                    lacking.push(id.to_owned());
                }
                usable
            },
            "no recording of this part of the split has outcomes, age and sex; look at the ids",
        )?;
        if !lacking.is_empty() {
            let what = if needed { "outcomes, age or sex" } else { "outcomes" };
            let ids = some_of(lacking.iter().map(String::as_str));
            nights.notes.push(format!("left out {} without {what}: {ids}", lacking.len()));
        }
        if nights.len() < 2 {
            let reason = "only one recording of this part of the split has outcomes, and a hazard \
                          is relative: give two at least";
            return Err(FinetuneError::too_few(source, reason));
        }
        let ids = nights.recordings().iter().map(|recording| recording.id.as_str());
        Ok(Self {
            outcomes: ids
                .clone()
                .map(|id| events.outcomes(id).unwrap_or_default().to_vec())
                .collect(),
            demographics: ids.clone().map(|id| inputs(id).unwrap_or_default()).collect(),
            subjects: ids
                .map(|id| people.person(id).map_or(id, |p| p.subject.as_str()).to_owned())
                .collect(),
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// The rows, for the loss.
    pub fn rows(&self) -> Vec<&[Option<Outcome>]> {
        self.outcomes.iter().map(Vec::as_slice).collect()
    }

    /// Which labels have an event.
    pub fn with_events(&self) -> Vec<bool> {
        let labels = self.outcomes.first().map_or(0, Vec::len);
        let has = |label: usize| {
            self.outcomes
                .iter()
                .any(|row| row.get(label).is_some_and(|o| o.is_some_and(|o| o.event)))
        };
        (0..labels).map(has).collect()
    }
}
