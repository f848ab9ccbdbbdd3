//! The seam between the source's thread and the pipeline's: one lock-free single-producer
//! single-consumer ring of samples a channel, beside it a ring of spans that say where the
//! samples lie; a span without samples says that nothing before its start will come. A live
//! source never waits: a block that does not fit is dropped, counted, and becomes a gap. A file
//! can wait, so replay does.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use crate::signal::SampleBlock;

/// What the writer does when a ring is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Wait for the pipeline: replay of a file.
    Wait,
    /// Drop the block and count its samples: a live source.
    Drop,
}

/// Largest ring, samples: 4 MB, whatever rate a file claims.
const MAX_SAMPLES: f64 = (1_u32 << 20) as f64;
/// How long the pipeline of a live source sleeps when it has taken everything: what it adds to
/// an epoch's latency at most, and the price of a bed that waits for its next sample.
const LIVE_NAP: Duration = Duration::from_millis(20);

/// Contiguous samples in a ring; none where a gap up to `start` was decided.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u64,
    samples: usize,
}

impl Span {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.samples as u64)
    }
}

/// What both sides see.
#[derive(Debug, Default)]
struct Shared {
    /// The writer is done, or gone.
    ended: AtomicBool,
    /// The source failed before its end.
    broke_off: AtomicBool,
    /// The reader wants no more.
    stopped: AtomicBool,
    /// The source is one that does not wait.
    live: AtomicBool,
    /// Fill of the fullest ring since the pipeline last looked, per mille.
    fill: AtomicU32,
    bell: Mutex<()>,
    rung: Condvar,
}

impl Shared {
    /// Waits until the other side rings. The timeout covers a ring between check and wait.
    fn wait(&self) {
        let guard = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.rung.wait_timeout(guard, Duration::from_millis(2)));
    }

    fn ring(&self) {
        self.rung.notify_all();
    }
}

/// The source's end of all rings.
pub struct RingWriter {
    channels: Vec<Option<ChannelWriter>>,
    when_full: WhenFull,
    shared: Arc<Shared>,
}

struct ChannelWriter {
    samples: HeapProd<f32>,
    spans: HeapProd<Span>,
    overflow: Arc<AtomicU64>,
    /// A span whose samples are in the ring and for which there was no room among the spans: many
    /// small blocks in a row grow it until there is.
    held: Option<Span>,
}

/// The pipeline's end of one channel's ring.
pub struct RingReader {
    samples: HeapCons<f32>,
    spans: HeapCons<Span>,
    overflow: Arc<AtomicU64>,
    buffer: Vec<f32>,
}

/// The pipeline's view of the writer.
pub struct RingState {
    shared: Arc<Shared>,
}

/// Makes one ring of `seconds` for each channel of `rates` that has a rate; the others are left
/// out and blocks for them are ignored.
pub fn rings(
    rates: &[Option<f64>],
    seconds: f64,
    when_full: WhenFull,
) -> (RingWriter, Vec<Option<RingReader>>, RingState) {
    let shared = Arc::new(Shared::default());
    let mut writers = Vec::with_capacity(rates.len());
    let mut readers = Vec::with_capacity(rates.len());
    for rate in rates {
        let Some(rate_hz) = rate else {
            writers.push(None);
            readers.push(None);
            continue;
        };
        let capacity = (rate_hz * seconds).ceil().clamp(16.0, MAX_SAMPLES) as usize;
        let (samples_in, samples_out) = HeapRb::new(capacity).split();
        // Blocks of one sample still let a 1-Hz channel fill its ring.
        let (spans_in, spans_out) = HeapRb::new(capacity.min(4096)).split();
        let overflow = Arc::new(AtomicU64::new(0));
        writers.push(Some(ChannelWriter {
            samples: samples_in,
            spans: spans_in,
            overflow: overflow.clone(),
            held: None,
        }));
        readers.push(Some(RingReader {
            samples: samples_out,
            spans: spans_out,
            overflow,
            buffer: Vec::new(),
        }));
    }
    let mut writer =
        RingWriter { channels: writers, when_full: WhenFull::Wait, shared: shared.clone() };
    writer.when_full(when_full);
    (writer, readers, RingState { shared })
}

impl RingWriter {
    /// The pipeline still wants samples.
    pub fn is_wanted(&self) -> bool {
        !self.shared.stopped.load(Ordering::Acquire)
    }

