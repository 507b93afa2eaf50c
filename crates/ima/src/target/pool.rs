//! A walk, some workers, results in the walk's order.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Jobs of this size and more are taken first, so that no worker is left alone with one at
/// the end.
const LARGE: u64 = 1 << 20;
/// The walk waits when so many jobs are queued: memory does not grow with the tree.
const QUEUED: usize = 1 << 14;

struct Queue<J> {
    state: Mutex<State<J>>,
    /// Something was queued, or the walk is over.
    ready: Condvar,
    /// Something was taken.
    taken: Condvar,
}

struct State<J> {
    small: VecDeque<(u64, J)>,
    /// By size; the number makes the key unique.
    large: BTreeMap<(u64, u64), J>,
    done: bool,
}

impl<J> Queue<J> {
    fn new() -> Self {
        let state = State { small: VecDeque::new(), large: BTreeMap::new(), done: false };
        Self { state: Mutex::new(state), ready: Condvar::new(), taken: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // a worker that panicked ends the run anyway: `scope` passes the panic on
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, number: u64, job: J, size: u64, stop: &AtomicBool) {
        let mut state = self.lock();
        while state.small.len() + state.large.len() >= QUEUED && !stop.load(Ordering::Relaxed) {
            state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match size {
            LARGE.. => drop(state.large.insert((size, number), job)),
            _ => state.small.push_back((number, job)),
        }
        drop(state);
        self.ready.notify_one();
    }

    fn finish(&self) {
        self.lock().done = true;
        self.ready.notify_all();
        self.taken.notify_all();
    }

    /// The largest job, or the oldest small one; `None` when the walk is over.
    fn pop(&self) -> Option<(u64, J)> {
        let mut state = self.lock();
        loop {
            let large = state.large.pop_last().map(|((_, number), job)| (number, job));
            if let Some(job) = large.or_else(|| state.small.pop_front()) {
                drop(state);
                self.taken.notify_one();
                return Some(job);
            }
            if state.done {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs `produce` in one thread and `jobs` workers beside it. Results reach `consume`, in
/// the caller's thread, in the order in which their jobs were produced. An error of
/// `consume` sets `stop`, and is returned when the workers have ended.
pub(super) fn run<J: Send, R: Send, E, W: FnMut(J) -> R>(
    jobs: NonZeroUsize,
    stop: &AtomicBool,
    produce: impl FnOnce(&mut dyn FnMut(J, u64)) + Send,
    start: impl Fn() -> W + Sync,
    consume: &mut dyn FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let queue = Queue::new();
    let (queue, start) = (&queue, &start);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut number = 0;
            produce(&mut |job, size| {
                queue.push(number, job, size, stop);
                number += 1;
            });
            queue.finish();
        });
        let (sender, results) = sync_channel(QUEUED);
        for _ in 0..jobs.get() {
            let sender = sender.clone();
            scope.spawn(move || {
                let mut worker = start();
                while let Some((number, job)) = queue.pop() {
                    if stop.load(Ordering::Relaxed) || sender.send((number, worker(job))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for (number, result) in results {
            waiting.insert(number, result);
            while let Some(result) = waiting.remove(&next) {
                next += 1;
                if let Err(error) = consume(result) {
                    stop.store(true, Ordering::Relaxed);
                    queue.taken.notify_all();
                    return Err(error);
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn numbers(jobs: usize, count: u64) -> Vec<u64> {
        let mut results = Vec::new();
        let stop = AtomicBool::new(false);
        run(
            NonZeroUsize::new(jobs).unwrap(),
            &stop,
            |push| (0..count).for_each(|n| push(n, if n % 7 == 0 { LARGE + n } else { n })),
            || |n: u64| n * 2,
            &mut |result| {
                results.push(result);
                io::Result::Ok(())
            },
        )
        .unwrap();
        results
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let count = 3 * QUEUED as u64;
        for jobs in [1, 4] {
            assert_eq!(numbers(jobs, count), (0..count).map(|n| n * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_of_the_consumer_ends_the_run() {
        let stop = AtomicBool::new(false);
        let result = run(
            NonZeroUsize::new(2).unwrap(),
            &stop,
            |push| (0..10 * QUEUED as u64).for_each(|n| push(n, n)),
            || |n: u64| n,
            &mut |_| Err(io::Error::from(io::ErrorKind::BrokenPipe)),
        );
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
