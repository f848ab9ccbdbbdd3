//! The report equals what a host counts in the decoded stream, sample by sample.

use std::collections::BTreeSet;

use super::super::{
    DeviceReport, Faults, LeadOff, Link, Plan, PlanSpec, SensorSpec, SimError, Span,
};
use super::host::{Heard, Played, play, playback, spec, value};

const FAULTS: Faults =
    Faults { jitter_s: 0.02, loss: 0.03, duplicate: 0.03, reorder: 0.04, corrupt: 0.02 };

fn rough(duration_s: f64) -> SensorSpec {
    let wanted = PlanSpec {
        disconnects: 4,
        disconnect_s: (2.0, 12.0),
        reboots: 2,
        reboot_s: (3.0, 8.0),
        lead_offs: 2,
        lead_off_s: (5.0, 10.0),
    };
    let mut rough = SensorSpec { faults: FAULTS, ..spec(duration_s) };
    // Its blocks of 30 s would keep the events further apart.
    rough.channels.truncate(4);
    rough.plan = wanted.draw(3, duration_s, 4, rough.margin_s()).expect("it fits");
    rough
}

/// Compares the report with the host's account.
fn check(played: &Played) {
    let mut corrupted = 0;
    for (index, channel) in played.report.channels.iter().enumerate() {
        let counted = played.counted(index);
        assert_eq!(channel.delivered, counted.delivered, "{channel:?}");
        assert_eq!(channel.lost, counted.lost, "{channel:?}");
        assert_eq!(channel.duplicate, counted.duplicate, "{channel:?}");
        assert_eq!(channel.taken, channel.delivered + channel.lost);
        let causes = channel.lost_by_loss + channel.lost_by_corruption + channel.lost_by_outage;
        assert_eq!(channel.lost, causes);
        // What is sent again may come before anything later was taken.
        let reordered = channel.reordered..=channel.reordered + channel.resent;
        assert!(reordered.contains(&counted.reordered), "{channel:?} {}", counted.reordered);
        let ranges = channel.lost_ranges.iter();
        let missing: BTreeSet<_> = ranges
            .flat_map(|r| (r.counter..r.counter + r.count).map(|counter| (r.session, counter)))
            .collect();
        assert_eq!(missing, counted.missing);
        let by_session: u64 = played.report.sessions.iter().map(|s| s.taken[index]).sum();
        assert_eq!(channel.taken, by_session);
        corrupted += channel.frames_corrupted;
    }
    assert_eq!(corrupted, played.count(|m| *m == Heard::Bad) as u64);
}

fn total(report: &DeviceReport, number: impl Fn(&super::super::ChannelReport) -> u64) -> u64 {
    report.channels.iter().map(number).sum()
}

#[test]
fn every_sample_is_accounted_for() {
    for link in [Link::Datagram, Link::Serial, Link::Stream] {
        let played = play(SensorSpec { link, ..rough(400.0) }, playback(), 0.05, false);
        check(&played);
        let report = &played.report;
        assert_eq!(report.ended, "end");
        assert_eq!((report.disconnects.len(), report.reboots.len()), (4, 2));
        assert_eq!((report.sessions.len(), report.lead_offs.len()), (3, 2));
        for number in [
            total(report, |c| c.lost_by_loss),
            total(report, |c| c.lost_by_corruption),
            total(report, |c| c.lost_by_outage),
            total(report, |c| c.duplicate),
            total(report, |c| c.reordered),
        ] {
            assert!(number > 500, "{report:#?}");
        }
    }
}

#[test]
fn a_frame_of_which_one_copy_arrives_is_neither_lost_nor_duplicate() {
    let faults = Faults { duplicate: 1.0, corrupt: 0.5, ..Faults::default() };
    let played = play(SensorSpec { faults, ..spec(300.0) }, playback(), 0.05, false);
    check(&played);
    let report = &played.report;
    let taken = total(report, |c| c.taken) as f64;
    // Both copies arrive whole, or both corrupted, a quarter of the time each.
    for number in [total(report, |c| c.lost), total(report, |c| c.duplicate)] {
        assert!((number as f64 / taken - 0.25).abs() < 0.02, "{number} of {taken}");
    }
}

