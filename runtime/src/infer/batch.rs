//! One run of a graph for several beds: calls of the same shapes that come within a few
//! milliseconds of each other, or while another one runs, are stacked along their first axis. Any
//! thread may call; one of those that wait runs the batch for all. A call that cannot be stacked,
//! or comes from a worker of a pool that must not be held up, goes straight to the graph.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Fault, InferError, Input, Session};

/// Calls of one batch. Few sizes: an engine may compile a plan for each.
pub const SIZES: [usize; 4] = [1, 2, 4, 8];
/// The most calls of one batch.
pub const LARGEST: usize = SIZES[SIZES.len() - 1];

/// A graph whose inputs and outputs all have the batch as their first axis.
pub struct BatchedSession {
    inner: Arc<dyn Session>,
    name: String,
    patience: Duration,
    queues: Mutex<HashMap<Key, Queue>>,
    arrived: Condvar,
    runs: [AtomicU64; SIZES.len()],
}

type Shapes = Vec<Vec<usize>>;
type Values = Vec<Vec<f32>>;
/// Shapes of the inputs and lengths of the outputs of one call.
type Key = (Shapes, Vec<usize>);

/// Calls of one key.
#[derive(Default)]
struct Queue {
    /// The first of them leads, if any.
    waiting: VecDeque<Arc<Call>>,
    /// A call is gathering or running a batch. If not, none waits.
    led: bool,
}

struct Call {
    inputs: Values,
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    Waiting,
    /// To lead the next batch.
    Leads,
    Done(Result<Values, InferError>),
}

impl BatchedSession {
    /// Batches the calls of `inner`, the graph `name`; a call waits up to `patience` for others.
    pub fn new(inner: Arc<dyn Session>, name: &str, patience: Duration) -> Self {
        Self {
            inner,
            name: name.to_owned(),
            patience,
            queues: Mutex::default(),
            arrived: Condvar::new(),
            runs: Default::default(),
        }
    }

    /// The graph itself.
    pub fn graph(&self) -> &dyn Session {
        &*self.inner
    }

    /// Batches run so far, by size as in [`SIZES`].
    pub fn runs(&self) -> [u64; SIZES.len()] {
        std::array::from_fn(|index| self.runs[index].load(Ordering::Relaxed))
    }

    /// Leads one batch, the caller's own call among it, and hands the lead on.
    fn lead(&self, key: &Key, patience: Duration) {
        let mut lead = Lead { session: self, key, batch: self.gather(key, patience) };
        let result = self.run_batch(key, &lead.batch);
        lead.end(result);
    }

    /// The calls of the next batch, the leader's first.
    fn gather(&self, key: &Key, patience: Duration) -> Vec<Arc<Call>> {
        let few = |queues: &mut HashMap<Key, Queue>| {
            queues.get(key).is_some_and(|queue| queue.waiting.len() < LARGEST)
        };
        let (mut queues, _) = self
            .arrived
            .wait_timeout_while(self.queues(), patience, few)
            .unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queues.get_mut(key) else { return Vec::new() };
        let count = SIZES.into_iter().rfind(|&size| size <= queue.waiting.len()).unwrap_or(0);
        queue.waiting.drain(..count).collect()
    }

    /// Outputs by call.
    fn run_batch(
        &self,
        (shapes, lengths): &Key,
        batch: &[Arc<Call>],
    ) -> Result<Vec<Values>, InferError> {
        let stacked: Vec<(Vec<usize>, Vec<f32>)> = shapes
            .iter()
            .enumerate()
            .map(|(index, shape)| {
                let mut shape = shape.clone();
                shape[0] = batch.len();
                (shape, batch.iter().flat_map(|call| &call.inputs[index]).copied().collect())
            })
            .collect();
        let inputs: Vec<Input<'_>> =
            stacked.iter().map(|(shape, values)| Input::F32(shape, values)).collect();
        let mut outputs: Values =
            lengths.iter().map(|&length| vec![0.0; batch.len() * length]).collect();
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        self.inner.run(&inputs, &mut slices)?;
        if let Some(size) = SIZES.iter().position(|&size| size == batch.len()) {
            self.runs[size].fetch_add(1, Ordering::Relaxed);
        }
        let of_call = |call: usize| {
            let own = outputs.iter().zip(lengths);
            own.map(|(values, &length)| values[call * length..][..length].to_vec()).collect()
        };
        Ok((0..batch.len()).map(of_call).collect())
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Key, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session for BatchedSession {
    fn run(&self, inputs: &[Input<'_>], outputs: &mut [&mut [f32]]) -> Result<(), InferError> {
        let own_thread = rayon::current_thread_index().is_none();
        let Some((shapes, inputs)) = own_thread.then(|| stackable(inputs)).flatten() else {
            return self.inner.run(inputs, outputs);
        };
        let key = (shapes, outputs.iter().map(|output| output.len()).collect());
        let call =
            Arc::new(Call { inputs, state: Mutex::new(State::Waiting), changed: Condvar::new() });
        let is_first = {
            let mut queues = self.queues();
            let queue = queues.entry(key.clone()).or_default();
            queue.waiting.push_back(call.clone());
            !std::mem::replace(&mut queue.led, true)
        };
        if is_first {
            self.lead(&key, self.patience);
        } else {
            self.arrived.notify_all();
            if call.must_lead() {
                // Others have gathered while the last batch ran.
                self.lead(&key, Duration::ZERO);
            }
        }
        for (output, values) in outputs.iter_mut().zip(call.result()?) {
            output.copy_from_slice(&values);
        }
        Ok(())
    }
}

/// Shapes and values of inputs that can be stacked: floats whose first axis is 1.
fn stackable(inputs: &[Input<'_>]) -> Option<(Shapes, Values)> {
    let own = |input: &Input<'_>| match input {
        Input::F32(shape, values) if shape.first() == Some(&1) => {
            Some((shape.to_vec(), values.to_vec()))
        }
        _ => None,
    };
    inputs.iter().map(own).collect()
}

impl Call {
    /// Waits for its result or its turn; true if it has to lead.
    fn must_lead(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |state: &mut State| matches!(state, State::Waiting);
        let state = self.changed.wait_while(state, waiting).unwrap_or_else(PoisonError::into_inner);
        matches!(*state, State::Leads)
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changed.notify_all();
    }

    /// The result of a call whose batch is over.
    fn result(&self) -> Result<Values, InferError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Waiting) {
            State::Done(result) => result,
            // Its batch always ends before a call asks.
            State::Waiting | State::Leads => {
                Err(InferError::new("", "the batches", Fault::Engine, "a call was left out"))
            }
        }
    }
}

/// A batch under way. However it ends, nobody waits for it for ever.
struct Lead<'a> {
    session: &'a BatchedSession,
    key: &'a Key,
    batch: Vec<Arc<Call>>,
}

impl Lead<'_> {
    fn end(&mut self, result: Result<Vec<Values>, InferError>) {
        match result {
            Ok(all) => self.batch.drain(..).zip(all).for_each(|(call, outputs)| {
                call.set(State::Done(Ok(outputs)));
            }),
            Err(error) => self.batch.drain(..).for_each(|call| {
                call.set(State::Done(Err(error.clone())));
            }),
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        // Of a batch that broke down; empty else.
        let reason = "the batch broke down";
        let name = &self.session.name;
        self.end(Err(InferError::new(name, "the batches", Fault::Engine, reason)));
        let mut queues = self.session.queues();
        let Some(queue) = queues.get_mut(self.key) else { return };
        match queue.waiting.front() {
            Some(next) => next.set(State::Leads),
            None => queue.led = false,
        }
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
