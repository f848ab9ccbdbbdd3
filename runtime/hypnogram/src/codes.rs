//! What bare numbers stand for. A number alone does not say its stage: 5 is R in some data sets and
//! W in others. The user names the code; without one YASA's is taken, and the reader says so.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sfm_models::SleepStage::{self, N1, N2, N3, Rem, Wake};

use super::names::{plain, shown, stage_named};

/// A code with a name.
#[derive(Debug)]
pub struct Preset {
    /// What `--codes` calls it.
    pub name: &'static str,
    stages: &'static [(i64, Option<SleepStage>)],
}

/// YASA's (`yasa.Hypnogram`): -2 is not scored, -1 an artifact.
pub(super) const YASA: Preset = Preset {
    name: "yasa",
    stages: &[
        (-2, None),
        (-1, None),
        (0, Some(Wake)),
        (1, Some(N1)),
        (2, Some(N2)),
        (3, Some(N3)),
        (4, Some(Rem)),
    ],
};
/// Rechtschaffen and Kales as Compumedics, SHHS and most of the NSRR number it: 4 is S4, 6 movement.
pub(super) const RK: Preset = Preset {
    name: "rk",
    stages: &[
        (0, Some(Wake)),
        (1, Some(N1)),
        (2, Some(N2)),
        (3, Some(N3)),
        (4, Some(N3)),
        (5, Some(Rem)),
        (6, None),
        (9, None),
    ],
};
/// ISRUC-Sleep.
const ISRUC: Preset = Preset {
    name: "isruc",
    stages: &[(0, Some(Wake)), (1, Some(N1)), (2, Some(N2)), (3, Some(N3)), (5, Some(Rem))],
};
/// DREAMS: the higher the number the lighter the sleep; 0 is S4, negative numbers are movement and
/// unknown.
pub(super) const DREAMS: Preset = Preset {
    name: "dreams",
    stages: &[
        (-3, None),
        (-2, None),
        (-1, None),
        (0, Some(N3)),
        (1, Some(N3)),
        (2, Some(N2)),
        (3, Some(N1)),
        (4, Some(Rem)),
        (5, Some(Wake)),
    ],
};
/// St. Vincent's University Hospital (UCDDB): 1 is REM; 6 artifact, 7 indeterminate.
const UCDDB: Preset = Preset {
    name: "ucddb",
    stages: &[
        (0, Some(Wake)),
        (1, Some(Rem)),
        (2, Some(N1)),
        (3, Some(N2)),
        (4, Some(N3)),
        (5, Some(N3)),
        (6, None),
        (7, None),
    ],
};
/// Scorings of Hypnodyne's ZMax.
const ZMAX: Preset = Preset {
    name: "zmax",
    stages: &[(1, Some(N1)), (2, Some(N2)), (3, Some(N3)), (4, Some(Rem)), (5, Some(Wake))],
};
/// U-Sleep's arrays: YASA's, and 5 unknown, 6 out of bounds.
pub(super) const USLEEP: Preset = Preset {
    name: "usleep",
    stages: &[
        (-2, None),
        (-1, None),
        (0, Some(Wake)),
        (1, Some(N1)),
        (2, Some(N2)),
        (3, Some(N3)),
        (4, Some(Rem)),
        (5, None),
        (6, None),
    ],
};
/// Digits in a list that names W and R by letters: the stages of non-REM sleep.
pub(super) const DIGITS: Preset = Preset {
    name: "digits of NREM stages beside letters",
    stages: &[(1, Some(N1)), (2, Some(N2)), (3, Some(N3)), (4, Some(N3))],
};

/// The codes that have names.
pub const PRESETS: [&Preset; 7] = [&YASA, &RK, &ISRUC, &DREAMS, &UCDDB, &ZMAX, &USLEEP];

impl Preset {
    fn stage(&self, number: i64) -> Option<Option<SleepStage>> {
        self.stages.iter().find(|(n, _)| *n == number).map(|(_, stage)| *stage)
    }
}

/// A code that the user gives: a preset's name, or `0=W,1=N1,...`. Keys may be words too; `?` is
/// the stage of what is not scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codes {
    written: String,
    stages: BTreeMap<String, Option<SleepStage>>,
}

impl FromStr for Codes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(preset) = PRESETS.iter().find(|p| p.name.eq_ignore_ascii_case(text.trim())) {
            let stages = preset.stages.iter().map(|(n, stage)| (n.to_string(), *stage));
            return Ok(Self { written: preset.name.into(), stages: stages.collect() });
        }
        let mut stages = BTreeMap::new();
        for pair in text.split(',') {
            let (key, name) = pair.split_once('=').ok_or_else(|| {
                let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
                format!(
                    "'{}' is neither a pair as 5=R nor one of {}",
                    shown(pair),
                    names.join(", ")
                )
            })?;
            let stage = stage_named(name)?;
            if stages.insert(token(key), stage).is_some() {
                return Err(format!("'{}' stands in it twice", shown(key)));
            }
        }
        Ok(Self { written: text.trim().into(), stages })
    }
}

