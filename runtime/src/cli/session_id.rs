//! `--session`: which session a start belongs to. Only a start of the same name goes on with a
//! session that has one. The name stands in `session.json` and nowhere else: not in the names of
//! folders and topics, not in outputs, not in the log.

use std::str::FromStr;

use serde::Deserialize;

use super::args::RunArgs;
use crate::service::bind::DeviceId;

/// Longest name, characters.
const MAX_CHARS: usize = 64;

/// A session's name, with `--beds` and the device whose session it is.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SessionId {
    device: Option<DeviceId>,
    id: String,
}

impl std::fmt::Debug for SessionId {
    /// Without the name, which is in no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionId").field("device", &self.device).finish_non_exhaustive()
    }
}

impl FromStr for SessionId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (device, id) = match text.split_once('=') {
            Some((device, id)) => (Some(device.parse()?), id),
            None => (None, text),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if id.is_empty() || id.len() > MAX_CHARS || !id.chars().all(is_name) {
            return Err(format!("a session's name is 1 to {MAX_CHARS} of A-Z a-z 0-9 _ -"));
        }
        Ok(Self { device, id: id.to_owned() })
    }
}

impl TryFrom<String> for SessionId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// In a file it may be one or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(SessionId),
    Many(Vec<SessionId>),
}

pub(super) fn one_or_many<'de, D>(file: D) -> Result<Vec<SessionId>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let wrong = |_| serde::de::Error::custom("session is a name, or a list of DEVICE=ID");
    Ok(match OneOrMany::deserialize(file).map_err(wrong)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// Whether the names fit the kind of run.
///
/// # Errors
/// One sentence.
pub(super) fn check(args: &RunArgs) -> Result<(), String> {
    let names = &args.session;
    if names.is_empty() {
        return Ok(());
    }
    if args.replay.is_some() {
        return Err("--session is for live sessions; a replay has none".to_owned());
    }
    if !args.links.beds {
        return match names.as_slice() {
            [SessionId { device: None, .. }] => Ok(()),
            _ => Err("--session takes one name; DEVICE=ID is for --beds".to_owned()),
        };
    }
    let mut devices: Vec<u64> = names.iter().filter_map(|n| Some(n.device?.0)).collect();
    devices.sort_unstable();
    devices.dedup();
    match devices.len() == names.len() {
        true => Ok(()),
        false => Err("with --beds, --session is DEVICE=ID, once for each device".to_owned()),
    }
}

/// The name of the session that all devices share, or of a device's.
pub(super) fn of(args: &RunArgs, device: Option<u64>) -> Option<String> {
    let names = &args.session;
    let wanted = if args.links.beds { device } else { None };
    names.iter().find(|n| n.device.map(|d| d.0) == wanted).map(|n| n.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(beds: bool, names: &[&str]) -> RunArgs {
        let session = names.iter().map(|name| name.parse().expect("a name")).collect();
        let mut args = RunArgs { session, ..RunArgs::default() };
        args.links.beds = beds;
        args
    }

    #[test]
    fn a_name_is_one_for_all_or_one_for_each_bed() {
        for wrong in ["", "a b", "a/b", "a.b", "ä", "x=y", "1=", "1=a=b", &"a".repeat(65)] {
            assert!(wrong.parse::<SessionId>().is_err(), "{wrong}");
        }
        assert_eq!(check(&args(false, &["A-1_z"])), Ok(()));
        assert!(check(&args(false, &["a", "b"])).is_err());
        assert!(check(&args(false, &["1=a"])).is_err());
        assert!(check(&args(true, &["a"])).is_err());
        assert!(check(&args(true, &["1=a", "01=b"])).is_err(), "twice");
        let beds = args(true, &["1=a", "ff=b"]);
        assert_eq!(check(&beds), Ok(()));
        assert_eq!(of(&beds, Some(255)).as_deref(), Some("b"));
        assert_eq!(of(&beds, Some(2)), None);
        assert_eq!(of(&args(false, &["a"]), Some(2)).as_deref(), Some("a"), "late devices too");
        assert!(!format!("{beds:?}").contains("\"a\""), "names are in no log");
    }

    #[test]
    fn a_file_has_a_name_or_a_list() {
        let read = |text: &str| toml::from_str::<RunArgs>(text).map(|args| args.session);
        assert_eq!(read("session = 'n1'").map(|s| s.len()).ok(), Some(1));
        assert_eq!(read("session = ['1=a', '2=b']").map(|s| s.len()).ok(), Some(2));
        let said = read("session = 'a b'").expect_err("refused").to_string();
        assert!(said.contains("session is a name") && !said.contains("untagged"), "{said}");
    }
}
