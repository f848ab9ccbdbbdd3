//! What the hub knows of the other end of a link, for the transport that has to choose which link
//! to give up for a new one. Set by the hub, read by the transport's task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// How much a link is worth keeping, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// It has not said a valid hello.
    Stranger,
    /// It has said hello and nothing else: anyone can make one up.
    Greeted,
    /// Its device ended, moved to another link, or fell silent.
    Idle,
    /// Its device is not admitted yet, but sends samples.
    Candidate,
    /// Its device belongs to a session.
    Known,
}

impl Rank {
    const ALL: [Rank; 5] =
        [Rank::Stranger, Rank::Greeted, Rank::Idle, Rank::Candidate, Rank::Known];

    /// Whether a link may be closed for one that is only just there.
    pub fn is_expendable(self) -> bool {
        self < Rank::Candidate
    }
}

/// The rank of one link; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Standing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    rank: AtomicU8,
    is_cut_off: AtomicBool,
}

impl Standing {
    /// As of now.
    pub fn rank(&self) -> Rank {
        let rank = usize::from(self.0.rank.load(Ordering::Relaxed));
        Rank::ALL.get(rank).copied().unwrap_or(Rank::Stranger)
    }

    /// From now on.
    pub fn set(&self, rank: Rank) {
        self.0.rank.store(rank as u8, Ordering::Relaxed);
    }

    /// The link is closed for what came over it; its address is not to be heard for a while.
    pub fn cut_off(&self) {
        self.0.is_cut_off.store(true, Ordering::Relaxed);
    }

    /// Whether it was cut off.
    pub fn is_cut_off(&self) -> bool {
        self.0.is_cut_off.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_a_rank() {
        let standing = Standing::default();
        let seen = standing.clone();
        assert_eq!(seen.rank(), Rank::Stranger);
        for rank in Rank::ALL {
            standing.set(rank);
            assert_eq!(seen.rank(), rank);
        }
        assert!(!Rank::Known.is_expendable() && !Rank::Candidate.is_expendable());
        assert!(Rank::Idle.is_expendable() && Rank::Stranger.is_expendable());
        standing.cut_off();
        assert!(seen.is_cut_off());
    }
}
