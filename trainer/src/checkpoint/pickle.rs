//! The pickle of a checkpoint before it is read: the reader behind [`super::Checkpoint`] keeps every
//! value as a tree, copies it wherever the pickle refers to it again, and walks and drops trees by
//! recursion. So its work is done here once with counts in place of values: a few bytes that nest a
//! million tuples, or double a list forty times, are refused before anything is made of them.

/// Longest pickle, bytes. That of a checkpoint describes tensors, some 300 bytes each.
pub(super) const MAX_BYTES: u64 = 64 << 20;
/// Containers within containers; a state dict beside an optimizer's is some 10 deep.
const MAX_DEPTH: u32 = 64;
/// What a value takes in the reader's memory, bytes, with its share of the container around it.
const VALUE_BYTES: u64 = 256;
/// Memory for all values at a time, and for all that are ever made.
const MAX_HELD_BYTES: u64 = 256 << 20;
const MAX_MADE_BYTES: u64 = 4 << 30;
/// Entries that are put into a dictionary at a time; Python puts 1,000. The reader takes their square.
const MAX_ENTRIES: usize = 2_000;

/// Why a pickle is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is none, or none of a state dict.
    Damaged(String),
    /// More than any checkpoint has.
    Excess(String),
}

type Result<T> = std::result::Result<T, Refusal>;

/// A value by what it costs.
#[derive(Debug, Clone, Copy, Default)]
struct Value {
    bytes: u64,
    depth: u32,
    is_mark: bool,
}

impl Value {
    fn leaf(text_bytes: usize) -> Self {
        Self { bytes: VALUE_BYTES + text_bytes as u64, depth: 1, is_mark: false }
    }

    /// With `inner` values in it.
    fn around(inner: impl IntoIterator<Item = Value>) -> Self {
        let mut value = Value::leaf(0);
        for inner in inner {
            value.bytes = value.bytes.saturating_add(inner.bytes);
            value.depth = value.depth.max(inner.depth + 1);
        }
        value
    }
}

/// Checks a pickle.
///
/// # Errors
/// [`Refusal`].
pub(super) fn check(pickle: &[u8]) -> Result<()> {
    let mut machine = Machine { rest: pickle, ..Machine::default() };
    while machine.step()? {}
    Ok(())
}

/// The reader's stack and memo.
#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    memo: std::collections::HashMap<u32, Value>,
    held_bytes: u64,
    made_bytes: u64,
}

