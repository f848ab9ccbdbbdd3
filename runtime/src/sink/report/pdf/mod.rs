//! `report.pdf`: the page's own body, which is XML too, laid out on A4 by typst with a template
//! (`report.typ`) that only says how each element looks. So the PDF cannot tell anything else than the
//! page. It is tagged for readers who do not see it, and holds no time: equal nights give equal bytes.

use std::collections::BTreeMap;

use typst::diag::{FileError, FileResult};
use typst::foundations::{Array, Bytes, Datetime, Dict, Duration, IntoValue};
use typst::syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot};
use typst::text::{Font, FontBook};
use typst::utils::LazyHash;
use typst::{Feature, Library, LibraryExt, World};
use typst_kit::fonts::FontStore;
use typst_layout::PagedDocument;
use typst_pdf::{PdfOptions, PdfStandard, PdfStandards};

use super::figures::{DrawError, Figure, palette};
use super::png::FONTS;
use super::text::Text;

const TEMPLATE: &str = include_str!("report.typ");
const BODY: &str = "report.xml";

/// Lays out `body`, the page's, whose title is `title`; `Ok(None)` where the system has no font.
///
/// # Errors
/// What the typesetter says.
pub(super) fn pdf(
    text: &Text,
    title: &str,
    body: &str,
    figures: &[Figure],
) -> Result<Option<Vec<u8>>, DrawError> {
    let Some(desk) = Desk::new(text, title, body, figures) else { return Ok(None) };
    // A thread of its own: a fault in there ends it and nothing else.
    let thread = std::thread::Builder::new().name("report.pdf".to_owned());
    let made = thread.spawn(move || {
        let made = desk.pdf();
        typst::comemo::evict(0);
        made
    });
    made?.join().unwrap_or_else(|_| Err("the typesetter broke down".into())).map(Some)
}

/// Everything the typesetter sees: of the disk fonts alone, and no network.
struct Desk {
    library: LazyHash<Library>,
    fonts: FontStore,
    template: Source,
    files: BTreeMap<String, Bytes>,
}

impl Desk {
    fn new(text: &Text, title: &str, body: &str, figures: &[Figure]) -> Option<Self> {
        let mut fonts = FontStore::new();
        fonts.extend(typst_kit::fonts::system());
        fonts.font(0)?;
        let mut told = Dict::new();
        let colors: Dict =
            palette().map(|(name, color)| (name.into(), color.into_value())).collect();
        told.insert("palette".into(), colors.into_value());
        told.insert(
            "fonts".into(),
            FONTS.map(IntoValue::into_value).into_iter().collect::<Array>().into_value(),
        );
        for (name, value) in [("title", title), ("language", text.code), ("notice", text.research)]
        {
            told.insert(name.into(), value.into_value());
        }
        // Cells that are the headers of their row.
        let features = [Feature::A11yExtras].into_iter().collect();
        let pictures = figures.iter().map(|f| (format!("{}.svg", f.name), f.alone(true)));
        let files = pictures.chain([(BODY.to_owned(), body.to_owned())]);
        Some(Self {
            library: LazyHash::new(
                Library::builder().with_inputs(told).with_features(features).build(),
            ),
            fonts,
            template: Source::new(template_id()?, TEMPLATE.to_owned()),
            files: files.map(|(name, text)| (name, Bytes::from_string(text))).collect(),
        })
    }

    fn pdf(&self) -> Result<Vec<u8>, DrawError> {
        let document = typst::compile::<PagedDocument>(self).output.map_err(first)?;
        // The standard forbids, for one, letters that no font of this machine has.
        let accessible = PdfStandards::new(&[PdfStandard::Ua_1]).unwrap_or_default();
        let options = PdfOptions { standards: accessible, ..PdfOptions::default() };
        typst_pdf::pdf(&document, &options)
            .or_else(|_| typst_pdf::pdf(&document, &PdfOptions::default()))
            .map_err(first)
    }
}

fn template_id() -> Option<FileId> {
    let path = VirtualPath::new("report.typ").ok()?;
    Some(FileId::new(RootedPath::new(VirtualRoot::Project, path)))
}

fn first(errors: impl IntoIterator<Item = typst::diag::SourceDiagnostic>) -> DrawError {
    errors.into_iter().next().map_or_else(|| "no reason".into(), |e| e.message.to_string().into())
}

impl World for Desk {
    fn library(&self) -> &LazyHash<Library> {
        &self.library
    }

    fn book(&self) -> &LazyHash<FontBook> {
        self.fonts.book()
    }

    fn main(&self) -> FileId {
        self.template.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        (id == self.template.id()).then(|| self.template.clone()).ok_or(FileError::AccessDenied)
    }

    fn file(&self, id: FileId) -> FileResult<Bytes> {
        let name = id.vpath().get_without_slash();
        self.files.get(name).cloned().ok_or(FileError::AccessDenied)
    }

    fn font(&self, index: usize) -> Option<Font> {
        self.fonts.font(index)
    }

    fn today(&self, _: Option<Duration>) -> Option<Datetime> {
        None
    }
}
