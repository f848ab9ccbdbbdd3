//! The outbox: what is appended comes out once and in order, whatever moment it is killed at.

use std::fs;

use super::*;

const ROOMY: u64 = 1 << 20;

fn message(number: usize) -> Message {
    let body = format!("{{\"n\":{number},\"text\":\"{}\"}}", "é".repeat(number % 7));
    Message { id: format!("id-{number}"), topic: "sfm/x/epoch".into(), retain: false, body }
}

fn open(path: &Path, beginning: Beginning) -> Outbox {
    Outbox::open(path, beginning, ROOMY).expect("opens")
}

fn rest(outbox: &Outbox) -> Vec<Message> {
    let (mut all, mut position) = (Vec::new(), outbox.acknowledged());
    while let Some((message, next)) = outbox.next(position).expect("read") {
        all.push(message);
        position = next;
    }
    all
}

fn deliver(outbox: &mut Outbox, count: usize) {
    for _ in 0..count {
        let (_, next) = outbox.next(outbox.acknowledged()).expect("read").expect("a message");
        outbox.acknowledge(next).expect("written");
    }
}

#[test]
fn messages_wait_in_order_until_they_are_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("mqtt.outbox");
    let mut outbox = open(&path, Beginning::Anew);
    for number in 0..20 {
        assert_eq!(outbox.append(message(number)).expect("written"), Appended::New);
    }
    deliver(&mut outbox, 7);
    let session = outbox.session();
    drop(outbox);
    let mut outbox = open(&path, Beginning::GoOn);
    assert_eq!((outbox.session(), outbox.waiting()), (session, 13));
    assert_eq!(rest(&outbox), (7..20).map(message).collect::<Vec<_>>());
    for number in 0..20 {
        assert_eq!(outbox.append(message(number)).expect("read"), Appended::Known, "{number}");
    }
    deliver(&mut outbox, 13);
    assert_eq!((outbox.waiting(), rest(&outbox).len()), (0, 0));
}

#[test]
fn another_session_delivers_first_what_waits() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("mqtt.outbox");
    let mut outbox = open(&path, Beginning::Anew);
    (0..3).for_each(|number| assert!(outbox.append(message(number)).is_ok()));
    deliver(&mut outbox, 1);
    let session = outbox.session();
    drop(outbox);
    let mut outbox = open(&path, Beginning::Anew);
    assert_ne!(outbox.session(), session);
    assert_eq!(outbox.append(message(0)).expect("written"), Appended::New, "ids are a session's");
    assert_eq!(rest(&outbox), [1, 2, 0].map(message));
    assert_eq!(outbox.waiting(), 3);
}

/// Killed after any number of the bytes of an append, or of an acknowledgment.
#[test]
fn a_kill_at_any_byte_leaves_the_state_before_or_after() {
    let dir = tempfile::tempdir().expect("a folder");
    let (path, cut) = (dir.path().join("mqtt.outbox"), dir.path().join("cut.outbox"));
    let mut outbox = open(&path, Beginning::Anew);
    (0..4).for_each(|number| assert!(outbox.append(message(number)).is_ok()));
    deliver(&mut outbox, 2);
    let before = fs::read(&path).expect("read");
    outbox.append(message(4)).expect("written");
    let after = fs::read(&path).expect("read");
    assert_eq!(after[..before.len()], before[..], "an append changes nothing before it");
    for bytes in before.len()..=after.len() {
        fs::write(&cut, &after[..bytes]).expect("written");
        let mut cut = open(&cut, Beginning::GoOn);
        let whole = bytes == after.len();
        let (there, anew) = if whole { (5, Appended::Known) } else { (4, Appended::New) };
        assert_eq!(rest(&cut), (2..there).map(message).collect::<Vec<_>>(), "{bytes}");
        assert_eq!(cut.append(message(4)).expect("written"), anew);
        assert_eq!(rest(&cut), (2..5).map(message).collect::<Vec<_>>(), "{bytes}");
    }
    deliver(&mut outbox, 1);
    let acknowledged = fs::read(&path).expect("read");
    let changed: Vec<usize> = (0..after.len()).filter(|&i| after[i] != acknowledged[i]).collect();
    let (first, last) = (changed[0], changed[changed.len() - 1]);
    assert!(first >= 8 && last < RECORDS_AT as usize, "only a slot is written");
    for bytes in first..=last + 1 {
        let torn = [&acknowledged[..bytes], &after[bytes..]].concat();
        fs::write(&cut, torn).expect("written");
        let waiting = if bytes > last { 2 } else { 3 };
        let cut = open(&cut, Beginning::GoOn);
        assert_eq!(cut.waiting(), waiting, "{bytes} of {first} to {last}");
        assert_eq!(rest(&cut).len() as u64, waiting);
    }
}

