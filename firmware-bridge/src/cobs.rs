//! COBS, consistent overhead byte stuffing: bytes without zeros, so that a zero can end a frame.
//! Works in the caller's buffer. Written here and not taken from a crate because no code on a
//! microcontroller's way may panic, which its linker checks.

/// Length byte of a part of 254 bytes, which stands for no zero.
const FULL: usize = 255;

/// Writes a frame to the beginning of a buffer.
pub(crate) struct Stuffer<'o> {
    out: &'o mut [u8],
    /// Place of the open group's length byte.
    length_at: usize,
    /// Place of the next byte.
    at: usize,
}

impl<'o> Stuffer<'o> {
    pub(crate) fn new(out: &'o mut [u8]) -> Self {
        Self { out, length_at: 0, at: 1 }
    }

    /// Adds a byte; `None` if there is no room.
    pub(crate) fn push(&mut self, byte: u8) -> Option<()> {
        // A full part is closed only when more follows: no empty group stays at the end.
        if self.at - self.length_at == FULL {
            self.close()?;
        }
        if byte == 0 {
            return self.close();
        }
        *self.out.get_mut(self.at)? = byte;
        self.at += 1;
        Some(())
    }

    /// Ends the open group and opens another.
    fn close(&mut self) -> Option<()> {
        *self.out.get_mut(self.length_at)? = (self.at - self.length_at) as u8;
        self.length_at = self.at;
        self.at += 1;
        Some(())
    }

    /// The frame with its zero byte.
    pub(crate) fn finish(mut self) -> Option<&'o mut [u8]> {
        self.close()?;
        *self.out.get_mut(self.length_at)? = 0;
        self.out.get_mut(..self.at)
    }
}

/// Decodes `frame`, which is without its zero byte, in place and returns the number of bytes;
/// `None` if it is no COBS code.
pub(crate) fn unstuff(frame: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0, 0);
    while let Some(&length) = frame.get(from) {
        let length = usize::from(length);
        let count = length.checked_sub(1)?;
        let group = from + 1..from + length;
        frame.get(group.clone())?;
        // Never, since `to` is not beyond `from`; said here, it lets the compiler see that copying
        // cannot panic.
        if frame.len() - count < to {
            return None;
        }
        frame.copy_within(group, to);
        (from, to) = (from + length, to + count);
        if length != FULL && from < frame.len() {
            *frame.get_mut(to)? = 0;
            to += 1;
        }
    }
    Some(to)
}
