use std::sync::Barrier;

use super::*;

/// y = 2 x + sum of the call's m, z = number of values; notes the sizes it is run with.
#[derive(Default)]
struct Doubling {
    sizes: Mutex<Vec<usize>>,
}

impl Session for Doubling {
    fn run(&self, inputs: &[Input<'_>], outputs: &mut [&mut [f32]]) -> Result<(), InferError> {
        let [Input::F32(shape, x), Input::F32(_, m)] = inputs else { panic!("two floats") };
        self.sizes.lock().expect("not poisoned").push(shape[0]);
        std::thread::sleep(Duration::from_millis(5));
        let (x_length, m_length) = (x.len() / shape[0], m.len() / shape[0]);
        for call in 0..shape[0] {
            let x = &x[call * x_length..][..x_length];
            if x.contains(&-1.0) {
                return Err(InferError::refused("doubling", "the test", "minus one"));
            }
            assert!(!x.contains(&-2.0), "minus two");
            let sum: f32 = m[call * m_length..][..m_length].iter().sum();
            for (y, x) in outputs[0][call * x_length..].iter_mut().zip(x) {
                *y = 2.0 * x + sum;
            }
            outputs[1][call] = x_length as f32;
        }
        Ok(())
    }
}

fn call(session: &dyn Session, length: usize, value: f32) -> Result<(Vec<f32>, f32), InferError> {
    let (x, m) = (vec![value; length], [value, 1.0]);
    let (mut y, mut z) = (vec![0.0; length], [0.0]);
    let inputs = [Input::F32(&[1, length], &x), Input::F32(&[1, 2], &m)];
    session.run(&inputs, &mut [&mut y, &mut z])?;
    Ok((y, z[0]))
}

fn batched(patience_ms: u64) -> (Arc<Doubling>, BatchedSession) {
    let inner = Arc::new(Doubling::default());
    let patience = Duration::from_millis(patience_ms);
    (inner.clone(), BatchedSession::new(inner, "doubling", patience))
}

#[test]
fn every_call_has_its_own_result_whatever_runs_beside_it() {
    let (inner, session) = batched(3);
    let barrier = Barrier::new(24);
    std::thread::scope(|scope| {
        for thread in 0..24 {
            let (session, barrier) = (&session, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..20 {
                    let (length, value) = (3 + thread % 2, (thread * 100 + round) as f32);
                    let (y, z) = call(session, length, value).expect("runs");
                    assert_eq!((y, z), (vec![3.0 * value + 1.0; length], length as f32));
                }
            });
        }
    });
    let sizes = inner.sizes.lock().expect("not poisoned").clone();
    assert_eq!(sizes.iter().sum::<usize>(), 24 * 20, "each call once");
    assert!(sizes.iter().all(|size| SIZES.contains(size)), "{sizes:?}");
    assert!(sizes.iter().filter(|&&size| size == 8).count() > 10, "{sizes:?}");
    let runs: u64 = session.runs().iter().sum();
    assert_eq!(runs as usize, sizes.len());
}

#[test]
fn a_call_alone_runs_after_its_patience() {
    let (inner, session) = batched(1);
    assert_eq!(call(&session, 2, 5.0).expect("runs").0, [16.0, 16.0]);
    assert_eq!(*inner.sizes.lock().expect("not poisoned"), [1]);
    assert_eq!(session.runs(), [1, 0, 0, 0]);
}

#[test]
fn a_batch_that_fails_or_breaks_down_leaves_nobody_waiting() {
    for (bad, reason) in [(-1.0, "minus one"), (-2.0, "the batch broke down")] {
        let (_, session) = batched(20);
        let barrier = Barrier::new(12);
        let reasons: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..12)
                .map(|thread| {
                    let (session, barrier) = (&session, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        call(session, 4, if thread == 5 { bad } else { 1.0 })
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        // The panic itself is that of the thread that led.
        let panics = reasons.iter().filter(|reason| reason.is_err()).count();
        assert_eq!(panics, usize::from(bad == -2.0));
        let failed = reasons.iter().flatten().filter_map(|result| result.as_ref().err());
        let failed: Vec<_> = failed.map(|error| error.reason.clone()).collect();
        assert!(failed.iter().all(|failed| failed == reason), "{failed:?}");
        assert!(failed.len() + panics >= 1);
        let fine = call(&session, 4, 1.0).expect("the next call runs").0;
        assert_eq!(fine, [4.0; 4]);
    }
}

#[test]
fn what_cannot_be_stacked_goes_straight_through() {
    let (inner, session) = batched(1000);
    let (x, m) = ([1.0; 6], [1.0; 4]);
    let (mut y, mut z) = ([0.0; 6], [0.0; 2]);
    let inputs = [Input::F32(&[2, 3], &x), Input::F32(&[2, 2], &m)];
    session.run(&inputs, &mut [&mut y, &mut z]).expect("runs");
    assert_eq!((y, z), ([4.0; 6], [3.0; 2]));
    // A worker of a pool has other work to do than to wait.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    let begin = std::time::Instant::now();
    pool.install(|| call(&session, 2, 5.0)).expect("runs");
    assert!(begin.elapsed() < Duration::from_millis(500));
    assert_eq!(session.runs(), [0; 4]);
    assert_eq!(*inner.sizes.lock().expect("not poisoned"), [2, 1]);
}