    /// What becomes of blocks that do not fit, from now on: a session that begins with what was
    /// recorded before waits first and then drops.
    pub fn when_full(&mut self, when_full: WhenFull) {
        self.when_full = when_full;
        self.shared.live.store(when_full == WhenFull::Drop, Ordering::Release);
    }

    /// Tells the pipeline that what it gets is not all there was.
    pub fn break_off(&self) {
        self.shared.broke_off.store(true, Ordering::Release);
    }

    /// Hands a block to the pipeline; `false` when the pipeline wants no more.
    pub fn push(&mut self, block: &SampleBlock) -> bool {
        let Some(Some(channel)) = self.channels.get_mut(block.channel) else {
            return self.is_wanted();
        };
        match self.when_full {
            WhenFull::Drop => {
                channel.push_or_drop(block);
                self.shared.fill.fetch_max(channel.fill(), Ordering::Relaxed);
            }
            WhenFull::Wait => {
                if !channel.push_waiting(block, &self.shared) {
                    return false;
                }
                self.shared.ring();
            }
        }
        self.is_wanted()
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        for channel in self.channels.iter_mut().flatten() {
            while !channel.release_held() && !self.shared.stopped.load(Ordering::Acquire) {
                self.shared.ring();
                self.shared.wait();
            }
        }
        self.shared.ended.store(true, Ordering::Release);
        self.shared.ring();
    }
}

impl ChannelWriter {
    fn push_or_drop(&mut self, block: &SampleBlock) {
        self.release_held();
        let follows = self.held.is_none_or(|held| held.end() == block.start);
        if follows && self.samples.vacant_len() >= block.samples.len() {
            self.commit(block.start, &block.samples);
        } else {
            self.overflow.fetch_add(block.samples.len() as u64, Ordering::Relaxed);
        }
    }

    /// Pushes what fits until all is in; `false` when the reader stopped.
    fn push_waiting(&mut self, block: &SampleBlock, shared: &Shared) -> bool {
        let mut start = block.start;
        let mut rest = block.samples.as_slice();
        loop {
            if shared.stopped.load(Ordering::Acquire) {
                return false;
            }
            let now = self.samples.vacant_len().min(rest.len());
            let room = now > 0 || rest.is_empty();
            if !self.release_held() || self.spans.is_full() || !room {
                shared.ring();
                shared.wait();
                continue;
            }
            self.commit(start, &rest[..now]);
            start += now as u64;
            rest = &rest[now..];
            if rest.is_empty() {
                return true;
            }
        }
    }

    /// Samples first: a reader that sees the span finds all of its samples.
    fn commit(&mut self, start: u64, samples: &[f32]) {
        self.samples.push_slice(samples);
        match &mut self.held {
            Some(held) => held.samples += samples.len(),
            None => self.held = Some(Span { start, samples: samples.len() }),
        }
        self.release_held();
    }

    /// Hands the span that is held to the reader; `false` if there is still no room.
    fn release_held(&mut self) -> bool {
        self.held = self.held.take().and_then(|span| self.spans.try_push(span).err());
        self.held.is_none()
    }

    /// Fill of the ring, per mille.
    fn fill(&self) -> u32 {
        (self.samples.occupied_len() * 1000 / self.samples.capacity().get()) as u32
    }
}

impl RingReader {
    /// Passes everything that is in the ring to `take` as (start, samples), oldest first, and
    /// says how many spans that was. A span without samples: nothing before its start will come.
    pub fn drain(&mut self, mut take: impl FnMut(u64, &[f32])) -> usize {
        // As many spans as are there now: a fast writer must not keep the reader here.
        let spans = self.spans.occupied_len();
        for drained in 0..spans {
            let Some(span) = self.spans.try_pop() else { return drained };
            self.buffer.resize(span.samples, 0.0);
            self.samples.pop_slice(&mut self.buffer);
            take(span.start, &self.buffer);
        }
        spans
    }

    /// Samples dropped so far because the ring was full.
    pub fn overflow(&self) -> u64 {
        self.overflow.load(Ordering::Relaxed)
    }
}

impl RingState {
    /// The writer will push nothing more; what is in the rings can still be drained.
    pub fn ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// The source failed; to be asked when it has ended.
    pub fn broke_off(&self) -> bool {
        self.shared.broke_off.load(Ordering::Acquire)
    }

    /// The source does not wait: the pipeline may fall behind it.
    pub fn is_live(&self) -> bool {
        self.shared.live.load(Ordering::Acquire)
    }