#[test]
fn a_damaged_message_ends_what_can_be_trusted() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("mqtt.outbox");
    let mut outbox = open(&path, Beginning::Anew);
    outbox.append(message(0)).expect("written");
    let kept = fs::metadata(&path).expect("there").len() as usize;
    outbox.append(message(1)).expect("written");
    outbox.append(message(2)).expect("written");
    drop(outbox);
    let bytes = fs::read(&path).expect("read");
    for byte in [kept, kept + 4, kept + 9, kept + 20] {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 0x40;
        fs::write(&path, damaged).expect("written");
        assert_eq!(rest(&open(&path, Beginning::GoOn)), [message(0)], "byte {byte}");
        assert_eq!(fs::metadata(&path).expect("there").len() as usize, kept, "cut off");
    }
    for byte in [0, RECORDS_AT as usize + 9] {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 0x40;
        fs::write(&path, &damaged).expect("written");
        let refused = Outbox::open(&path, Beginning::GoOn, ROOMY).expect_err("refused").to_string();
        assert!(refused.contains("mqtt.outbox") && refused.contains("move the file"), "{refused}");
        assert_eq!(fs::read(&path).expect("read"), damaged, "nothing is deleted");
    }
    // A zeroed tail is what some file systems leave after a power cut.
    fs::write(&path, [&bytes[..], &[0; 4096]].concat()).expect("written");
    assert_eq!(rest(&open(&path, Beginning::GoOn)).len(), 3);
}

#[test]
fn what_finds_no_room_is_counted_and_the_file_stays_small() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("mqtt.outbox");
    let mut outbox = Outbox::open(&path, Beginning::Anew, 1000).expect("opens");
    let new = (0..100)
        .filter(|&number| outbox.append(message(number)).expect("written") == Appended::New);
    let new = new.count();
    assert!((5..50).contains(&new), "{new}");
    assert_eq!((outbox.waiting(), outbox.left_out()), (new as u64, 100 - new as u64));
    deliver(&mut outbox, new);
    assert_eq!(outbox.append(message(99)).expect("written"), Appended::New, "there is room again");

    let mut outbox = open(&dir.path().join("long.outbox"), Beginning::Anew);
    let body = "x".repeat(1000);
    for number in 0..5000 {
        let message = Message { body: body.clone(), ..message(number) };
        assert_eq!(outbox.append(message).expect("written"), Appended::New);
        deliver(&mut outbox, usize::from(number > 0));
        let bytes = fs::metadata(outbox.path()).expect("there").len();
        assert!(bytes < 3 * COMPACT_BYTES, "{bytes}");
    }
    assert_eq!(outbox.waiting(), 1);
    assert_eq!(outbox.append(message(7)).expect("read"), Appended::Known, "ids are kept");
    let path = outbox.path().to_owned();
    drop(outbox);
    let outbox = open(&path, Beginning::GoOn);
    assert_eq!(rest(&outbox), [Message { body, ..message(4999) }]);
}

#[test]
fn one_process_has_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("mqtt.outbox");
    let mut outbox = open(&path, Beginning::Anew);
    outbox.append(message(0)).expect("written");
    outbox.compact().expect("written");
    let refused = Outbox::open(&path, Beginning::GoOn, ROOMY).expect_err("refused").to_string();
    assert!(refused.contains("another process"), "{refused}");
}
