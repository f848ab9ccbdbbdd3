//! The bytes of an ONNX file before anything is made of them: a message takes two bytes and becomes
//! hundreds, so the parts are counted first. Depth costs no stack here, and is limited for those
//! who come after.

/// More parts (nodes, edges, attributes, tensors, numbers in lists) than any network has: the
/// published one has some 2,000 in its largest graph.
const MAX_PARTS: usize = 1 << 18;
/// Messages within messages; a tensor of an attribute of a node of a graph is 4 deep.
const MAX_DEPTH: usize = 8;

/// A message whose inner messages are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
}

/// What a field that has a length holds.
enum Field {
    Message(Kind),
    /// Text, or numbers of four bytes and more: what it takes is what it says.
    Plain,
    /// Anything that may be many parts: numbers of one byte each, messages unknown here.
    Parts,
}

impl Kind {
    fn field(self, number: u64) -> Field {
        match (self, number) {
            (Kind::Model, 7) | (Kind::Attribute, 6 | 11) => Field::Message(Kind::Graph),
            (Kind::Graph, 1) => Field::Message(Kind::Node),
            (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) => Field::Message(Kind::Tensor),
            (Kind::Node, 5) => Field::Message(Kind::Attribute),
            (Kind::Model, 2..=4 | 6)
            | (Kind::Graph, 2 | 10)
            | (Kind::Node, 1..=4 | 6..=8)
            | (Kind::Attribute, 1 | 4 | 7 | 9 | 13 | 21)
            | (Kind::Tensor, 4 | 6 | 8..=10 | 12) => Field::Plain,
            _ => Field::Parts,
        }
    }
}

/// Counts the parts of an ONNX file.
///
/// # Errors
/// There are too many, or it is none.
pub(super) fn check(onnx: &[u8]) -> Result<(), String> {
    let mut parts = 0_usize;
    let mut open = vec![(Kind::Model, onnx, 1)];
    while let Some((kind, bytes, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(format!("its messages are more than {MAX_DEPTH} deep"));
        }
        let mut rest = Wire(bytes);
        while !rest.0.is_empty() {
            let (number, content) =
                rest.field().ok_or("it is no ONNX model: it is cut or noise")?;
            parts += 1;
            match content.map(|content| (kind.field(number), content)) {
                Some((Field::Message(inner), content)) => open.push((inner, content, depth + 1)),
                Some((Field::Parts, content)) => parts = parts.saturating_add(content.len() / 2),
                Some((Field::Plain, _)) | None => {}
            }
            if parts > MAX_PARTS {
                return Err(format!("it has over {MAX_PARTS} parts, which no network has"));
            }
        }
    }
    Ok(())
}

/// The wire format of protocol buffers.
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    /// The next field's number, and its content if it is one with a length; `None` if it is cut.
    fn field(&mut self) -> Option<(u64, Option<&'a [u8]>)> {
        let key = self.varint()?;
        let content = match key & 7 {
            0 => self.varint().map(|_| None)?,
            1 => self.take(8).map(|_| None)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Some(self.take(length)?)
            }
            5 => self.take(4).map(|_| None)?,
            // Groups, which ONNX does not have.
            _ => return None,
        };
        Some((key >> 3, content))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}
