//! The arguments of `sfm-stream`, and the TOML file that can hold them. An argument given on the
//! command line goes before the file's.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use serde::Deserialize;
use sfm_models::manifest::ChannelPolicy;

use super::endpoints::LinkArgs;
use super::session_id::{SessionId, one_or_many};
use super::tui::TuiArgs;
use crate::files;
use crate::hypnogram::{Codes, parse_epoch_s};
use crate::infer::backend::BackendChoice;
use crate::night::Sex;
use crate::publish::PublishArgs;
use crate::service::ServiceArgs;
use crate::sink::formats::FormatArgs;
use crate::sink::report::ReportArgs;
use crate::web::WebArgs;

/// Sleep stages and an overnight risk embedding from polysomnography, as the night happens.
///
/// Research software, not a medical device. Hazards are relative: no probability, no diagnosis.
#[derive(Debug, Parser)]
#[command(name = "sfm-stream", version, args_conflicts_with_subcommands = true)]
#[command(arg_required_else_help = true)]
pub struct Args {
    /// What to do instead of running a recording.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Arguments of a run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Commands besides the run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a recording's channels and what each is used for
    Inspect {
        /// EDF, BDF or preprocessed HDF5 file
        file: PathBuf,
        /// How channels are mapped.
        #[command(flatten)]
        channels: ChannelArgs,
        /// Show what the network of this bundle takes, and of too many channels which
        #[arg(long, value_name = "FILE.sfm")]
        bundle: Option<PathBuf>,
        /// Write the channels to stdout as JSON
        #[arg(long)]
        json: bool,
    },
    /// Finish a live session that was cut: complete its recording, stage the rest, run the final pass
    Recover(Box<RecoverArgs>),
    /// Work off an archive: every recording of a folder, a pattern or a list, and a table of all
    Batch(Box<BatchArgs>),
    /// Deliver messages of --mqtt and --nats that a run left in its folder
    Deliver {
        /// The run's folder
        dir: PathBuf,
        /// Where to.
        #[command(flatten)]
        publish: PublishArgs,
    },
    /// Compare the stages of a run with a hypnogram
    Score(ScoreArgs),
    /// Show or check a model bundle
    Bundle {
        /// What to do with it.
        #[command(subcommand)]
        action: BundleAction,
    },
}

/// Arguments of `recover`. What is not among them is as in the session.
#[derive(Debug, clap::Args)]
pub struct RecoverArgs {
    /// The session's folder
    pub dir: PathBuf,
    /// Model bundle [default: the one of the session]
    #[arg(long, value_name = "FILE.sfm")]
    pub bundle: Option<PathBuf>,
    /// The report.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Files in other programs' formats.
    #[command(flatten)]
    pub formats: FormatArgs,
    /// Messages to other systems.
    #[command(flatten)]
    pub publish: PublishArgs,
}

/// Arguments of a batch. What is not among them is as in a run.
#[derive(Debug, clap::Args)]
pub struct BatchArgs {
    /// Folder, pattern in quotes, or list of files (one a line, # begins a comment)
    #[arg(value_name = "DIR|GLOB|LIST")]
    pub input: PathBuf,
    /// Folder for the results: one folder a recording, the cohort's table and page
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Recordings at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub jobs: usize,
    /// Only the recordings of part i of n, for n machines with one folder
    #[arg(long, value_name = "i/n")]
    pub shard: Option<Shard>,
    /// Table with the columns recording, age, sex, for the hazards
    #[arg(long, value_name = "CSV")]
    pub demographics: Option<PathBuf>,
    /// Only make table and page anew, of the recordings that are done
    #[arg(long)]
    pub collect: bool,
    /// Model bundle [default: the built-in one]
    #[arg(long, value_name = "FILE.sfm")]
    pub bundle: Option<PathBuf>,
    /// Which passes to run [default: final]
    #[arg(long)]
    pub pass: Option<Passes>,
    /// Engine [default: auto]
    #[arg(long)]
    pub backend: Option<BackendChoice>,
    /// How channels are mapped.
    #[command(flatten)]
    pub channels: ChannelArgs,
    /// The reports.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Files in other programs' formats.
    #[command(flatten)]
    pub formats: FormatArgs,
    /// Give the network flat lines, mains and noise too, as the reference does
    #[arg(long)]
    pub keep_bad: bool,
    /// Worker threads of all recordings together [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// TOML file with arguments of a run
    #[arg(long, value_name = "TOML")]
    pub config: Option<PathBuf>,
}

/// `--shard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 0 on.
    pub index: u32,
    /// How many there are.
    pub count: u32,
}

