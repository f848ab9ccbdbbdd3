//! Age and sex of the people behind the recordings, from a table with a header: `recording` (or
//! `Study ID`), `age` (or `age_years`) and `sex`, in any order and among other columns, as
//! `sfm-train synth` writes it. Refuses a table that says two things of one recording; an empty
//! age or sex means that it is not known.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::archive::Entry;
use crate::files;
use crate::night::{Demographics, Sex};

/// A table longer than this is none.
const MAX_BYTES: u64 = 64 << 20;

/// Age and sex by recording: by its name in the archive, or by its file's alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct People(BTreeMap<String, Option<Demographics>>);

impl People {
    /// Reads the table at `path`.
    ///
    /// # Errors
    /// One sentence with the file, the line and the reason.
    pub fn read(path: &Path) -> Result<Self, String> {
        let refuse = |reason: String| format!("{}: {reason}", path.display());
        let text = files::read_text(path, MAX_BYTES)
            .map_err(|e| refuse(format!("cannot be read as a table of people: {e}")))?;
        Self::from_csv(&text).map_err(refuse)
    }

    fn from_csv(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('\u{feff}');
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|e| e.to_string())?.clone();
        let column = |names: [&str; 2]| {
            let is_one = |name: &str| names.iter().any(|known| name.eq_ignore_ascii_case(known));
            let reason = || format!("no column '{}' (or '{}') in its header", names[0], names[1]);
            header.iter().position(is_one).ok_or_else(reason)
        };
        let recording = column(["recording", "Study ID"])?;
        let (age, sex) = (column(["age", "age_years"])?, column(["sex", "gender"])?);
        let mut people = BTreeMap::new();
        for row in reader.records() {
            let row = row.map_err(|e| unreadable_row(text, &e))?;
            let line = || line_of(text, row.position());
            let field = |index: usize| row.get(index).unwrap_or_default();
            let person = person(field(age), field(sex))
                .map_err(|reason| format!("line {}: {reason}", line()))?;
            let name = field(recording).to_owned();
            if people.insert(name.clone(), person).is_some_and(|before| before != person) {
                return Err(format!(
                    "line {}: says another age or sex of '{name}' than before",
                    line()
                ));
            }
        }
        Ok(Self(people))
    }

    /// Age and sex for each of `entries`, and how many share a file name that the table has only
    /// without its folders: they stay without.
    pub fn of(&self, entries: &[Entry]) -> (Vec<Option<Demographics>>, usize) {
        let mut count = HashMap::<&str, usize>::new();
        entries.iter().for_each(|entry| *count.entry(stem(&entry.name)).or_default() += 1);
        let mut ambiguous = 0;
        let found = entries
            .iter()
            .map(|entry| {
                let stem = stem(&entry.name);
                let by_stem = || {
                    let known = self.0.get(stem)?;
                    let is_unique = count.get(stem) == Some(&1);
                    ambiguous += usize::from(!is_unique);
                    is_unique.then_some(*known)
                };
                self.0.get(&entry.name).copied().or_else(by_stem).flatten()
            })
            .collect();
        (found, ambiguous)
    }
}

/// Why a row is none. The reader counts lines by other ends than those of Windows.
fn unreadable_row(text: &str, error: &csv::Error) -> String {
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields where the header has {expected_len}")
        }
        _ => return error.to_string(),
    };
    format!("line {}: {reason}", line_of(text, error.position()))
}

fn line_of(text: &str, row: Option<&csv::Position>) -> u64 {
    row.and_then(|at| files::line_of(text.as_bytes(), at.byte()).ok()).unwrap_or_default()
}

/// The name without folders.
fn stem(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn person(age: &str, sex: &str) -> Result<Option<Demographics>, String> {
    let age_years = match age.parse::<f64>() {
        _ if age.is_empty() => None,
        Ok(age) if (0.0..=130.0).contains(&age) => Some(age),
        _ => return Err(format!("'{age}' is no age in years")),
    };
    let sex = match sex.to_ascii_lowercase().as_str() {
        "" => None,
        "f" | "female" => Some(Sex::F),
        "m" | "male" => Some(Sex::M),
        _ => return Err(format!("'{sex}' is no sex; use f or m")),
    };
    Ok(age_years.zip(sex).map(|(age_years, sex)| Demographics { age_years, sex }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[&str]) -> Vec<Entry> {
        let entry = |name: &&str| Entry {
            name: (*name).to_owned(),
            file: name.into(),
            folder: name.into(),
        };
        names.iter().map(entry).collect()
    }

    #[test]
    fn the_simulated_cohorts_table_is_one() {
        let text = "Study ID,subject,age_years,sex,ahi\nn0,s0,61.5,m,3.25\n\"a/n1\",s1,40,F,1\nn2,s2,,f,1\n";
        let people = People::from_csv(text).expect("a table");
        let (found, ambiguous) = people.of(&entries(&["a/n1", "b/n1", "b/n0", "n2", "n3"]));
        assert_eq!(found[0], Some(Demographics { age_years: 40.0, sex: Sex::F }));
        assert_eq!(found[1], None, "another night of that name");
        assert_eq!(found[2], Some(Demographics { age_years: 61.5, sex: Sex::M }));
        assert_eq!((found[3], found[4], ambiguous), (None, None, 0));
    }

    #[test]
    fn a_wrong_row_is_named_by_its_line_whatever_ends_lines() {
        for end in ["\n", "\r\n", "\r\n\r\n", "\n\n", "\r"] {
            let table = ["recording,age,sex", "n,54,F", "two,old,M", ""].join(end);
            let line = if end.len() == 2 && end != "\r\n" || end.len() == 4 { 5 } else { 3 };
            let error = People::from_csv(&table).expect_err("refused");
            assert_eq!(error, format!("line {line}: 'old' is no age in years"), "{end:?}");
            let short = ["recording,age,sex", "n,54,F", "two,5", ""].join(end);
            let error = People::from_csv(&short).expect_err("refused");
            assert_eq!(error, format!("line {line}: 2 fields where the header has 3"), "{end:?}");
        }
    }

    #[test]
    fn a_name_without_folders_counts_where_it_names_one_recording() {
        let people = People::from_csv("recording,age,sex\nn,50,f\n").expect("a table");
        let (found, ambiguous) = people.of(&entries(&["a/n", "b/n"]));
        assert_eq!((found, ambiguous), (vec![None, None], 2));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, reason) in [
            ("name,age,sex\n", "no column 'recording'"),
            ("recording,age,sex\nn,old,f\n", "line 2: 'old' is no age"),
            ("recording,age,sex\nn,131,f\n", "line 2: '131' is no age"),
            ("recording,age,sex\nn,50,x\n", "line 2: 'x' is no sex"),
            ("recording,age,sex\nn,50,f\nn,51,f\n", "line 3: says another"),
            ("recording,age,sex\nn,50\n", "line 2: 2 fields"),
        ] {
            let error = People::from_csv(text).expect_err(text);
            assert!(error.contains(reason), "{error}");
        }
    }
}
