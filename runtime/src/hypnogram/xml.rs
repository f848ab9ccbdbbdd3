//! XML as a flat list: every element with its own text, inner ones before the ones around them.
//! Entities of a DTD are not expanded, and depth costs no stack.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

/// Scorings are three deep.
const MAX_DEPTH: usize = 64;

/// An element that has ended.
#[derive(Debug)]
pub(super) struct Element {
    pub name: String,
    /// Its own text without that of elements in it, trimmed.
    pub text: String,
    /// Line it ends in, from 1.
    pub line: usize,
}

impl Element {
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
    let (mut open, mut ended): (Vec<(String, String)>, Vec<Element>) = (Vec::new(), Vec::new());
    let (mut line, mut counted) = (1, 0);
    loop {
        let event = reader.read_event();
        let at = usize::try_from(reader.buffer_position()).unwrap_or(text.len());
        line += text.get(counted..at).unwrap_or_default().matches('\n').count();
        counted = at.max(counted);
        let event = event.map_err(|e| format!("line {line}: is no well-formed XML: {e}"))?;
        match event {
            Event::Start(tag) => open.push((tag.name().as_ref().to_owned(), String::new())),
            Event::Empty(tag) => {
                let name = tag.name().as_ref().to_owned();
                ended.push(Element { name, text: String::new(), line });
            }
            Event::End(_) => {
                let element = open.pop();
                ended.extend(element.map(|(name, text)| Element {
                    name,
                    text: text.trim().to_owned(),
                    line,
                }));
            }
            Event::Eof => break,
            other => {
                if let Some((_, text)) = open.last_mut() {
                    text.push_str(said(&other));
                }
            }
        }
        if open.len() > MAX_DEPTH {
            return Err(format!("line {line}: elements are more than {MAX_DEPTH} deep"));
        }
    }
    if open.is_empty() { Ok(ended) } else { Err(format!("line {line}: ends within an element")) }
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
