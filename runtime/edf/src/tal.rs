//! Time-stamped annotation lists (TALs), in which EDF+ keeps annotations and the times of records.

use super::field;

/// Ends the onset, and each text.
const TEXT_END: u8 = 0x14;
/// Stands before the duration.
const DURATION_START: u8 = 0x15;

/// One TAL: an onset with any number of texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tal<'a> {
    /// Seconds after the header's start; finite.
    pub onset_s: f64,
    /// Seconds; `None` where none is given or it is no number.
    pub duration_s: Option<f64>,
    body: &'a [u8],
}

impl<'a> Tal<'a> {
    /// `+onset[<15>duration]<14>text<14>...`, without the closing NUL.
    fn parse(bytes: &'a [u8]) -> Option<Tal<'a>> {
        let onset_end = bytes.iter().position(|&b| b == TEXT_END)?;
        let (time, body) = bytes.split_at(onset_end);
        let mut time = time.splitn(2, |&b| b == DURATION_START);
        let onset_s = field::number(time.next()?)?.value;
        let duration_s = time.next().and_then(field::number).map(|d| d.value);
        Some(Tal { onset_s, duration_s, body: body.get(1..)? })
    }

    /// The first TAL of a record has an empty first text: its onset is the record's.
    pub fn keeps_time(&self) -> bool {
        self.body.first() == Some(&TEXT_END)
    }

    /// The texts that are not empty; UTF-8, or Latin-1 where they are not that.
    pub fn texts(&self) -> impl Iterator<Item = String> + use<'a> {
        self.body.split(|&b| b == TEXT_END).map(field::text).filter(|text| !text.is_empty())
    }
}

/// Appends a list of one annotation; `onset_s` counts from the header's start. An empty text is the
/// time-keeping of a record.
pub(super) fn push_tal(
    out: &mut Vec<u8>,
    decimals: usize,
    onset_s: f64,
    duration_s: Option<f64>,
    text: &str,
) {
    let onset = seconds(onset_s, decimals);
    let sign = if onset.starts_with('-') { "" } else { "+" };
    let duration = duration_s.map_or(String::new(), |d| format!("\x15{}", seconds(d, decimals)));
    let text = text.replace(char::is_control, " ");
    out.extend_from_slice(format!("{sign}{onset}{duration}\x14{text}\x14\0").as_bytes());
}

/// Seconds without trailing zeros.
fn seconds(seconds: f64, decimals: usize) -> String {
    let text = format!("{seconds:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The well-formed TALs of one annotation signal in one record.
#[derive(Debug, Clone)]
pub struct Tals<'a> {
    rest: &'a [u8],
}

impl<'a> Tals<'a> {
    /// `bytes` are the signal's samples as bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Tals { rest: bytes }
    }
}

impl<'a> Iterator for Tals<'a> {
    type Item = Tal<'a>;

    fn next(&mut self) -> Option<Tal<'a>> {
        while !self.rest.is_empty() {
            let end = self.rest.iter().position(|&b| b == 0).unwrap_or(self.rest.len());
            let (tal, rest) = self.rest.split_at(end);
            self.rest = rest.get(1..).unwrap_or_default();
            if let Some(tal) = Tal::parse(tal) {
                return Some(tal);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Vec<(f64, Option<f64>, Vec<String>)> {
        Tals::new(bytes).map(|t| (t.onset_s, t.duration_s, t.texts().collect())).collect()
    }

    #[test]
    fn the_examples_of_the_edf_plus_paper() {
        // Kemp & Olivan 2003, section 2.2.2.
        let tals = parse(b"+180\x14Lights off\x14Close door\x14\0+180\x14Lights off\x14\0\0\0");
        let both = vec!["Lights off".to_owned(), "Close door".to_owned()];
        assert_eq!(tals[0], (180.0, None, both));
        assert_eq!(tals[1], (180.0, None, vec!["Lights off".to_owned()]));
        let apnea = parse(b"+1800.2\x1525.5\x14Apnea\x14\0");
        assert_eq!(apnea, [(1800.2, Some(25.5), vec!["Apnea".to_owned()])]);
        let before_start = parse(b"-0.065\x14Pre-stimulus beep\x14\0");
        assert_eq!(before_start, [(-0.065, None, vec!["Pre-stimulus beep".to_owned()])]);
    }

    #[test]
    fn time_keeping_tals() {
        let mut tals = Tals::new(b"+567\x14\x14\0+567\x14text\x14\0");
        assert!(tals.next().expect("first").keeps_time());
        assert!(!tals.next().expect("second").keeps_time());
        let with_event = Tals::new(b"+567\x14\x14Apnea\x14\0").next().expect("one");
        assert!(with_event.keeps_time());
        assert_eq!(with_event.texts().collect::<Vec<_>>(), ["Apnea"]);
    }

    #[test]
    fn damaged_tals_are_passed_over() {
        let tals = parse(b"+nan\x14a\x14\0noise\0+1\x14good\x14\0+2\x15x\x14cut");
        let texts: Vec<_> = tals.iter().flat_map(|t| t.2.clone()).collect();
        assert_eq!(texts, ["good", "cut"]);
        assert!(parse(b"").is_empty());
        assert!(parse(&[0; 64]).is_empty());
        assert!(parse(&[0xff; 64]).is_empty());
    }

    #[test]
    fn utf8_and_latin1_texts() {
        assert_eq!(parse("+0\x14zażółć\x14\0".as_bytes())[0].2, ["zażółć"]);
        assert_eq!(parse(b"+0\x14r\xe9veil\x14\0")[0].2, ["réveil"]);
    }
}
