//! `sfm-sim` as a host meets it: over UDP, TCP and a pseudo-terminal, with a host of these tests that
//! decodes everything and keeps its own account.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use sfm_firmware_bridge::{Decoder, FromDevice, FromHost, MAX_FRAME_BYTES, encode};
use sfm_runtime::sim::{ChannelReport, Report};

/// Nothing here takes more than a few seconds on a quiet machine.
const TIMEOUT: Duration = Duration::from_secs(120);

fn sim(args: &str) -> Child {
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/mini/psg.edf");
    Command::new(env!("CARGO_BIN_EXE_sfm-sim"))
        .arg(recording)
        .args(args.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

fn ended(child: Child) -> Output {
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    output
}

fn start() -> Vec<u8> {
    encode(&FromHost::Start, &mut [0; MAX_FRAME_BYTES]).expect("it has room").to_vec()
}

/// What a host keeps of one device, across its connections.
#[derive(Default)]
struct Device {
    /// By session and channel, the counters that came.
    seen: BTreeMap<(u64, u8), BTreeSet<u64>>,
    duplicate: BTreeMap<u8, u64>,
    reordered: BTreeMap<u8, u64>,
    labels: BTreeMap<u8, String>,
}

/// What a host keeps in all.
#[derive(Default)]
struct Host {
    devices: BTreeMap<u64, Device>,
    bad: u64,
    byes: usize,
}

/// One connection, or one sender of datagrams.
#[derive(Default)]
struct Peer {
    open: Vec<u8>,
    device: u64,
    session: u64,
}

impl Host {
    /// Takes bytes of a peer; `true` if it is to be started.
    fn take(&mut self, peer: &mut Peer, bytes: &[u8]) -> bool {
        let mut is_new = false;
        peer.open.extend_from_slice(bytes);
        while let Some(end) = peer.open.iter().position(|&byte| byte == 0) {
            let frame: Vec<u8> = peer.open.drain(..=end).collect();
            let mut buffer = [0; MAX_FRAME_BYTES];
            match Decoder::new(&mut buffer).push::<FromDevice>(&mut frame.as_slice()) {
                Some(Ok(FromDevice::Hello(hello))) => {
                    is_new |= peer.session != hello.session;
                    (peer.device, peer.session) = (hello.device, hello.session);
                    self.devices.entry(hello.device).or_default();
                }
                Some(Ok(message)) => self.hear(peer, message),
                Some(Err(_)) => self.bad += 1,
                None => {}
            }
        }
        is_new
    }

    fn hear(&mut self, peer: &Peer, message: FromDevice<'_>) {
        let device = self.devices.get_mut(&peer.device).expect("a hello first");
        match message {
            FromDevice::Channel(c) => {
                device.labels.insert(c.channel, c.label.to_owned());
            }
            FromDevice::Samples(s) => {
                let seen = device.seen.entry((peer.session, s.channel)).or_default();
                let is_late = seen.last().is_some_and(|&last| s.counter < last);
                let count = s.values().expect("whole samples").count() as u64;
                for counter in s.counter..s.counter + count {
                    let number = match seen.insert(counter) {
                        true if is_late => &mut device.reordered,
                        true => continue,
                        false => &mut device.duplicate,
                    };
                    *number.entry(s.channel).or_default() += 1;
                }
            }
            FromDevice::Bye(_) => self.byes += 1,
            _ => {}
        }
    }

    /// Compares with the report, to the sample.
    fn check(&self, report: &Report) {
        assert_eq!(report.devices.len(), self.devices.len());
        let mut corrupted = 0;
        for told in &report.devices {
            let device = &self.devices[&told.device];
            assert_eq!((told.send_errors, told.broken_connections), (0, 0), "{told:#?}");
            for (index, channel) in (0_u8..).zip(&told.channels) {
                assert_eq!(device.labels[&index], channel.label);
                let of_channel = device.seen.iter().filter(|((_, of), _)| *of == index);
                let (mut delivered, mut lost) = (0, 0);
                for (_, seen) in of_channel {
                    delivered += seen.len() as u64;
                    lost += seen.last().map_or(0, |last| last + 1) - seen.len() as u64;
                }
                assert_eq!((channel.delivered, channel.lost), (delivered, lost), "{channel:#?}");
                let number = |all: &BTreeMap<u8, u64>| all.get(&index).copied().unwrap_or(0);
                assert_eq!(channel.duplicate, number(&device.duplicate), "{channel:#?}");
                assert_eq!(channel.reordered, number(&device.reordered), "{channel:#?}");
                corrupted += channel.frames_corrupted;
            }
        }
        assert_eq!(corrupted, self.bad);
    }
}

fn read_report(path: &PathBuf) -> Report {
    serde_json::from_slice(&std::fs::read(path).expect("a report")).expect("JSON")
}

#[test]
fn the_report_is_what_arrives_over_udp() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("report.json");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let mut child = sim(&format!(
        "--udp {} --sensors 2 --speed 50 --duration 200 --seed 5 --drift-ppm 200,-200 --loss 0.02 \
         --duplicate 0.02 --reorder 0.02 --corrupt 0.01 --disconnects 2 --disconnect-s 2,5 \
         --reboots 1 --reboot-s 2,5 --jitter-ms 5 --report {}",
        socket.local_addr().expect("an address"),
        path.display()
    ));
    let (mut host, mut peers) = (Host::default(), BTreeMap::new());
    let (begun, mut buffer) = (Instant::now(), [0; 2048]);
    while host.byes < 2 && child.try_wait().expect("status").is_none() {
        assert!(begun.elapsed() < TIMEOUT, "no end");
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        assert!(length <= 1200);
        if host.take(peers.entry(from).or_default(), &buffer[..length]) {
            socket.send_to(&start(), from).expect("sent");
        }
    }
    // What was still on its way when the program ended.
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        host.take(peers.entry(from).or_default(), &buffer[..length]);
    }
    let output = ended(child);
    let report = read_report(&path);
    host.check(&report);
    assert_eq!((host.byes, peers.len()), (2, 2));
    for device in &report.devices {
        assert_eq!((device.sessions.len(), device.disconnects.len()), (2, 2), "{output:?}");
        assert!(device.start_utc.is_some());
        let some =
            |number: fn(&ChannelReport) -> u64| device.channels.iter().any(|c| number(c) > 0);
        assert!(some(|c| c.lost_by_loss) && some(|c| c.lost_by_corruption));
        assert!(some(|c| c.lost_by_outage) && some(|c| c.duplicate) && some(|c| c.reordered));
    }
}

