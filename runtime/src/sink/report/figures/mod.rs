//! The report's pictures as SVG, all on one time axis. plotters places and draws everything but
//! the spectrogram's pixels, which are an embedded PNG. It knows neither patterns nor style sheets,
//! so it draws with the light palette, where every color is distinct and stands for one meaning;
//! [`Figure::themed`] then puts a CSS variable in the color's place, and both forms a hatch pattern
//! in the place of [`HATCH`].

mod axis;
mod lanes;
mod night;
mod spectrogram;
mod stages;

use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub(super) use self::axis::Axis;
use self::lanes::{Row, line_lane, quality_lane};
pub(super) use self::night::Pictures;
use self::spectrogram::spectrogram;
use self::stages::{hypnodensity, hypnogram};

/// Units of all pictures' width: twice the pixels of a page, since plotters' units are whole numbers.
pub(super) const WIDTH: u32 = 2000;
/// Where the time axis begins.
const LEFT: u32 = 200;
/// Behind its end.
const RIGHT: u32 = 40;
const FONT: u32 = 26;

pub(super) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xfe);
pub(super) const INK: RGBColor = RGBColor(0x1b, 0x24, 0x30);
pub(super) const MUTED: RGBColor = RGBColor(0x55, 0x60, 0x6e);
pub(super) const GRID: RGBColor = RGBColor(0xd9, 0xdf, 0xe6);
pub(super) const WAKE: RGBColor = RGBColor(0xf2, 0xdf, 0xa6);
pub(super) const N1: RGBColor = RGBColor(0xb3, 0xd9, 0xf0);
pub(super) const N2: RGBColor = RGBColor(0x5a, 0xa2, 0xd6);
pub(super) const N3: RGBColor = RGBColor(0x1d, 0x4b, 0x88);
pub(super) const REM: RGBColor = RGBColor(0xc8, 0x44, 0x1b);
pub(super) const TRACE: RGBColor = RGBColor(0x0b, 0x6e, 0x8a);
pub(super) const TRACE_LOW: RGBColor = RGBColor(0xa6, 0x4b, 0x00);
pub(super) const SOUND: RGBColor = RGBColor(0xcf, 0xe0, 0xe6);
pub(super) const FLAT: RGBColor = RGBColor(0x3b, 0x2a, 0x63);
pub(super) const RANGE: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
pub(super) const HUM: RGBColor = RGBColor(0xe8, 0xc5, 0x47);
/// Not a color: what is hatched.
pub(super) const HATCH: RGBColor = RGBColor(0x8a, 0x8f, 0x98);

/// Colors and the names of their CSS variables.
const VARIABLES: [(RGBColor, &str); 15] = [
    (PAPER, "paper"),
    (INK, "ink"),
    (MUTED, "muted"),
    (GRID, "grid"),
    (WAKE, "wake"),
    (N1, "n1"),
    (N2, "n2"),
    (N3, "n3"),
    (REM, "rem"),
    (TRACE, "trace"),
    (TRACE_LOW, "trace-low"),
    (SOUND, "sound"),
    (FLAT, "flat"),
    (RANGE, "range"),
    (HUM, "hum"),
];

/// Name and color, as `#rrggbb`, of every meaning; [`HATCH`] has none.
pub(super) fn palette() -> impl Iterator<Item = (&'static str, String)> {
    VARIABLES.iter().map(|(color, name)| (*name, hex(*color)))
}

/// Why a picture could not be drawn.
pub(super) type DrawError = Box<dyn std::error::Error + Send + Sync>;

/// Time in seconds from left to right, a quantity upwards.
type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A picture.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    /// Name of its file, without ending.
    pub name: &'static str,
    /// What it shows, in a few words.
    pub title: String,
    /// The same for who does not see it: what is to be seen.
    pub description: String,
    height: u32,
    /// What plotters drew, without the outermost element.
    drawn: String,
    /// Place and content of an image behind it.
    pub image: Option<Image>,
}

/// An image behind what is drawn.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// Left, top, width, height.
    pub place: [u32; 4],
    /// The encoded image.
    pub png: Vec<u8>,
}