impl std::str::FromStr for Shard {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "use i/n with i from 1 to n, as 2/8";
        let (index, count) = text.split_once('/').ok_or(WRONG)?;
        let (index, count): (u32, u32) =
            (index.parse().map_err(|_| WRONG)?, count.parse().map_err(|_| WRONG)?);
        if !(1..=count).contains(&index) {
            return Err(WRONG);
        }
        Ok(Self { index: index - 1, count })
    }
}

impl BatchArgs {
    /// The arguments of each recording's run.
    ///
    /// # Errors
    /// As [`RunArgs::with_config`].
    pub fn of_a_run(&self) -> Result<RunArgs, String> {
        let given = RunArgs {
            bundle: self.bundle.clone(),
            pass: self.pass,
            backend: self.backend,
            channels: self.channels.clone(),
            report: self.report.clone(),
            formats: self.formats.clone(),
            keep_bad: self.keep_bad,
            threads: self.threads,
            config: self.config.clone(),
            ..RunArgs::default()
        };
        let all = given.with_config()?;
        Ok(RunArgs {
            bundle: all.bundle,
            pass: Some(all.pass.unwrap_or(Passes::Final)),
            backend: all.backend,
            channels: all.channels,
            report: all.report,
            formats: all.formats,
            keep_bad: all.keep_bad,
            threads: all.threads,
            ..RunArgs::default()
        })
    }
}

/// Arguments of `score`.
#[derive(Debug, clap::Args)]
#[command(after_help = format!(
    "Formats, known by content:\n{}\nTwo scorings are laid on each other by their start times; without, by epoch. Bare numbers are \
     YASA's code unless --codes says otherwise.",
    crate::hypnogram::list()
))]
pub struct ScoreArgs {
    /// Hypnogram to compare with, in any format below, or the folder of another run
    #[arg(long, value_name = "HYPNOGRAM")]
    pub reference: PathBuf,
    /// The run's folder, or a hypnogram
    pub out: PathBuf,
    /// What bare numbers stand for: yasa, rk, isruc, dreams, ucddb, zmax, usleep, or pairs as
    /// 0=W,1=N1,2=N2,3=N3,5=R,9=?
    #[arg(long, value_name = "CODE")]
    pub codes: Option<Codes>,
    /// The same for the run, if it is another code
    #[arg(long, value_name = "CODE")]
    pub run_codes: Option<Codes>,
    /// Length of an epoch of files that do not say it, seconds
    #[arg(long, value_name = "S", value_parser = parse_epoch_s)]
    pub epoch_s: Option<f64>,
    /// The same for the run, if its epochs have another length
    #[arg(long, value_name = "S", value_parser = parse_epoch_s)]
    pub run_epoch_s: Option<f64>,
    /// Where the reference begins behind the run, seconds, instead of what the files say
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub offset_s: Option<f64>,
    /// Write the figures to stdout as JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// The timeline of disagreement [default: score.svg in the run's folder]
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// What to do with a bundle.
#[derive(Debug, Subcommand)]
pub enum BundleAction {
    /// Show what a bundle holds
    Info {
        /// The bundle; the built-in one without it
        file: Option<PathBuf>,
    },
    /// Check a bundle's checksums and load all of its graphs
    Verify {
        /// The bundle
        file: PathBuf,
    },
}

/// How channels are mapped to modalities.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ChannelArgs {
    /// Use LABEL as MODALITY (BAS, RESP, EKG, EMG) or leave it out (none); may be repeated
    #[arg(long, value_name = "LABEL=MODALITY")]
    pub map: Vec<String>,
    /// Labels by modality in the reference's JSON format, instead of the built-in rules
    #[arg(long, value_name = "JSON", conflicts_with = "channel_rules")]
    pub channel_groups: Option<PathBuf>,
    /// Rules in the format of configs/channels.toml, instead of the built-in ones
    #[arg(long, value_name = "TOML")]
    pub channel_rules: Option<PathBuf>,
    /// Make a channel of others, as C3-M2=C3,M2 (of several after the first, their mean is taken away);
    /// may be repeated
    #[arg(long, value_name = "LABEL=PLUS,MINUS")]
    pub derive: Vec<String>,
    /// Make no derivations of electrodes but those of --derive
    #[arg(long)]
    pub no_derive: bool,
    /// Which channels the network takes: derivations as the AASM manual has them, made of electrodes where
    /// there are none (aasm), or channels as they were recorded (reference) [default: as the bundle says]
    #[arg(long = "channels", value_name = "aasm|reference", conflicts_with = "channel_groups")]
    #[serde(rename = "channels")]
    pub policy: Option<ChannelPolicy>,
}

