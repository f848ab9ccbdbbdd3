//! The command line of `sfm-sim`. Every refusal is one line on stderr and an exit code: 2 wrong
//! usage, 3 recording unreadable, 5 the run failed.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Parser};

use super::faults::mixed;
use super::links::{self, Device, Endpoint, Seat};
use super::{
    ChannelSpec, DeviceReport, EdfPlayback, Faults, Hostile, HostileKind, Link, PlanSpec, Playback,
    Report, Sensor, SensorSpec, SimError, deal, device_id,
};
use crate::text::escaped;

/// Devices of one run: each has a socket.
const MAX_DEVICES: usize = 1000;
/// An electrode is off for so long, seconds.
const LEAD_OFF_S: (f64, f64) = (20.0, 120.0);
/// A hostile device goes on for so long by itself, seconds.
const HOSTILE_S: f64 = 300.0;

/// Plays an EDF or BDF recording as one or many sensors, with seeded faults.
///
/// The sensors speak the protocol of firmware-bridge/PROTOCOL.md and wait for a host, e.g.
/// `sfm-stream`, to start them. --report says to the sample what was lost, sent twice or corrupted.
#[derive(Debug, Parser)]
#[command(name = "sfm-sim", version)]
#[command(group(ArgGroup::new("link").required(true)
    .args(["udp", "tcp", "tcp_listen", "serial", "pty"])))]
pub struct Args {
    /// Recording to play: EDF, EDF+, BDF or BDF+
    #[arg(required_unless_present = "hostile")]
    pub file: Option<PathBuf>,
    /// Send datagrams to this address of a host
    #[arg(long, value_name = "ADDR")]
    pub udp: Option<String>,
    /// Connect to this address of a host
    #[arg(long, value_name = "ADDR")]
    pub tcp: Option<String>,
    /// Wait for the host's connections here; each is the next sensor's
    #[arg(long, value_name = "ADDR")]
    pub tcp_listen: Option<String>,
    /// Use this serial line, for one sensor
    #[arg(long, value_name = "DEV")]
    pub serial: Option<PathBuf>,
    /// Make a pseudo-terminal for each sensor and print the path of its other end
    #[arg(long)]
    pub pty: bool,
    /// Sensors that the channels of a bed are dealt to, by modality
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub sensors: usize,
    /// Beds that play the same recording
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub beds: usize,
    /// Multiple of real time, 1 to 1000
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub speed: f64,
    /// Decides identities and faults
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Where in the recording to begin, seconds
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    pub from: f64,
    /// How much of it to play, seconds [default: the rest]
    #[arg(long, value_name = "S")]
    pub duration: Option<f64>,
    /// How much too fast each sensor's clock is, parts per million; the last value is for the rest
    #[arg(long, value_name = "P,..", value_delimiter = ',', allow_hyphen_values = true)]
    pub drift_ppm: Vec<f64>,
    /// Delay frames by 0 to M milliseconds, in order
    #[arg(long, value_name = "M", default_value_t = 0.0)]
    pub jitter_ms: f64,
    /// Probability that a samples frame is lost
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub loss: f64,
    /// Probability that it arrives twice
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub duplicate: f64,
    /// Probability that it arrives 0.1 to 0.4 s later, behind others
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub reorder: f64,
    /// Probability that a copy of it arrives with flipped bits
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub corrupt: f64,
    /// Outages of each sensor's link
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub disconnects: usize,
    /// Their shortest and longest duration, seconds
    #[arg(long, value_name = "A,B", value_parser = range, default_value = "5,60")]
    pub disconnect_s: (f64, f64),
    /// Reboots of each sensor
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub reboots: usize,
    /// Their shortest and longest duration, seconds
    #[arg(long, value_name = "A,B", value_parser = range, default_value = "5,30")]
    pub reboot_s: (f64, f64),
    /// Channels of each sensor that come off for 20 to 120 s
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub lead_off: usize,
    /// Seconds that a sensor remembers, to send again what is not acknowledged; 0: none
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    pub memory: f64,
    /// Length of a block of samples, seconds [default: 0.1 to 0.25 by rate]
    #[arg(long, value_name = "S")]
    pub block_s: Option<f64>,
    /// Sensors that never listen: samples at once, hello every 10 s
    #[arg(long)]
    pub one_way: bool,
    /// Hostile devices instead of sensors
    #[arg(long, value_name = "KIND")]
    pub hostile: Option<HostileKind>,
    /// Write what was injected, by device and channel, to this file
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
}