    /// Fill of the fullest ring since the last call, 0 to 1; counted for live sources.
    pub fn take_fill(&self) -> f32 {
        self.shared.fill.swap(0, Ordering::Relaxed) as f32 / 1000.0
    }

    /// Waits a moment for the writer.
    pub fn wait(&self) {
        if self.is_live() {
            // Not rung for every packet of every sensor.
            std::thread::sleep(LIVE_NAP);
        } else {
            self.shared.wait();
        }
    }

    /// Wakes a writer that waits for room.
    pub fn drained(&self) {
        self.shared.ring();
    }
}

impl Drop for RingState {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(start: u64, samples: &[f32]) -> SampleBlock {
        SampleBlock { channel: 0, start, samples: samples.to_vec() }
    }

    #[test]
    fn a_full_ring_drops_the_new_block_and_counts_it() {
        let (mut writer, mut readers, _state) = rings(&[Some(4.0)], 4.0, WhenFull::Drop);
        let mut reader = readers.remove(0).expect("channel 0 has a ring");
        assert!(writer.push(&block(0, &[1.0; 12])));
        assert!(writer.push(&block(12, &[2.0; 8])));
        assert!(writer.push(&block(20, &[3.0; 4])));
        let mut seen = Vec::new();
        reader.drain(|start, samples| seen.push((start, samples.len())));
        assert_eq!(seen, [(0, 12), (20, 4)]);
        assert_eq!(reader.overflow(), 8);
    }

    #[test]
    fn what_will_not_come_passes_through_either_ring() {
        for when_full in [WhenFull::Drop, WhenFull::Wait] {
            let (mut writer, mut readers, _state) = rings(&[Some(4.0)], 4.0, when_full);
            let mut reader = readers.remove(0).expect("channel 0 has a ring");
            for block in [block(5, &[]), block(9, &[1.0]), block(10, &[]), block(12, &[])] {
                assert!(writer.push(&block));
            }
            let mut seen = Vec::new();
            let spans = reader.drain(|start, samples| seen.push((start, samples.len())));
            assert_eq!(seen, [(5, 0), (9, 1), (10, 0), (12, 0)], "{when_full:?}");
            assert_eq!((spans, reader.overflow()), (4, 0));
        }
    }

    #[test]
    fn blocks_of_one_sample_fill_a_large_ring() {
        let (mut writer, mut readers, state) = rings(&[Some(100.0)], 300.0, WhenFull::Drop);
        let mut reader = readers.remove(0).expect("channel 0 has a ring");
        for sample in 0..20_000 {
            writer.push(&block(sample, &[sample as f32]));
        }
        // One that does not follow has no place while another span is held back.
        writer.push(&block(20_500, &[0.0; 7]));
        assert!((state.take_fill() - 0.66).abs() < 0.01);
        assert_eq!(state.take_fill(), 0.0);
        let dropping = std::thread::spawn(move || drop(writer));
        let mut received = 0;
        while received < 20_000 {
            reader.drain(|start, samples| {
                assert_eq!(start, received);
                assert!((start..).zip(samples).all(|(index, &x)| x == index as f32));
                received += samples.len() as u64;
            });
        }
        dropping.join().expect("the writer does not panic");
        assert_eq!(reader.overflow(), 7);
    }

    #[test]
    fn a_waiting_writer_loses_nothing() {
        let (mut writer, mut readers, state) = rings(&[Some(10.0)], 2.0, WhenFull::Wait);
        let mut reader = readers.remove(0).expect("channel 0 has a ring");
        let values: Vec<f32> = (0..5000).map(|v| v as f32).collect();
        let expected = values.clone();
        let thread = std::thread::spawn(move || {
            values.chunks(77).enumerate().all(|(i, c)| writer.push(&block(i as u64 * 77, c)))
        });
        let mut received = Vec::new();
        loop {
            let ended = state.ended();
            reader.drain(|start, samples| {
                assert_eq!(start as usize, received.len());
                received.extend_from_slice(samples);
            });
            state.drained();
            if ended {
                break;
            }
            state.wait();
        }
        assert!(thread.join().expect("the writer does not panic"));
        assert_eq!(received, expected);
    }

    #[test]
    fn a_reader_that_leaves_releases_the_writer() {
        let (mut writer, readers, state) = rings(&[Some(10.0)], 2.0, WhenFull::Wait);
        let thread = std::thread::spawn(move || writer.push(&block(0, &[0.0; 1000])));
        std::thread::sleep(Duration::from_millis(5));
        drop((readers, state));
        assert!(!thread.join().expect("the writer does not panic"));
    }
}