#[test]
fn values_are_the_recordings_own() {
    let lead_off = LeadOff { channel: 1, span: Span { start_s: 30.001, end_s: 50.001 } };
    let mut rough = rough(200.0);
    rough.plan.lead_offs = vec![lead_off];
    rough.from_s = 60.0;
    let played = play(rough.clone(), playback(), 0.05, false);
    let (mut session, mut started) = (0, Vec::new());
    for (_, message) in &played.heard {
        match message {
            Heard::Hello { session: id, .. } => {
                session = *id;
            }
            Heard::Samples { channel, counter, values, .. } => {
                let place = played.report.sessions.iter().find(|s| s.session == session);
                let start_s = place.expect("a session").start_s;
                assert_eq!(start_s.fract(), 0.0);
                started.push(start_s as u64);
                let rate_hz = rough.channels[*channel].rate_hz();
                let first = (60.0 + start_s) * rate_hz;
                for (k, &got) in (*counter..).zip(values) {
                    let time_s = start_s + k as f64 / rate_hz;
                    let is_off = *channel == 1 && lead_off.span.contains(time_s);
                    if is_off {
                        assert_eq!(got, rough.channels[1].flat());
                    } else if first.fract() == 0.0 {
                        assert_eq!(got, value(*channel, first as u64 + k));
                    }
                }
            }
            _ => {}
        }
    }
    started.dedup();
    assert_eq!(started.len(), 3, "{started:?}");
    let contacts: Vec<_> = played
        .heard
        .iter()
        .filter_map(|(at_s, message)| match message {
            Heard::Contact { channel: 1, lead_off, .. } => Some((*lead_off, at_s.round())),
            _ => None,
        })
        .collect();
    assert_eq!(contacts.len(), 2, "{contacts:?}");
    assert!(contacts[0].0 && !contacts[1].0);
}

#[test]
fn what_is_not_acknowledged_is_sent_again() {
    let faults = Faults { loss: 0.1, corrupt: 0.05, ..Faults::default() };
    let lossy = SensorSpec { faults, memory_s: 120.0, ..spec(300.0) };
    let played = play(lossy, playback(), 0.05, true);
    check(&played);
    for (channel, at_rate) in played.report.channels.iter().zip([512.0, 256.0, 32.0, 1.0, 0.03]) {
        // The last seconds are over before their turn comes.
        let end = channel.taken as f64 - 8.0 * at_rate;
        let early = channel.lost_ranges.iter().filter(|r| (r.counter as f64) < end);
        assert_eq!(early.count(), 0, "{channel:?}");
    }
    let (resent, taken) =
        (total(&played.report, |c| c.resent) as f64, total(&played.report, |c| c.taken) as f64);
    assert!((0.12..0.17).contains(&(resent / taken)), "{resent} of {taken}");
}

#[test]
fn memory_outlasts_an_outage_as_far_as_it_reaches() {
    let plan = Plan { disconnects: vec![Span { start_s: 20.0, end_s: 40.0 }], ..Plan::default() };
    for link in [Link::Datagram, Link::Stream] {
        let with = |memory_s| {
            let spec = SensorSpec { link, memory_s, plan: plan.clone(), ..spec(100.0) };
            let played = play(spec, playback(), 0.05, false);
            check(&played);
            played.report
        };
        let (none, short, long) = (with(0.0), with(5.0), with(60.0));
        let lost = |report: &DeviceReport| report.channels[1].lost;
        assert!((lost(&none) as i64 - 20 * 256).abs() <= 64, "{none:#?}");
        assert!((lost(&short) as i64 - 15 * 256).abs() <= 512, "{short:#?}");
        assert_eq!(lost(&long), 0, "{long:#?}");
        assert!(long.channels[1].delayed >= 20 * 256);
        assert_eq!((long.channels[1].resent, long.channels[1].reordered), (0, 0));
    }
}

#[test]
fn a_plan_keeps_its_events_apart() {
    let wanted = PlanSpec {
        disconnects: 20,
        disconnect_s: (5.0, 60.0),
        reboots: 5,
        reboot_s: (5.0, 30.0),
        lead_offs: 10,
        lead_off_s: (20.0, 120.0),
    };
    for seed in 0..50 {
        let plan = wanted.draw(seed, 7200.0, 9, 7.0).expect("it fits");
        let mut spans: Vec<Span> = [plan.disconnects, plan.reboots].concat();
        spans.extend(plan.lead_offs.iter().map(|lead_off| lead_off.span));
        assert_eq!(spans.len(), 35);
        spans.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        assert!(spans[0].start_s >= 7.0 && spans[34].end_s <= 7200.0 - 6.99);
        assert!(spans.windows(2).all(|pair| pair[1].start_s - pair[0].end_s >= 6.99));
        assert!(spans.iter().all(|span| span.end_s - span.start_s >= 4.99));
    }
    assert!(matches!(wanted.draw(0, 600.0, 9, 7.0), Err(SimError::Spec(_))));
}