fn range(text: &str) -> Result<(f64, f64), String> {
    let refuse = || format!("'{text}' is no range of seconds such as 5,60");
    let (shortest, longest) = text.split_once(',').ok_or_else(refuse)?;
    let range = shortest.parse().ok().zip(longest.parse().ok());
    range.filter(|&(a, b): &(f64, f64)| a > 0.0 && b >= a && b < 1e6).ok_or_else(refuse)
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if !error.use_stderr() => {
            // A closed pipe took the help away: nothing to tell anyone.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = error.to_string();
            let reason = text.split("\n\nUsage:").next().unwrap_or_default();
            let reason = reason.split("\n\nFor more").next().unwrap_or_default();
            let reason = reason.trim_start_matches("error:");
            say(&format!("sfm-sim: {reason}; sfm-sim --help shows all arguments"));
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("sfm-sim: {error}"));
            ExitCode::from(match error {
                SimError::Spec(_) => 2,
                SimError::Recording(_) => 3,
                SimError::Failed(_) => 5,
            })
        }
    }
}

/// One line on stderr. What a file brought in cannot reach the terminal as control characters, and a
/// closed stderr stops nothing.
fn say(line: &str) {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(std::io::stderr(), "{}", escaped(&line));
}

fn show(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{}", escaped(line)).and_then(|()| stdout.flush());
}

fn run(args: &Args) -> Result<(), SimError> {
    let endpoint = endpoint(args)?;
    check(args)?;
    let seats = match (args.hostile, &args.file) {
        (Some(kind), _) => hostile_seats(args, kind),
        (None, Some(file)) => sensor_seats(args, file)?,
        (None, None) => return Err(SimError::Spec("no recording is given".into())),
    };
    let devices = links::run(seats, endpoint, args.speed, &mut show)?;
    devices.iter().for_each(|device| show(&summary(device)));
    let failure = devices.iter().find(|device| device.ended.starts_with("failed"));
    let failure = failure.map(|device| format!("device {}: {}", device.device, device.ended));
    if let Some(path) = &args.report {
        let file = args.file.as_ref().map(|file| file.display().to_string());
        let report = Report { file, seed: args.seed, speed: args.speed, devices };
        let name = path.display();
        let failed = |reason: String| SimError::Failed(format!("{name} is not written: {reason}"));
        let text = serde_json::to_string_pretty(&report).map_err(|e| failed(e.to_string()))?;
        std::fs::write(path, text + "\n").map_err(|e| failed(e.to_string()))?;
    }
    failure.map_or(Ok(()), |failure| Err(SimError::Failed(failure)))
}

fn endpoint(args: &Args) -> Result<Endpoint, SimError> {
    let address = |text: &str| -> Result<SocketAddr, SimError> {
        let refuse = || SimError::Spec(format!("'{text}' is no address such as 127.0.0.1:7000"));
        text.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(refuse)
    };
    match (&args.udp, &args.tcp, &args.tcp_listen, &args.serial) {
        (Some(host), ..) => Ok(Endpoint::Udp(address(host)?)),
        (_, Some(host), ..) => Ok(Endpoint::Tcp(address(host)?)),
        (_, _, Some(here), _) => Ok(Endpoint::TcpListen(address(here)?)),
        (.., Some(line)) => Ok(Endpoint::Serial(line.clone())),
        _ => Ok(Endpoint::Pty),
    }
}

fn check(args: &Args) -> Result<(), SimError> {
    let refuse = |reason: &str| Err(SimError::Spec(reason.into()));
    if !(1.0..=1000.0).contains(&args.speed) {
        return refuse("--speed is from 1 to 1000");
    }
    let devices = args.sensors.saturating_mul(args.beds);
    if !(1..=MAX_DEVICES).contains(&devices) {
        return refuse("--sensors times --beds is from 1 to 1000");
    }
    if args.serial.is_some() && devices > 1 {
        return refuse("a serial line has one sensor; use --pty, --udp or --tcp for more");
    }
    Ok(())
}