/// As the user gave it.
impl fmt::Display for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// The code that a file's numbers were read by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeUsed {
    /// A preset's name, or pairs as the user gave them.
    pub name: String,
    /// Neither the file nor the user said so.
    pub is_assumed: bool,
}

/// Turns the words and numbers of one file into stages.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    given: Option<&'a Codes>,
    preset: &'static Preset,
    /// The format defines its numbers.
    is_defined: bool,
    used: bool,
}

impl<'a> Decoder<'a> {
    /// For a file whose format does not say what numbers mean.
    pub fn new(given: Option<&'a Codes>, preset: &'static Preset) -> Self {
        Self { given, preset, is_defined: false, used: false }
    }

    /// For a format that defines its numbers; the user's code counts all the same.
    pub fn defined(given: Option<&'a Codes>, preset: &'static Preset) -> Self {
        Self { is_defined: true, ..Self::new(given, preset) }
    }

    pub fn is_given(&self) -> bool {
        self.given.is_some()
    }

    /// The stage of a word or number.
    ///
    /// # Errors
    /// It is not known; of a number, with the presets that know it.
    pub fn stage(&mut self, text: &str) -> Result<Option<SleepStage>, String> {
        let given = self.given.and_then(|codes| codes.stages.get(&token(text)));
        if let Some(stage) = given {
            self.used = true;
            return Ok(*stage);
        }
        let Some(number) = whole(text) else { return stage_named(text) };
        let name = self.given.map_or(self.preset.name, |codes| codes.written.as_str());
        let stage = if self.given.is_some() { None } else { self.preset.stage(number) };
        self.used |= stage.is_some();
        stage.ok_or_else(|| outside(number, name))
    }

    /// The code, if numbers were read by one.
    pub fn finish(self) -> Option<CodeUsed> {
        let name = self.given.map_or(self.preset.name.to_owned(), Codes::to_string);
        let is_assumed = self.given.is_none() && !self.is_defined;
        self.used.then_some(CodeUsed { name, is_assumed })
    }
}

/// The refusal of a number, with every preset that knows it.
fn outside(number: i64, code: &str) -> String {
    let known: Vec<String> = PRESETS
        .iter()
        .filter_map(|preset| {
            let stage = preset.stage(number)?.map_or("?", SleepStage::as_str);
            Some(format!("{} ({number}={stage})", preset.name))
        })
        .collect();
    let advice = match known.len() {
        0 => "no known code has it; say what it is, as --codes 0=W,1=N1,2=N2,3=N3,5=R".to_owned(),
        _ => format!("say which code it is: --codes {}", known.join(", ")),
    };
    format!("{number} is no stage in the code {code}; {advice}")
}

/// A whole number, also with a fraction of zeros or a power of ten.
pub(super) fn whole(text: &str) -> Option<i64> {
    let text = text.trim();
    // As NumPy writes numbers by default.
    if text.contains(['e', 'E']) {
        let number = text.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && n.abs() < 1e9)?;
        return Some(number as i64);
    }
    let (whole, zeros) = text.split_once(['.', ',']).unwrap_or((text, ""));
    let is_whole = zeros.bytes().all(|b| b == b'0') && whole.len() < 10;
    if is_whole { whole.parse().ok() } else { None }
}

/// Numbers are compared as numbers, words as [`plain`] text.
fn token(text: &str) -> String {
    whole(text).map_or_else(|| plain(text), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_and_pairs() {
        let codes: Codes = "0=W, 1=N1,2=N2,3=N3,5=R,9=?,L=wake".parse().expect("pairs");
        let mut decoder = Decoder::new(Some(&codes), &YASA);
        assert_eq!(decoder.stage("5.0"), Ok(Some(Rem)));
        assert_eq!(decoder.stage("9"), Ok(None));
        assert_eq!(decoder.stage("l"), Ok(Some(Wake)));
        assert_eq!(decoder.stage("N2"), Ok(Some(N2)));
        let refusal = decoder.stage("4").expect_err("4 is not among them");
        assert!(refusal.contains("yasa (4=R), rk (4=N3), dreams (4=R)"), "{refusal}");
        assert!(!decoder.finish().expect("used").is_assumed);
        for wrong in ["", "isruk", "0=W,0=N1", "1=N9", "1"] {
            assert!(wrong.parse::<Codes>().is_err(), "{wrong}");
        }
        for preset in PRESETS {
            assert_eq!(preset.name.parse::<Codes>().expect("known").to_string(), preset.name);
        }
    }

    #[test]
    fn a_number_outside_names_the_presets_that_know_it() {
        let mut decoder = Decoder::new(None, &YASA);
        let refusal = decoder.stage("5").expect_err("not YASA's");
        for name in ["rk (5=R)", "isruc (5=R)", "dreams (5=W)", "ucddb (5=N3)", "zmax (5=W)"] {
            assert!(refusal.contains(name), "{refusal}");
        }
        assert!(decoder.stage("77").expect_err("in no code").contains("no known code"));
        assert!(decoder.stage("1.5").is_err());
    }
}