/// Hands on what one connection says, until it ends.
fn serve(mut stream: TcpStream, index: usize, out: &Sender<(usize, Vec<u8>)>) {
    stream.write_all(&start()).expect("sent");
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        out.send((index, buffer[..length].to_vec())).expect("the test waits");
    }
}

#[test]
fn tcp_sensors_come_back_with_what_they_remember() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("report.json");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let child = sim(&format!(
        "--tcp {} --beds 2 --speed 50 --duration 100 --disconnects 2 --disconnect-s 2,10 \
         --memory 60 --report {}",
        listener.local_addr().expect("an address"),
        path.display()
    ));
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            let (stream, sender) = (stream.expect("a connection"), sender.clone());
            std::thread::spawn(move || serve(stream, index, &sender));
        }
    });
    let (mut host, mut peers) = (Host::default(), BTreeMap::<usize, Peer>::new());
    while host.byes < 2 {
        let (index, bytes) = receiver.recv_timeout(TIMEOUT).expect("bytes");
        host.take(peers.entry(index).or_default(), &bytes);
    }
    ended(child);
    let report = read_report(&path);
    host.check(&report);
    assert_eq!(peers.len(), 2 * 3);
    let sessions: BTreeSet<_> = peers.values().map(|peer| (peer.device, peer.session)).collect();
    assert_eq!(sessions.len(), 2);
    for (bed, device) in report.devices.iter().enumerate() {
        assert_eq!((device.bed, device.sessions.len()), (bed, 1));
        assert!(device.channels.iter().all(|c| c.lost == 0 && c.taken > 0), "{device:#?}");
        assert!(device.channels.iter().any(|c| c.delayed > 0));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_pseudo_terminal_is_a_serial_line() {
    let mut child = sim("--pty --speed 20 --duration 30");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut path = String::new();
    stdout.read_line(&mut path).expect("a path");
    let open = std::fs::OpenOptions::new().read(true).write(true).open(path.trim());
    let mut line = open.expect("a terminal");
    let (mut host, mut peer, mut buffer) = (Host::default(), Peer::default(), [0; 4096]);
    while host.byes < 1 {
        let length = line.read(&mut buffer).expect("bytes");
        if host.take(&mut peer, &buffer[..length]) {
            line.write_all(&start()).expect("sent");
        }
    }
    let device = &host.devices[&peer.device];
    assert_eq!((host.bad, device.labels.len()), (0, 18));
    assert_eq!(device.seen[&(peer.session, 0)].len(), 30 * 256);
    drop(line);
    ended(child);
}

#[test]
fn a_refusal_is_one_line() {
    for (args, code) in [
        ("", 2),
        ("--udp 127.0.0.1:9 --tcp 127.0.0.1:9", 2),
        ("--udp nowhere", 2),
        ("--udp 127.0.0.1:9 --speed 0.5", 2),
        ("--udp 127.0.0.1:9 --loss 2", 2),
        ("--udp 127.0.0.1:9 --sensors 19", 2),
        ("--udp 127.0.0.1:9 --disconnects 100", 2),
        ("--udp 127.0.0.1:9 --from 360", 2),
        ("--udp 127.0.0.1:9 --disconnect-s 9,2", 2),
        ("--serial /nowhere/tty", 5),
    ] {
        let output = sim(args).wait_with_output().expect("it ends");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(code), "{args}: {stderr}");
        assert!(stderr.starts_with("sfm-sim: ") && stderr.lines().count() == 1, "{stderr}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_sfm-sim"))
        .args(["missing.edf", "--udp", "127.0.0.1:9"])
        .output()
        .expect("it ends");
    assert_eq!(output.status.code(), Some(3));
}
