//! XML as a flat list: every element with its own text and attributes, inner ones before the ones around them.
//! Entities of a DTD are not expanded, and depth costs no stack.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::MAX_STRETCHES;

/// Scorings are three deep.
const MAX_DEPTH: usize = 64;
/// More attributes than an element of a scoring has.
const MAX_ATTRIBUTES: usize = 32;

/// An element that has ended.
#[derive(Debug)]
pub(super) struct Element {
    pub name: String,
    /// Its own text without that of elements in it, trimmed.
    pub text: String,
    /// Names and values.
    pub attributes: Vec<(String, String)>,
    /// Line it ends in, from 1.
    pub line: usize,
}

impl Element {
    /// The name without the prefix of a namespace.
    pub fn local_name(&self) -> &str {
        self.name.rsplit(':').next().unwrap_or_default()
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn refused(&self, reason: impl std::fmt::Display) -> String {
        format!("line {}: {reason}", self.line)
    }
}

/// The elements of a document in the order in which they end: the root is the last.
///
/// # Errors
/// It is no well-formed XML.
pub(super) fn elements(text: &str) -> Result<Vec<Element>, String> {
    let mut reader = Reader::from_str(text);
    let (mut open, mut ended): (Vec<Element>, Vec<Element>) = (Vec::new(), Vec::new());
    let (mut line, mut counted) = (1, 0);
    loop {
        let event = reader.read_event();
        let at = usize::try_from(reader.buffer_position()).unwrap_or(text.len());
        line += text.get(counted..at).unwrap_or_default().matches('\n').count();
        counted = at.max(counted);
        let event = event.map_err(|e| format!("line {line}: is no well-formed XML: {e}"))?;
        match event {
            Event::Start(tag) => open.push(begun(&tag, line)?),
            Event::Empty(tag) => ended.push(begun(&tag, line)?),
            Event::End(_) => {
                ended.extend(open.pop().map(|element| Element {
                    text: element.text.trim().to_owned(),
                    line,
                    ..element
                }));
            }
            Event::Eof => break,
            other => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(said(&other));
                }
            }
        }
        if ended.len() > MAX_STRETCHES {
            return Err(format!("line {line}: over {MAX_STRETCHES} elements; leave events out"));
        }
        if open.len() > MAX_DEPTH {
            return Err(format!("line {line}: elements are more than {MAX_DEPTH} deep"));
        }
    }
    if open.is_empty() { Ok(ended) } else { Err(format!("line {line}: ends within an element")) }
}

fn begun(tag: &BytesStart<'_>, line: usize) -> Result<Element, String> {
    let mut attributes = Vec::new();
    for attribute in tag.attributes().take(MAX_ATTRIBUTES) {
        let wrong = |e: &dyn std::fmt::Display| format!("line {line}: is no well-formed XML: {e}");
        let attribute = attribute.map_err(|e| wrong(&e))?;
        let value = attribute.normalized_value(XmlVersion::default()).map_err(|e| wrong(&e))?;
        attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(Element { name: tag.name().as_ref().to_owned(), text: String::new(), attributes, line })
}

/// The text of what is no element.
fn said<'a>(event: &'a Event<'_>) -> &'a str {
    match event {
        Event::Text(text) => text,
        Event::CData(text) => text,
        Event::GeneralRef(entity) => resolve_predefined_entity(entity).unwrap_or("?"),
        _ => "",
    }
}