/// Arguments of a run.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RunArgs {
    /// Recording to replay: EDF, EDF+, BDF, BDF+ or preprocessed HDF5
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Where the sensors of a live session are.
    #[command(flatten)]
    pub links: LinkArgs,
    /// What is around a live session.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// The report.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Files in other programs' formats.
    #[command(flatten)]
    pub formats: FormatArgs,
    /// Messages to other systems.
    #[command(flatten)]
    pub publish: PublishArgs,
    /// The live page.
    #[command(flatten)]
    pub web: WebArgs,
    /// The picture in the terminal.
    #[command(flatten)]
    pub tui: TuiArgs,
    /// Model bundle [default: the built-in one]
    #[arg(long, value_name = "FILE.sfm")]
    pub bundle: Option<PathBuf>,
    /// Folder for the results [default: the recording's name with .sfm-out]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Which passes to run [default: both]
    #[arg(long)]
    pub pass: Option<Passes>,
    /// Reading speed of the live pass as a multiple of real time, or max [default: max]
    #[arg(long, value_name = "max|N")]
    pub speed: Option<Speed>,
    /// Engine [default: auto]
    #[arg(long)]
    pub backend: Option<BackendChoice>,
    /// Age in years, for the hazards
    #[arg(long, value_name = "YEARS")]
    pub age: Option<f64>,
    /// Sex, for the hazards
    #[arg(long)]
    pub sex: Option<Sex>,
    /// Name of the live session: after a cut or a restart, only the same name goes on with it; with
    /// --beds as DEVICE=ID, may be repeated
    #[arg(long, value_name = "[DEVICE=]ID")]
    #[serde(deserialize_with = "one_or_many")]
    pub session: Vec<SessionId>,
    /// How channels are mapped.
    #[command(flatten)]
    pub channels: ChannelArgs,
    /// Give the network flat lines, mains and noise too, as the reference does
    #[arg(long)]
    pub keep_bad: bool,
    /// Worker threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Write the events to stdout as JSON lines instead of the summary
    #[arg(long)]
    pub json: bool,
    /// Print where the time went, on stderr
    #[arg(long)]
    pub timings: bool,
    /// TOML file with any of these arguments
    #[arg(long, value_name = "TOML")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// `--pass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Passes {
    /// The live pass, then the final one
    Both,
    /// The causal pass alone
    Live,
    /// The whole-recording pass alone
    Final,
}

/// A configuration is a page or two.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// `--speed`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "SpeedText")]
pub enum Speed {
    /// As fast as the machine allows.
    Max,
    /// This multiple of real time.
    Times(f64),
}

/// A night in a month, and faster than any machine.
const SLOWEST: f64 = 0.01;
const FASTEST: f64 = 1e9;

#[derive(Deserialize)]
#[serde(untagged)]
enum SpeedText {
    Word(String),
    Number(f64),
}

impl TryFrom<SpeedText> for Speed {
    type Error = String;

    fn try_from(text: SpeedText) -> Result<Self, String> {
        match text {
            SpeedText::Word(word) => word.parse(),
            SpeedText::Number(number) => number.to_string().parse(),
        }
    }
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        match text.parse::<f64>() {
            Ok(times) if (SLOWEST..=FASTEST).contains(&times) => Ok(Speed::Times(times)),
            _ => Err(format!("use max or a number from {SLOWEST} to {FASTEST}")),
        }
    }
}

