//! The places of an HTTP server's connections, by client. Everybody is let in: where there is no
//! place, the client that has the most of them gives one up, and of its connections the one that has
//! got on the least. So a client can shut out nobody but itself. Short locks; any thread.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How many places there are.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// For requests and their answers.
    pub requests: usize,
    /// Of these for one client.
    pub by_client: usize,
    /// For streams, which go on for hours: beside the others.
    pub streams: usize,
}

/// All connections of a server.
#[derive(Debug)]
pub struct Crowd {
    places: Places,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Counts what happens, in place of a clock.
    turn: u64,
    taken: Vec<Taken>,
}

#[derive(Debug)]
struct Taken {
    number: u64,
    client: IpAddr,
    is_stream: bool,
    /// The turn in which it last got on: a request by bytes that were taken, a stream by its beginning.
    got_on: u64,
    /// Dropped with this, it ends the connection.
    _cut: oneshot::Sender<()>,
}

/// A connection's place. It may outlive the connection.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    number: u64,
    client: IpAddr,
}

impl Crowd {
    /// An empty one.
    pub fn new(places: Places) -> Self {
        Self { places, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of `address` begins; what comes second is over when it has lost its place.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> (Arc<Place>, oneshot::Receiver<()>) {
        let client = client(address);
        let mut inner = self.inner();
        let requests = |taken: &&Taken| !taken.is_stream;
        let all = inner.taken.iter().filter(requests).count();
        let own = inner.taken.iter().filter(requests).filter(|t| t.client == client).count();
        if own >= self.places.by_client {
            inner.cut(|taken| !taken.is_stream && taken.client == client);
        } else if all >= self.places.requests {
            let most = inner.most(None, |taken| !taken.is_stream);
            inner.cut(|taken| !taken.is_stream && most.contains(&taken.client));
        }
        let number = inner.next_turn();
        let (cut, is_cut) = oneshot::channel();
        let taken = Taken { number, client, is_stream: false, got_on: number, _cut: cut };
        inner.taken.push(taken);
        (Arc::new(Place { crowd: self.clone(), number, client }), is_cut)
    }
}

impl Inner {
    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// The clients with the most places of a kind, `newcomer` counted with one more.
    fn most(&self, newcomer: Option<IpAddr>, kind: impl Fn(&Taken) -> bool) -> Vec<IpAddr> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        let clients = self.taken.iter().filter(|taken| kind(taken)).map(|taken| taken.client);
        for client in clients.chain(newcomer) {
            *counts.entry(client).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        counts.into_iter().filter(|(_, count)| *count == most).map(|(client, _)| client).collect()
    }

    /// Of these the one that has got on the least is over.
    fn cut(&mut self, of: impl Fn(&Taken) -> bool) {
        let all = self.taken.iter().enumerate().filter(|(_, taken)| of(taken));
        let least = all.min_by_key(|(_, taken)| taken.got_on).map(|(index, _)| index);
        if let Some(index) = least {
            let cut = self.taken.swap_remove(index);
            tracing::debug!(client = %cut.client, "a connection gave up its place");
        }
    }
}

impl Place {
    /// Who it is: an address, or of IPv6 the network that a household has.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// Its client took something.
    pub fn got_on(&self) {
        let mut inner = self.crowd.inner();
        let turn = inner.next_turn();
        let own = inner.taken.iter_mut().find(|taken| taken.number == self.number);
        if let Some(own) = own.filter(|own| !own.is_stream) {
            own.got_on = turn;
        }
    }

    /// What is answered here goes on for hours.
    pub fn become_stream(&self) {
        let mut inner = self.crowd.inner();
        if !inner.taken.iter().any(|taken| taken.number == self.number) {
            return;
        }
        let is_stream = |taken: &Taken| taken.is_stream;
        if inner.taken.iter().filter(|taken| is_stream(taken)).count() >= self.crowd.places.streams
        {
            let most = inner.most(Some(self.client), is_stream);
            // One that has no stream yet cannot give one up.
            let has_one = |t: &Taken| t.is_stream && most.contains(&t.client);
            if inner.taken.iter().any(has_one) {
                inner.cut(has_one);
            } else {
                inner.cut(is_stream);
            }
        }
        let turn = inner.next_turn();
        if let Some(own) = inner.taken.iter_mut().find(|taken| taken.number == self.number) {
            (own.is_stream, own.got_on) = (true, turn);
        }
    }

    /// The connection is over.
    pub fn leave(&self) {
        self.crowd.inner().taken.retain(|taken| taken.number != self.number);
    }
}

/// Who is behind an address: of IPv6 whoever has the first 64 bits has all the others.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seat = (Arc<Place>, oneshot::Receiver<()>);

    fn crowd(requests: usize, by_client: usize, streams: usize) -> Arc<Crowd> {
        Arc::new(Crowd::new(Places { requests, by_client, streams }))
    }

    fn enter(crowd: &Arc<Crowd>, client: u8) -> Seat {
        crowd.enter(IpAddr::from([127, 0, 0, client]))
    }

    fn stream(crowd: &Arc<Crowd>, client: u8) -> Seat {
        let seat = enter(crowd, client);
        seat.0.become_stream();
        seat
    }

    /// Which of them are still there.
    fn there(seats: &mut [Seat]) -> Vec<bool> {
        let is_there =
            |seat: &mut Seat| matches!(seat.1.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        seats.iter_mut().map(is_there).collect()
    }

    #[test]
    fn one_client_is_in_nobodys_way_but_its_own() {
        let crowd = crowd(8, 4, 2);
        let mut one: Vec<Seat> = (0..4).map(|_| enter(&crowd, 1)).collect();
        let mut other = vec![enter(&crowd, 2)];
        one[0].0.got_on();
        one.push(enter(&crowd, 1));
        assert_eq!(there(&mut one), [true, false, true, true, true], "the idle one went");
        assert_eq!(there(&mut other), [true]);
        one.drain(..).for_each(|seat| seat.0.leave());
        assert_eq!(crowd.inner().taken.len(), 1);
    }

    #[test]
    fn where_all_is_full_the_greediest_client_gives_way() {
        let crowd = crowd(8, 4, 2);
        let mut two: Vec<Seat> = (0..3).map(|_| enter(&crowd, 2)).collect();
        let mut one: Vec<Seat> = (0..4).map(|_| enter(&crowd, 1)).collect();
        let mut three = vec![enter(&crowd, 3), enter(&crowd, 3)];
        assert_eq!(there(&mut one), [false, true, true, true]);
        assert_eq!(there(&mut two), [true; 3]);
        assert_eq!(there(&mut three), [true; 2]);
    }

    #[test]
    fn streams_have_places_of_their_own() {
        let crowd = crowd(2, 2, 3);
        let mut one: Vec<Seat> = (0..3).map(|_| stream(&crowd, 1)).collect();
        one[0].0.got_on();
        let mut two = vec![stream(&crowd, 2)];
        assert_eq!(there(&mut one), [false, true, true], "the oldest, whatever it has taken");
        two.push(stream(&crowd, 3));
        assert_eq!((there(&mut one), there(&mut two)), (vec![false, false, true], vec![true; 2]));
        // Of those who have as many the oldest goes, and of one's own before others'.
        two.push(stream(&crowd, 2));
        assert_eq!(
            (there(&mut one), there(&mut two)),
            (vec![false, false, true], vec![false, true, true])
        );
        let requests: Vec<Seat> = (0..2).map(|_| enter(&crowd, 1)).collect();
        assert_eq!(requests.len(), 2);
        assert_eq!(there(&mut two), [false, true, true]);
        assert_eq!(crowd.inner().taken.len(), 5);
    }

    #[test]
    fn networks_of_ipv6_are_one_client() {
        let same = |a: &str, b: &str| {
            let address = |text: &str| text.parse().expect("an address");
            client(address(a)) == client(address(b))
        };
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
    }
}