impl Figure {
    /// Draws a picture of `height` units whose plane is `y`, with what `draw` puts on it.
    fn draw(
        (name, title, description): (&'static str, String, String),
        height: u32,
        axis: &Axis,
        y: std::ops::Range<f64>,
        draw: impl FnOnce(&mut Plane<'_, '_>) -> Result<(), DrawError>,
    ) -> Result<Self, DrawError> {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
            let bottom = axis.height();
            let mut plane = ChartBuilder::on(&root)
                .margin_left(LEFT)
                .margin_right(RIGHT)
                .margin_top(TOP)
                .margin_bottom(bottom)
                .build_cartesian_2d(0.0..axis.end_s(), y)?;
            axis.grid(&plane)?;
            draw(&mut plane)?;
            axis.labels(&root, &plane)?;
            root.present()?;
        }
        let drawn = svg.split_once('>').and_then(|(_, rest)| rest.rsplit_once("</svg>"));
        let drawn = drawn.map_or_else(String::new, |(drawn, _)| drawn.to_owned());
        Ok(Figure { name, title, description, height, drawn, image: None })
    }

    /// For the page: colors are CSS variables.
    pub fn themed(&self) -> Markup {
        let mut drawn = self.hatched();
        for (color, name) in VARIABLES {
            drawn = drawn.replace(&hex(color), &format!("var(--{name})"));
        }
        self.element(&drawn, "var(--muted)", None)
    }

    /// For a file: light colors on white, or on nothing where the image is drawn by someone else.
    pub fn alone(&self, with_image: bool) -> String {
        let figure = Figure { image: self.image.clone().filter(|_| with_image), ..self.clone() };
        let paper = with_image.then(|| hex(PAPER));
        figure.element(&self.hatched(), &hex(MUTED), paper).into_string()
    }

    fn hatched(&self) -> String {
        self.drawn.replace(&hex(HATCH), &format!("url(#hatch-{})", self.name))
    }

    fn element(&self, drawn: &str, hatch: &str, paper: Option<String>) -> Markup {
        let id = |part: &str| format!("{part}-{}", self.name);
        html! {
            svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox=(format!("0 0 {WIDTH} {}", self.height))
                width=(WIDTH / 2) height=(self.height / 2)
                aria-labelledby=(format!("{} {}", id("title"), id("desc"))) {
                title id=(id("title")) { (self.title) }
                desc id=(id("desc")) { (self.description) }
                defs {
                    pattern id=(id("hatch")) width="10" height="10" patternUnits="userSpaceOnUse"
                        patternTransform="rotate(45)" {
                        line x1="0" y1="0" x2="0" y2="10" stroke=(hatch) stroke-width="5" {}
                    }
                }
                @if let Some(paper) = paper { rect width="100%" height="100%" fill=(paper) {} }
                @if let Some(Image { place: [x, y, width, height], png }) = &self.image {
                    image x=(x) y=(y) width=(width) height=(height) preserveAspectRatio="none"
                        style="image-rendering:pixelated"
                        href=(format!("data:image/png;base64,{}", base64(png))) {}
                }
                (PreEscaped(drawn))
            }
        }
    }

    /// Width and height in units.
    pub fn size(&self) -> (u32, u32) {
        (WIDTH, self.height)
    }
}

/// Above the plane: the figure's caption is the page's, not the picture's.
const TOP: u32 = 24;

fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// Text of the pictures; plotters divides sizes by 1.24.
fn text<'a>(color: RGBColor, h: HPos, v: VPos) -> TextStyle<'a> {
    let size = f64::from(FONT) * 1.24;
    ("sans-serif", size).into_font().color(&color).pos(Pos::new(h, v))
}

/// A label of the vertical axis, at a height of the plane.
fn y_label(plane: &Plane<'_, '_>, at: f64, label: &str) -> Result<(), DrawError> {
    let (_, y) = plane.backend_coord(&(0.0, at));
    let root: DrawingArea<SVGBackend<'_>, Shift> = plane.plotting_area().strip_coord_spec();
    let (x0, y0) = root.get_base_pixel();
    root.draw_text(
        label,
        &text(MUTED, HPos::Right, VPos::Center),
        (LEFT as i32 - 14 - x0, y - y0),
    )?;
    Ok(())
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_rfc_4648s() {
        for (bytes, want) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), want);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn every_color_is_one_meaning() {
        let mut colors: Vec<String> = VARIABLES.iter().map(|(color, _)| hex(*color)).collect();
        colors.push(hex(HATCH));
        colors.sort();
        colors.dedup();
        assert_eq!(colors.len(), VARIABLES.len() + 1);
    }
}