impl<'a> Machine<'a> {
    /// One opcode; `false` at the end.
    fn step(&mut self) -> Result<bool> {
        match self.byte()? {
            b'.' => return Ok(false),
            0x80 => drop(self.byte()?),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                // The reader's own word for a mark.
                let is_mark = (module, name) == (b"mark", b"mark");
                self.push(Value { is_mark, ..Value::leaf(module.len() + name.len()) })?;
            }
            b'(' => self.push(Value { is_mark: true, ..Value::leaf(8) })?,
            b'N' | 0x88 | 0x89 | b')' | b']' | b'}' => self.push(Value::leaf(0))?,
            b'J' => self.number(4)?,
            b'M' => self.number(2)?,
            b'K' => self.number(1)?,
            b'G' => self.number(8)?,
            b'I' => {
                self.line()?;
                self.push(Value::leaf(0))?;
            }
            b'X' => {
                let length = self.u32()? as usize;
                self.text(length)?;
            }
            b'U' => {
                let length = usize::from(self.byte()?);
                self.text(length)?;
            }
            0x8a => {
                let length = usize::from(self.byte()?);
                self.number(length)?;
            }
            opcode => self.rearrange(opcode)?,
        }
        Ok(true)
    }

    /// Opcodes that make values of those that are there.
    fn rearrange(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x85..=0x87 => self.join(usize::from(opcode - 0x84)),
            b'R' | 0x81 | b'b' => self.join(2),
            b'Q' => self.join(1),
            b't' | b'l' => {
                let inner = self.pop_to_mark()?;
                self.push(Value::around(inner))
            }
            b'd' => {
                let inner = self.pop_to_mark()?;
                few(&inner)?;
                self.push(Value::around(inner))
            }
            b'a' => {
                let value = self.pop()?;
                self.put_into(&[value])
            }
            b's' => {
                let entry = [self.pop()?, self.pop()?];
                self.put_into(&entry)
            }
            b'e' => {
                let inner = self.pop_to_mark()?;
                self.put_into(&inner)
            }
            b'u' => {
                let inner = self.pop_to_mark()?;
                few(&inner)?;
                self.put_into(&inner)
            }
            b'q' => {
                let index = u32::from(self.byte()?);
                self.remember(index)
            }
            b'r' => {
                let index = self.u32()?;
                self.remember(index)
            }
            0x94 => self.remember(self.memo.len() as u32),
            b'h' => {
                let index = u32::from(self.byte()?);
                self.recall(index)
            }
            b'j' => {
                let index = self.u32()?;
                self.recall(index)
            }
            opcode => Err(damaged(&format!("opcode {opcode:#04x} is none of a state dict"))),
        }
    }

    fn number(&mut self, bytes: usize) -> Result<()> {
        self.take(bytes)?;
        self.push(Value::leaf(0))
    }

    fn text(&mut self, bytes: usize) -> Result<()> {
        self.take(bytes)?;
        self.push(Value::leaf(bytes))
    }

    /// Puts the last `count` values into one.
    fn join(&mut self, count: usize) -> Result<()> {
        let mut joined = Value::leaf(0);
        for _ in 0..count {
            let value = self.pop()?;
            joined.bytes = joined.bytes.saturating_add(value.bytes);
            joined.depth = joined.depth.max(value.depth + 1);
        }
        self.push(joined)
    }

    fn put_into(&mut self, inner: &[Value]) -> Result<()> {
        let container = self.pop()?;
        self.push(Value::around(inner.iter().copied()).merged(container))
    }

    fn remember(&mut self, index: u32) -> Result<()> {
        let value = *self.stack.last().ok_or_else(underflow)?;
        self.make(value)?;
        if let Some(old) = self.memo.insert(index, value) {
            self.held_bytes = self.held_bytes.saturating_sub(old.bytes);
        }
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<()> {
        let value = self.memo.get(&index).copied();
        self.push(value.ok_or_else(|| damaged("it refers to what it never said"))?)
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.make(value)?;
        self.stack.push(value);
        Ok(())
    }

    fn make(&mut self, value: Value) -> Result<()> {
        self.held_bytes = self.held_bytes.saturating_add(value.bytes);
        self.made_bytes = self.made_bytes.saturating_add(value.bytes);
        let excess = |what: String| Err(Refusal::Excess(what));
        if value.depth > MAX_DEPTH {
            return excess(format!("values within values, over {MAX_DEPTH} deep"));
        }
        if self.held_bytes > MAX_HELD_BYTES || self.made_bytes > MAX_MADE_BYTES {
            let limit = MAX_HELD_BYTES >> 20;
            return excess(format!("more values than fit into {limit} MiB"));
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<Value> {
        let value = self.stack.pop().ok_or_else(underflow)?;
        self.held_bytes = self.held_bytes.saturating_sub(value.bytes);
        Ok(value)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.stack.iter().rposition(|value| value.is_mark).ok_or_else(underflow)?;
        let inner = self.stack.split_off(mark + 1);
        let bytes = inner.iter().fold(0, |sum: u64, value| sum.saturating_add(value.bytes));
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
        self.pop()?;
        Ok(inner)
    }

    fn byte(&mut self) -> Result<u8> {
        self.take(1).map(|bytes| bytes.first().copied().unwrap_or_default())
    }

    fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| (number << 8) | u32::from(byte)))
    }

    /// The text up to the end of a line.
    fn line(&mut self) -> Result<&'a [u8]> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or_else(cut)?;
        let line = self.take(end)?;
        self.take(1)?;
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(cut)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl Value {
    /// The container `other` with what is in this one as well.
    fn merged(self, other: Value) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            depth: self.depth.max(other.depth),
            is_mark: other.is_mark,
        }
    }
}

fn few(entries: &[Value]) -> Result<()> {
    if entries.len() / 2 > MAX_ENTRIES {
        let entries = entries.len() / 2;
        return Err(Refusal::Excess(format!("{entries} entries at a time, over {MAX_ENTRIES}")));
    }
    Ok(())
}

fn damaged(reason: &str) -> Refusal {
    Refusal::Damaged(format!("its pickle is damaged: {reason}"))
}

fn underflow() -> Refusal {
    damaged("it takes away what it never put there")
}

fn cut() -> Refusal {
    damaged("it ends too early")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excess(pickle: &[u8]) -> String {
        match check(pickle) {
            Err(Refusal::Excess(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn small_state_dicts_pass() {
        // {'a': (1, None), 'b': [2.0]} as Python's protocol 2 has it.
        let pickle = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01N\x86q\x02X\x01\x00\x00\x00bq\x03]q\x04G@\x00\x00\x00\x00\x00\x00\x00au.";
        assert_eq!(check(pickle), Ok(()));
    }

    #[test]
    fn depth_copies_and_crowds_are_refused() {
        let deep = [&b"\x80\x02)"[..], &b"\x85".repeat(1_000_000), b"."].concat();
        assert!(excess(&deep).contains("deep"), "{}", excess(&deep));
        // Each line doubles what the one before made; never deep.
        let mut doubled = b"\x80\x02]q\x00".to_vec();
        doubled.extend(b"(h\x00h\x00eq\x00".repeat(40));
        doubled.push(b'.');
        assert!(excess(&doubled).contains("MiB"), "{}", excess(&doubled));
        let crowd = [&b"\x80\x02("[..], &b"N".repeat(2_000_000), b"t."].concat();
        assert!(excess(&crowd).contains("MiB"), "{}", excess(&crowd));
        let entries = [&b"\x80\x02}("[..], &b"K\x01N".repeat(2_001), b"u."].concat();
        assert!(excess(&entries).contains("entries"), "{}", excess(&entries));
    }

    #[test]
    fn what_is_cut_or_no_pickle_is_damaged() {
        for pickle in
            [&b""[..], b"\x80", b"X\xff\xff\xff\xffa", b"cos\nsystem\n\x93.", b"t.", b"h\x05."]
        {
            assert!(matches!(check(pickle), Err(Refusal::Damaged(_))), "{pickle:?}");
        }
    }
}
