//! The same pictures as PNG, drawn from their SVG by resvg with a font of the system. Without any
//! font the axes would have no numbers, so nothing is drawn then.

use std::sync::Arc;

use resvg::tiny_skia::{Color, FilterQuality, Pixmap, PixmapPaint, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::figures::{DrawError, Figure, PAPER};

/// Fonts that are asked for first.
pub(super) const FONTS: [&str; 5] =
    ["DejaVu Sans", "Liberation Sans", "Noto Sans", "Arial", "Helvetica"];

/// Draws PNGs.
pub(super) struct Painter {
    options: Options<'static>,
}

impl Painter {
    /// `None` where the system has no font.
    pub fn new() -> Option<Self> {
        let mut fonts = fontdb::Database::new();
        fonts.load_system_fonts();
        let families = || fonts.faces().flat_map(|face| &face.families).map(|(name, _)| name);
        let wanted = FONTS.into_iter().find(|wanted| families().any(|name| name == wanted));
        let family = wanted.map(str::to_owned).or_else(|| families().next().cloned())?;
        fonts.set_sans_serif_family(family);
        Some(Painter { options: Options { fontdb: Arc::new(fonts), ..Options::default() } })
    }

    /// The picture on white, a pixel a unit.
    pub fn png(&self, figure: &Figure) -> Result<Vec<u8>, DrawError> {
        let (width, height) = figure.size();
        let mut pixels = Pixmap::new(width, height).ok_or("a picture without pixels")?;
        pixels.fill(Color::from_rgba8(PAPER.0, PAPER.1, PAPER.2, 255));
        // resvg is built without readers of images: the only one is drawn here.
        if let Some(image) = &figure.image {
            let [x, y, width, height] = image.place.map(|units| units as f32);
            let content = Pixmap::decode_png(&image.png)?;
            let scale = (width / content.width() as f32, height / content.height() as f32);
            let place = Transform::from_row(scale.0, 0.0, 0.0, scale.1, x, y);
            let paint = PixmapPaint { quality: FilterQuality::Nearest, ..PixmapPaint::default() };
            pixels.draw_pixmap(0, 0, content.as_ref(), &paint, place, None);
        }
        let tree = Tree::from_str(&figure.alone(false), &self.options)?;
        let size = tree.size();
        let scale = (width as f32 / size.width(), height as f32 / size.height());
        resvg::render(&tree, Transform::from_scale(scale.0, scale.1), &mut pixels.as_mut());
        Ok(pixels.encode_png()?)
    }
}
