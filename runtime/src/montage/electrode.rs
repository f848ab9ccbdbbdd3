//! What a label says of electrodes: `C3-M2` lies between two, `EEG C3-REF` is one against the
//! amplifier's reference, `C3` one alone. Knows the 10-10 system, earlobes, mastoids, both eyes and the
//! electrodes of the chin. Takes no side on what is done with them.

use std::sync::LazyLock;

use regex::Regex;

use super::normalized;

/// A channel between electrodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lead {
    /// The first electrode, upper case: `C3`, `FP1`, `M2`, `E1`.
    pub site: String,
    /// Those it is measured against; none of a single electrode.
    pub against: Vec<String>,
    /// What else it is measured against.
    pub reference: Reference,
}

/// What a label names in place of a second electrode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// Nothing.
    Unsaid,
    /// The amplifier's, wherever it is, as the label has it: the difference of two such channels is that
    /// of their electrodes.
    Amplifier(String),
    /// Linked ears or an average: the channel is a derivation.
    Derived,
}

/// Where an electrode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Middle,
}

static LEAD: LazyLock<Option<[Regex; 2]>> = LazyLock::new(|| {
    let site = r"(?:fp[12z]|af(?:10|[1-9z])|ft(?:1[0-2]|[7-9])|fc[1-6z]|f10|f[1-9z]|tp(?:10|[7-9])|t10|t[1-9]|cp[1-6z]|c(?:z2|[1-6z])|po(?:10|[3-9z])|p10|p[1-9z]|[o0][12z]|[in]z|[am][12]|e[1-4]|[lr]oc|[lr]eog|eog[lr12]|(?:left|right)eog|eog(?:left|right)|(?:left|right)eye)";
    let whole = format!(
        r"\A(?:eeg|eog)?({site}(?:{site}){{0,3}})(?:(ref|x|g[12]|org|ler?|cle|avg?|ar|car)\d?)?\z"
    );
    Some([Regex::new(&whole).ok()?, Regex::new(site).ok()?])
});

/// The electrodes that a label names, if it names any.
pub(super) fn lead(label: &str) -> Option<Lead> {
    if is_in_depth(label) {
        return None;
    }
    let [whole, site] = LEAD.as_ref()?;
    let key = normalized(label);
    let found = whole.captures(&key)?;
    let mut sites = site.find_iter(found.get(1)?.as_str()).map(|m| canonical(m.as_str()));
    let first = sites.next()?;
    let reference = match found.get(2).map(|word| word.as_str()) {
        None => Reference::Unsaid,
        Some(word @ ("ref" | "x" | "g1" | "g2" | "org")) => Reference::Amplifier(word.to_owned()),
        Some(_) => Reference::Derived,
    };
    Some(Lead { site: first, against: sites.collect(), reference })
}

/// `A'2`, an electrode inside the brain: their labels mark the left side so.
pub(super) fn is_in_depth(label: &str) -> bool {
    let behind = label.split_once(['\'', '’']).map(|(_, rest)| rest.trim_start());
    behind.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn canonical(site: &str) -> String {
    match site {
        "e1" | "loc" | "leog" | "eogl" | "eog1" | "lefteog" | "eogleft" | "lefteye" => "E1".into(),
        "e2" | "roc" | "reog" | "eogr" | "eog2" | "righteog" | "eogright" | "righteye" => {
            "E2".into()
        }
        "cz2" => "CZ".into(),
        _ => site.to_uppercase().replacen('0', "O", usize::from(site.starts_with('0'))),
    }
}

impl Lead {
    /// It is one electrode, alone or against the amplifier's reference.
    pub fn is_electrode(&self) -> bool {
        self.against.is_empty() && self.reference != Reference::Derived
    }

    /// All of its electrodes lie where there is no brain to speak of.
    pub fn is_reference(&self) -> bool {
        std::iter::once(&self.site).chain(&self.against).all(|site| is_reference(site))
    }

    /// All of its electrodes.
    pub fn sites(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.site.as_str()).chain(self.against.iter().map(String::as_str))
    }
}

/// An earlobe or a mastoid.
pub(super) fn is_reference(site: &str) -> bool {
    matches!(site, "A1" | "A2" | "M1" | "M2")
}

