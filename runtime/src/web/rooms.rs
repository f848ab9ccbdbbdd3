//! All beds of the process. A bed that is over stays, so that the page keeps what it shows, until
//! another session begins in its place or too many have ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::room::{Origin, Room};
use crate::health::Report;
use crate::link::mark::MarkButton;

/// Beds that are over and still shown.
const MAX_OVER: usize = 64;

/// All beds of the process, in the order they began.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: Mutex<Vec<Arc<Room>>>,
}

/// A bed that is in use. When this is dropped the page says that the run is over.
#[derive(Debug)]
pub struct Occupied {
    /// What the run's threads tell.
    pub room: Arc<Room>,
}

impl Rooms {
    fn rooms(&self) -> MutexGuard<'_, Vec<Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins at `bed` (a label, no person's data); `title` is untrusted text.
    pub fn open(
        &self,
        bed: &str,
        title: &str,
        origin: Origin,
        button: Option<MarkButton>,
    ) -> Occupied {
        let room = Arc::new(Room::new(bed, title, origin, button));
        let mut rooms = self.rooms();
        rooms.retain(|other| other.bed != room.bed);
        let over: Vec<usize> = (0..rooms.len()).filter(|&i| rooms[i].is_over()).collect();
        if let Some(&oldest) = over.first().filter(|_| over.len() >= MAX_OVER) {
            rooms.remove(oldest);
        }
        rooms.push(room.clone());
        Occupied { room }
    }

    /// Every bed.
    pub fn all(&self) -> Vec<Arc<Room>> {
        self.rooms().clone()
    }

    /// The bed of this label.
    pub fn find(&self, bed: &str) -> Option<Arc<Room>> {
        self.rooms().iter().find(|room| room.bed == bed).cloned()
    }

    /// Takes how all beds are.
    pub fn health(&self, report: Report) {
        for bed in report.beds {
            if let Some(room) = self.find(&bed.bed) {
                room.health(bed);
            }
        }
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.room.end(if std::thread::panicking() {
            "the run broke off"
        } else {
            "the run is over"
        });
    }
}
