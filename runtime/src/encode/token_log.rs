//! The night's tokens: what the encoder made of every closed window and of the open one so far.

use sfm_models::Modality;

/// The night's contextual 5-s embeddings, as the heads take them.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLog {
    embed_dim: usize,
    tokens: Vec<f32>,
    present: Vec<f32>,
}

impl TokenLog {
    /// An empty log of embeddings of length `embed_dim`.
    pub fn new(embed_dim: usize) -> Self {
        Self { embed_dim, tokens: Vec::new(), present: Vec::new() }
    }

    /// An empty log whose memory for `rows` positions is claimed, page by page, at once: what a night
    /// needs late is then known to be there early.
    pub fn with_room(embed_dim: usize, rows: usize) -> Self {
        let mut log = Self::new(embed_dim);
        log.tokens.resize(rows * log.width(), f32::NAN);
        log.present.resize(rows * Modality::COUNT, f32::NAN);
        log.truncate(0);
        log
    }

    /// Number of 5-s positions.
    pub fn len(&self) -> usize {
        self.present.len() / Modality::COUNT
    }

    /// No position yet.
    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// E.
    pub fn embed_dim(&self) -> usize {
        self.embed_dim
    }

    /// Values of one position: M x E.
    pub fn width(&self) -> usize {
        Modality::COUNT * self.embed_dim
    }

    /// Tokens [n, M, E] and presence [n, M] of a range of positions.
    pub fn rows(&self, rows: std::ops::Range<usize>) -> (&[f32], &[f32]) {
        let (width, cells) = (self.width(), Modality::COUNT);
        (
            &self.tokens[rows.start * width..rows.end * width],
            &self.present[rows.start * cells..rows.end * cells],
        )
    }

    /// [len, M, E]: zero where absent.
    pub fn tokens(&self) -> &[f32] {
        &self.tokens
    }

    /// [len, M]: 1.0 or 0.0.
    pub fn present(&self) -> &[f32] {
        &self.present
    }

    /// Drops everything behind position `len`: an open window is written anew as it fills.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len * Modality::COUNT * self.embed_dim);
        self.present.truncate(len * Modality::COUNT);
    }

    /// Gives back the memory of what was dropped.
    pub fn shrink(&mut self) {
        self.tokens.shrink_to_fit();
        self.present.shrink_to_fit();
    }

    /// Appends `rows` positions with everything absent.
    pub fn grow(&mut self, rows: usize) {
        let len = self.len() + rows;
        self.tokens.resize(len * Modality::COUNT * self.embed_dim, 0.0);
        self.present.resize(len * Modality::COUNT, 0.0);
    }

    /// Writes one modality's `embeddings` [n, E] and `present` `[n]` from position `first` on;
    /// the positions must be there already.
    pub fn write(&mut self, first: usize, modality: Modality, embeddings: &[f32], present: &[f32]) {
        for (row, &is_present) in present.iter().enumerate() {
            let cell = (first + row) * Modality::COUNT + modality.index();
            self.present[cell] = is_present;
            let token = &mut self.tokens[cell * self.embed_dim..][..self.embed_dim];
            if is_present > 0.0 {
                token.copy_from_slice(&embeddings[row * self.embed_dim..][..self.embed_dim]);
            } else {
                token.fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_tokens_are_zero_whatever_the_encoder_said() {
        let mut log = TokenLog::new(2);
        log.grow(3);
        log.write(1, Modality::Ekg, &[1.0, 2.0, 3.0, 4.0], &[0.0, 1.0]);
        assert_eq!(log.len(), 3);
        let ekg = |row: usize| {
            let cell = row * Modality::COUNT + Modality::Ekg.index();
            (log.present()[cell], log.tokens()[cell * 2..][..2].to_vec())
        };
        assert_eq!(ekg(0), (0.0, vec![0.0, 0.0]));
        assert_eq!(ekg(1), (0.0, vec![0.0, 0.0]));
        assert_eq!(ekg(2), (1.0, vec![3.0, 4.0]));
    }
}