fn link(args: &Args) -> Link {
    if args.udp.is_some() {
        Link::Datagram
    } else if args.tcp.is_some() || args.tcp_listen.is_some() {
        Link::Stream
    } else {
        Link::Serial
    }
}

fn hostile_seats(args: &Args, kind: HostileKind) -> Vec<Seat> {
    let duration_s = args.duration.unwrap_or(HOSTILE_S);
    let is_stream = link(args) == Link::Stream;
    let seat = |bed, sensor| {
        let device = device_id(args.seed, bed, sensor);
        let hostile = Hostile::new(kind, device, args.seed, duration_s, is_stream);
        Seat { bed, device: Device::Hostile(Box::new(hostile)) }
    };
    (0..args.beds).flat_map(|bed| (0..args.sensors).map(move |sensor| seat(bed, sensor))).collect()
}

fn sensor_seats(args: &Args, file: &Path) -> Result<Vec<Seat>, SimError> {
    let recording = EdfPlayback::open(file)?;
    recording.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
    let channels = recording.channels();
    if args.sensors > channels.len() {
        let count = channels.len();
        return Err(SimError::Spec(format!("--sensors {}: only {count} channels", args.sensors)));
    }
    let left_s = recording.duration_s() - args.from;
    if !(left_s > 0.0 && args.from >= 0.0) {
        let length_s = recording.duration_s();
        return Err(SimError::Spec(format!("--from {}: the file has {length_s} s", args.from)));
    }
    let duration_s = args.duration.unwrap_or(left_s).min(left_s);
    let dealt = deal(channels, args.sensors);
    let mut seats = Vec::new();
    for bed in 0..args.beds {
        for (index, channels) in dealt.iter().enumerate() {
            let spec = sensor_spec(args, bed, index, channels.clone(), duration_s)?;
            let playback = Playback::Edf(Box::new(EdfPlayback::open(file)?));
            let sensor = Sensor::new(spec, playback)?;
            seats.push(Seat { bed, device: Device::Sensor(Box::new(sensor)) });
        }
    }
    Ok(seats)
}

fn sensor_spec(
    args: &Args,
    bed: usize,
    index: usize,
    channels: Vec<ChannelSpec>,
    duration_s: f64,
) -> Result<SensorSpec, SimError> {
    let device = device_id(args.seed, bed, index);
    let drift_ppm = args.drift_ppm.get(index).or(args.drift_ppm.last()).copied();
    let mut spec = SensorSpec {
        device,
        seed: args.seed,
        channels,
        link: link(args),
        one_way: args.one_way,
        drift_ppm: drift_ppm.unwrap_or_default(),
        marks_lights: index == 0,
        from_s: args.from,
        duration_s,
        block_s: args.block_s,
        memory_s: args.memory,
        faults: Faults {
            jitter_s: args.jitter_ms / 1000.0,
            loss: args.loss,
            duplicate: args.duplicate,
            reorder: args.reorder,
            corrupt: args.corrupt,
        },
        plan: Default::default(),
    };
    spec.check()?;
    let wanted = PlanSpec {
        disconnects: args.disconnects,
        disconnect_s: args.disconnect_s,
        reboots: args.reboots,
        reboot_s: args.reboot_s,
        lead_offs: args.lead_off,
        lead_off_s: LEAD_OFF_S,
    };
    let seed = mixed(&[args.seed, device]);
    spec.plan = wanted.draw(seed, duration_s, spec.channels.len(), spec.margin_s())?;
    Ok(spec)
}

/// One line for people.
fn summary(device: &DeviceReport) -> String {
    let sum = |number: fn(&super::ChannelReport) -> u64| -> u64 {
        device.channels.iter().map(number).sum()
    };
    format!(
        "bed {} device {:016x}: {}; {} sessions, {} samples taken, {} lost, {} resent, {} duplicate, {} \
         reordered, {} frames corrupted",
        device.bed,
        device.device,
        device.ended,
        device.sessions.len(),
        sum(|c| c.taken),
        sum(|c| c.lost),
        sum(|c| c.resent),
        sum(|c| c.duplicate),
        sum(|c| c.reordered),
        sum(|c| c.frames_corrupted),
    )
}
