//! Files that claim more than they hold, or are built to take memory: read within limits, or refused
//! in one line that has the limit. Every run has 2 GiB of address space, see [`crate::run`].

use crate::recordings::Made;
use crate::run::{Bench, data};

const CHANNELS: [(&str, usize); 2] = [("EEG C4-M1", 100), ("EMG Chin", 100)];

/// Peak memory of the processes that have ended below this one, bytes.
#[cfg(target_os = "linux")]
fn peak_of(command: &mut std::process::Command) -> u64 {
    use std::io::Read;
    command.stdout(std::process::Stdio::null());
    let mut child = command.spawn().expect("starts");
    let (mut peak, mut text) = (0, String::new());
    while child.try_wait().expect("a status").is_none() {
        text.clear();
        let status = format!("/proc/{}/status", child.id());
        let read = std::fs::File::open(status).and_then(|mut file| file.read_to_string(&mut text));
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        peak = peak.max(read.ok().and(kib).unwrap_or_default() << 10);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    peak
}

/// An EDF+ file of annotations alone, `texts` of them in each of `records`.
fn crowded(records: usize, texts: usize, text: &str) -> Vec<u8> {
    let mut record = b"+0\x14\x14\0+0\x14".to_vec();
    (0..texts).for_each(|_| record.extend([text.as_bytes(), b"\x14"].concat()));
    record.extend([0, 0]);
    record.resize(record.len().next_multiple_of(2), 0);
    let mut header =
        format!("{:<8}{:<80}{:<80}01.01.2601.01.01", "0", "X X X X", "Startdate X X X X");
    header += &format!("{:<8}{:<44}{records:<8}{:<8}{:<4}", 512, "EDF+C", 0, 1);
    let fields: [(usize, String); 10] = [
        (16, "EDF Annotations".to_owned()),
        (80, String::new()),
        (8, String::new()),
        (8, "-1".to_owned()),
        (8, "1".to_owned()),
        (8, "-32768".to_owned()),
        (8, "32767".to_owned()),
        (80, String::new()),
        (8, (record.len() / 2).to_string()),
        (32, String::new()),
    ];
    fields.iter().for_each(|(width, text)| header += &format!("{text:<width$}"));
    let mut bytes = header.into_bytes();
    (0..records).for_each(|_| bytes.extend(&record));
    bytes
}

#[test]
fn annotations_by_the_million_are_read_one_at_a_time() {
    let bench = Bench::new();
    let bytes = crowded(4, 1 << 20, "a");
    let size = bytes.len() as u64;
    bench.file("crowded.edf", bytes);
    let run = bench.run("score --reference crowded.edf crowded.edf");
    assert!(run.refused(3).contains("holds no sleep stages"), "{run:#?}");
    #[cfg(target_os = "linux")]
    {
        let mut command = bench.command("score --reference crowded.edf crowded.edf".split(' '));
        let peak = peak_of(command.stderr(std::process::Stdio::null()));
        assert!(peak < 3 * size + (200 << 20), "{} MiB for {} MiB", peak >> 20, size >> 20);
    }
    bench.file("more.edf", crowded(8, 1 << 20, "a"));
    let run = bench.run("score --reference more.edf more.edf");
    assert!(run.refused(3).contains("over 5000000 annotations"), "{run:#?}");
    // Stages by the million are no night.
    bench.file("stages.edf", crowded(2, 1 << 20, "Sleep stage W"));
    let run = bench.run("score --reference stages.edf stages.edf");
    assert!(run.refused(3).contains("over 1000000 sleep stages"), "{run:#?}");
}

#[test]
fn stages_by_the_million_are_refused_with_the_limit() {
    let bench = Bench::new();
    bench.file("long.txt", "W\n".repeat(7 << 20));
    let run = bench.run("score --reference long.txt long.txt");
    assert!(run.refused(3).contains("over 1000000 rows"), "{run:#?}");
    bench.file("large.txt", "W\n".repeat(9 << 20));
    let run = bench.run("score --reference large.txt large.txt");
    assert!(run.refused(3).contains("more than 16 MiB"), "{run:#?}");
    bench.file("many.xml", format!("<CMPStudyConfig>{}</CMPStudyConfig>", "<a/>".repeat(1 << 20)));
    let run = bench.run("score --reference many.xml many.xml");
    assert!(run.refused(3).contains("over 1000000 elements"), "{run:#?}");
    let deep = "<a>".repeat(1 << 20);
    bench.file("deep.xml", deep);
    let run = bench.run("score --reference deep.xml deep.xml");
    assert!(run.refused(3).contains("64 deep"), "{run:#?}");
}

/// One record of 200 says another time; the night stays where it is, and it is said.
#[test]
fn one_damaged_time_moves_nothing() {
    for (record, hours) in [(0, 99.0), (50, 99.0), (120, 99.0), (199, 99.0), (50, 2.0)] {
        let mut made = Made::new(1.0, 200, &CHANNELS).with_hole(199, 0.0);
        made.onsets_s[record] += hours * 3600.0;
        let bench = Bench::new();
        let file = bench.file("study.edf", damaged(&made, record));
        let run = bench.replay(&file, "--pass live");
        run.done();
        run.warns("1 record(s) with an onset that no other bears out");
        let output = bench.output();
        assert_eq!(output.hypnogram.len(), 7, "record {record}");
        let line = output.ledger("EEG C4-M1");
        assert_eq!((&line["received"], &line["missing"]), (&20_000.into(), &0.into()), "{line}");
    }
}

/// The file with the onset of `record` as it is in `made`, and the others as if it were in order:
/// our own writer would not write it.
fn damaged(made: &Made, record: usize) -> Vec<u8> {
    let mut whole = made.clone();
    let wanted = whole.onsets_s[record];
    whole.onsets_s[record] = record as f64;
    let mut bytes = whole.bytes();
    let onset = format!("+{wanted}\x14\x14\0");
    let record_bytes = 2 * 200 + 40;
    let header = bytes.len() - 200 * record_bytes;
    // The annotation signal lies behind the samples.
    let place = header + record * record_bytes + 2 * 200;
    bytes[place..place + 40].fill(0);
    bytes[place..place + onset.len()].copy_from_slice(onset.as_bytes());
    bytes
}

#[test]
fn a_recording_of_weeks_is_refused_before_it_takes_memory() {
    let bench = Bench::new();
    // 20 kB that claim 115 days.
    let mut made = Made::new(1000.0, 10_000, &[("SaO2", 1)]);
    made.signals[0].samples_per_record = 1;
    bench.file("weeks.edf", made.bytes());
    for args in ["--replay weeks.edf", "inspect weeks.edf"] {
        let run = bench.run(args);
        let line = run.refused(3);
        assert!(line.contains("115.7 days, over the limit of 8"), "{line}");
    }
}

#[test]
fn a_real_hypnogram_is_read_as_before() {
    let bench = Bench::new();
    bench.replay(&data("edf/short_psg.edf"), "--pass final").done();
    let run = bench.run("score --reference out/hypnogram.edf out");
    assert!(run.done().contains("10"), "{run:#?}");
}
