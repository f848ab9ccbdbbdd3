//! `--serial`, `--udp`, `--tcp`, `--lsl`: where the sensors of a live session are.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use serde::Deserialize;

use crate::link::transport::Endpoint;

/// The rate of most sensors' USB serial lines.
const BAUD: u32 = 921_600;

/// Links to sensors; each may be given several times, all belong to one session.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LinkArgs {
    /// Sensor on a serial line, e.g. /dev/ttyACM0 or /dev/ttyUSB0@115200; may be repeated
    #[arg(long, value_name = "DEV[@BAUD]")]
    pub serial: Vec<String>,
    /// Sensors that send datagrams to this address, e.g. 127.0.0.1:4410; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub udp: Vec<SocketAddr>,
    /// Sensor at HOST:PORT, or listen:ADDR for sensors that connect to it; may be repeated
    #[arg(long, value_name = "[listen:]ADDR")]
    pub tcp: Vec<String>,
    /// Streams of Lab Streaming Layer, e.g. "type='EEG'"; may be repeated
    #[arg(long, value_name = "QUERY")]
    pub lsl: Vec<String>,
    /// Make each device a bed: a session and a folder of its own in --out
    #[arg(long)]
    pub beds: bool,
    /// Beds at a time, each of which takes some 25 MB; a sensor that finds none is an alarm [default: 256]
    #[arg(long, value_name = "N")]
    pub max_beds: Option<NonZeroUsize>,
    /// Number of devices to wait for before recording begins [default: one a link]
    #[arg(long, value_name = "N")]
    pub devices: Option<usize>,
    /// Begin without the missing ones this long after the first device is there [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<f64>,
}

impl LinkArgs {
    /// These arguments, completed from those of a file.
    #[must_use]
    pub fn or(&self, file: Self) -> Self {
        let given = |ours: &Vec<String>, theirs: Vec<String>| {
            if self.is_live() { ours.clone() } else { theirs }
        };
        Self {
            serial: given(&self.serial, file.serial),
            udp: if self.is_live() { self.udp.clone() } else { file.udp },
            tcp: given(&self.tcp, file.tcp),
            lsl: given(&self.lsl, file.lsl),
            beds: self.beds || file.beds,
            max_beds: self.max_beds.or(file.max_beds),
            devices: self.devices.or(file.devices),
            wait: self.wait.or(file.wait),
        }
    }

    /// Whether there is any link.
    pub fn is_live(&self) -> bool {
        let no_socket = self.udp.is_empty() && self.tcp.is_empty();
        !(no_socket && self.serial.is_empty() && self.lsl.is_empty())
    }

    /// The links.
    ///
    /// # Errors
    /// One sentence with the argument that is no address.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, String> {
        let serial = self.serial.iter().map(|text| serial(text));
        let udp = self.udp.iter().map(|address| Ok(Endpoint::Udp(*address)));
        let tcp = self.tcp.iter().map(|text| tcp(text));
        let lsl = self.lsl.iter().map(|query| Ok(Endpoint::Lsl(query.clone())));
        serial.chain(udp).chain(tcp).chain(lsl).collect()
    }

    /// Devices to wait for: one at each link that leads to one.
    pub fn expected_devices(&self) -> usize {
        let links = self.serial.len() + self.udp.len() + self.tcp.len() + self.lsl.len();
        self.devices.unwrap_or(links).max(1)
    }
}

fn serial(text: &str) -> Result<Endpoint, String> {
    match text.rsplit_once('@') {
        None => Ok(Endpoint::Serial(text.to_owned(), BAUD)),
        Some((device, baud)) => match baud.parse() {
            Ok(baud) => Ok(Endpoint::Serial(device.to_owned(), baud)),
            Err(_) => Err(format!("--serial {text}: '{baud}' is no baud rate")),
        },
    }
}

fn tcp(text: &str) -> Result<Endpoint, String> {
    match text.strip_prefix("listen:") {
        Some(address) => address
            .parse()
            .map(Endpoint::TcpListen)
            .map_err(|_| format!("--tcp {text}: '{address}' is no address like 127.0.0.1:4410")),
        None => match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Endpoint::TcpConnect(text.to_owned()))
            }
            _ => Err(format!("--tcp {text}: is neither HOST:PORT nor listen:ADDR:PORT")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_or_refused_with_the_argument() {
        let links = LinkArgs {
            serial: vec!["/dev/ttyACM0".into(), "/dev/ttyUSB1@115200".into()],
            tcp: vec!["bed4:4410".into(), "listen:127.0.0.1:4410".into()],
            ..LinkArgs::default()
        };
        let endpoints = links.endpoints().expect("all are links");
        assert_eq!(
            endpoints,
            [
                Endpoint::Serial("/dev/ttyACM0".into(), BAUD),
                Endpoint::Serial("/dev/ttyUSB1".into(), 115_200),
                Endpoint::TcpConnect("bed4:4410".into()),
                Endpoint::TcpListen(([127, 0, 0, 1], 4410).into()),
            ]
        );
        assert_eq!(links.expected_devices(), 4);
        for wrong in ["4410", "bed4:", "bed4:x", "listen:bed4:4410", "listen:"] {
            let links = LinkArgs { tcp: vec![wrong.into()], ..LinkArgs::default() };
            assert!(links.endpoints().expect_err("refused").contains(wrong), "{wrong}");
        }
    }
}