/// The reference electrodes of a side, the best first. Those of caps near the mastoids come last.
pub(super) fn references(side: Side) -> &'static [&'static str] {
    match side {
        Side::Left => &["M1", "A1", "TP9"],
        Side::Right => &["M2", "A2", "TP10"],
        Side::Middle => &["M2", "A2", "M1", "A1", "TP10", "TP9"],
    }
}

/// The side of an electrode by its number, as the 10-20 system has it.
pub(super) fn side(site: &str) -> Side {
    let number: String = site.chars().filter(char::is_ascii_digit).collect();
    match number.parse::<u32>() {
        Ok(number) if number % 2 == 1 => Side::Left,
        Ok(_) => Side::Right,
        Err(_) => Side::Middle,
    }
}

/// An electrode's name as it is usually written.
pub(super) fn shown(site: &str) -> String {
    match site {
        _ if site.starts_with("FP") => format!("Fp{}", site[2..].to_lowercase()),
        _ if site.ends_with('Z') => format!("{}z", &site[..site.len() - 1]),
        _ => site.to_owned(),
    }
}

/// Which electrode of the chin a label names alone: `l`, `r`, `c` (the middle one, `ChinZ`), or a number.
pub(super) fn chin(label: &str) -> Option<char> {
    static CHIN: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"\A(?:eeg|emg)?(?:(l|r|c|left|right|ctr|center)chin|chin(l|r|c|z|left|right|ctr|center|[123]))(?:ref|x|g[12])?\z").ok()
    });
    let key = normalized(label);
    let found = CHIN.as_ref()?.captures(&key)?;
    let name = found.get(1).or(found.get(2))?.as_str().chars().next()?;
    Some(if name == 'z' { 'c' } else { name })
}

/// Whether an electrode of the chin is one of a derivation's.
pub(super) fn is_of_chin(derivation: &str, electrode: char) -> bool {
    let key = normalized(derivation);
    let names: &[&str] = match electrode {
        'l' => &["lchin", "leftchin", "chinl"],
        'r' => &["rchin", "rightchin", "chinr"],
        'c' => &["cchin", "ctrchin", "centerchin", "chinc", "chinz"],
        '1' => &["chin1"],
        '2' => &["chin2"],
        _ => &["chin3"],
    };
    names.iter().any(|name| key.contains(name))
}

/// Whether a label is of two electrodes of the chin.
pub(super) fn is_chin_derivation(label: &str) -> bool {
    normalized(label).matches("chin").count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_name_electrodes() {
        let of = |label: &str| {
            let lead = lead(label)?;
            let sites: Vec<&str> = lead.sites().collect();
            Some((sites.join("-"), lead.is_electrode(), lead.is_reference()))
        };
        for (label, sites, is_electrode, is_reference) in [
            ("C3-M2", "C3-M2", false, false),
            ("EEG C4:A1", "C4-A1", false, false),
            ("O1:M1+M2", "O1-M1-M2", false, false),
            ("C3", "C3", true, false),
            ("EEG Fp1-REF", "FP1", true, false),
            ("POL C3", "C3", true, false),
            ("EEG C3-CLE", "C3", false, false),
            ("01-A2", "O1-A2", false, false),
            ("M1", "M1", true, true),
            ("A1-A2", "A1-A2", false, true),
            ("E1-M2", "E1-M2", false, false),
            ("ROC-LOC", "E2-E1", false, false),
            ("EOG(L)", "E1", true, false),
            ("EEG TP9", "TP9", true, false),
        ] {
            let found = of(label).unwrap_or_else(|| panic!("{label}"));
            assert_eq!(found, (sites.to_owned(), is_electrode, is_reference), "{label}");
        }
        for label in ["EEG", "EEG2", "C25", "Chin1", "ECG", "M1234", "", "EOG horizontal"] {
            assert_eq!(lead(label), None, "{label}");
        }
        assert_eq!((side("C3"), side("F4"), side("FPZ")), (Side::Left, Side::Right, Side::Middle));
        assert_eq!((chin("L Chin"), chin("Chin2"), chin("EMG Chin")), (Some('l'), Some('2'), None));
    }
}