impl RunArgs {
    /// These arguments, completed from their `--config` file.
    ///
    /// # Errors
    /// One sentence with the file, the place in it and the reason.
    pub fn with_config(&self) -> Result<Self, String> {
        let Some(path) = &self.config else { return Ok(self.clone()) };
        let mut file = read_config(path)?;
        if self.channels.channel_groups.is_some() || self.channels.channel_rules.is_some() {
            (file.channels.channel_groups, file.channels.channel_rules) = (None, None);
        } else if file.channels.channel_groups.is_some() && file.channels.channel_rules.is_some() {
            let path = path.display();
            return Err(format!("{path}: channel-groups and channel-rules exclude each other"));
        }
        let mut map = file.channels.map;
        map.extend(self.channels.map.clone());
        let mut derive = file.channels.derive;
        derive.extend(self.channels.derive.clone());
        Ok(Self {
            replay: self.replay.clone().or(file.replay),
            links: self.links.or(file.links),
            service: self.service.or(file.service),
            report: self.report.or(file.report),
            formats: self.formats.or(file.formats),
            publish: self.publish.or(file.publish),
            web: self.web.or(file.web),
            tui: self.tui.or(file.tui),
            bundle: self.bundle.clone().or(file.bundle),
            out: self.out.clone().or(file.out),
            pass: self.pass.or(file.pass),
            speed: self.speed.or(file.speed),
            backend: self.backend.or(file.backend),
            age: self.age.or(file.age),
            sex: self.sex.or(file.sex),
            session: if self.session.is_empty() { file.session } else { self.session.clone() },
            channels: ChannelArgs {
                map,
                channel_groups: self
                    .channels
                    .channel_groups
                    .clone()
                    .or(file.channels.channel_groups),
                channel_rules: self.channels.channel_rules.clone().or(file.channels.channel_rules),
                derive,
                no_derive: self.channels.no_derive || file.channels.no_derive,
                policy: self.channels.policy.or(file.channels.policy),
            },
            keep_bad: self.keep_bad || file.keep_bad,
            threads: self.threads.or(file.threads),
            json: self.json || file.json,
            timings: self.timings || file.timings,
            config: None,
        })
    }
}

fn read_config(path: &Path) -> Result<RunArgs, String> {
    let refuse = |reason: String| format!("{}: {reason}", path.display());
    let text = files::read_text(path, MAX_CONFIG_BYTES)
        .map_err(|e| refuse(format!("cannot be read: {e}")))?;
    toml::from_str(&text).map_err(|e| {
        let line = 1 + e.span().map_or(0, |span| text[..span.start].matches('\n').count());
        refuse(format!("line {line}: {}", e.message()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_goes_before_the_file() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("run.toml");
        let text = "speed = 10\npass = 'live'\nage = 40\n[channels]\nmap = ['X=EMG']\n";
        std::fs::write(&path, text).expect("written");
        let args = Args::try_parse_from([
            "sfm-stream",
            "--replay",
            "a.edf",
            "--pass",
            "final",
            "--map",
            "Y=none",
            "--config",
            path.to_str().expect("UTF-8"),
        ])
        .expect("parses");
        let run = args.run.with_config().expect("reads");
        assert_eq!(run.pass, Some(Passes::Final));
        assert_eq!(run.speed, Some(Speed::Times(10.0)));
        assert_eq!(run.age, Some(40.0));
        assert_eq!(run.channels.map, ["X=EMG", "Y=none"]);
    }

    #[test]
    fn rules_of_the_command_line_replace_the_files() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("run.toml");
        std::fs::write(&path, "[channels]\nchannel-groups = 'a.json'\n").expect("written");
        let config = path.to_str().expect("UTF-8");
        let from = |more: &[&str]| {
            let args = ["sfm-stream", "--replay", "a.edf", "--config", config];
            let args = Args::try_parse_from(args.iter().chain(more)).expect("parses");
            args.run.with_config().map(|run| run.channels)
        };
        assert_eq!(from(&[]).expect("reads").channel_groups, Some("a.json".into()));
        let rules = from(&["--channel-rules", "b.toml"]).expect("reads");
        assert_eq!((rules.channel_groups, rules.channel_rules), (None, Some("b.toml".into())));
        let both = "[channels]\nchannel-groups = 'a.json'\nchannel-rules = 'b.toml'\n";
        std::fs::write(&path, both).expect("written");
        assert!(from(&[]).expect_err("refused").contains("exclude each other"));
    }

    #[test]
    fn a_shard_is_one_of_so_many() {
        assert_eq!("1/1".parse(), Ok(Shard { index: 0, count: 1 }));
        assert_eq!("3/3".parse(), Ok(Shard { index: 2, count: 3 }));
        for text in ["0/3", "4/3", "1", "1/", "/2", "-1/2", "1/0", "a/b", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_speed_is_max_or_within_reason() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("0.5".parse(), Ok(Speed::Times(0.5)));
        for text in ["0", "-1", "nan", "inf", "1e-300", "1e300", "fast", ""] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_bedside_configuration_is_one() {
        let bedside = include_str!("../../../configs/bedside.toml");
        let run: RunArgs = toml::from_str(bedside).expect("it is read");
        assert!(run.links.is_live() && run.service.metrics.is_some() && run.replay.is_none());
        assert_eq!(run.links.endpoints().map(|all| all.len()), Ok(2));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("run.toml");
        std::fs::write(&path, "age = 40\nspeeed = 10\n").expect("written");
        let error = read_config(&path).expect_err("refused");
        assert!(error.contains("line 2") && error.contains("speeed"), "{error}");
    }
}
