//! The worker pool of all containers: one producer, some workers, and one consumer.
//!
//! ```text
//! producer thread         worker threads                     caller's thread
//! produce(push) ──────>   queue ──> worker(job) ──────>      consume(result)
//!                           ^          │ follow(job)
//!                           └──────────┘
//! ```
//!
//! The producer walks a tree or reads an archive, and numbers each job that it pushes. Workers take jobs in any order:
//! follow-ups first, then the largest, then the oldest small ones. The caller's thread keeps the results until those
//! before them have arrived, and so consumes them in the order of production: reports are in the order of the
//! walk, and an archive is written in its own order.
//!
//! These hold at any time:
//!
//! - Each number gets exactly one result: from its job, or from the last of the jobs that follow it (a package is
//!   opened by one worker, and its files are processed in chunks by all).
//! - Memory is bounded. The producer waits when [`QUEUED`] jobs are in the queue, and workers wait when the channel of
//!   results is full. Data that a job holds itself is bounded by its container (the permits of archives).
//! - A worker that has no job waits while another one is busy, since that one may still add a follow-up.
//! - After an error of the consumer, `stop` is set and no thread waits any longer: the producer checks it at each job,
//!   workers between jobs, and sending into the closed channel fails.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{sync_channel, SendError, SyncSender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Jobs of this size and more are taken first, so that no worker is left alone with one at
/// the end.
const LARGE: u64 = 1 << 20;
/// A batch for jobs that are small files: handing them over one by one costs more than the
/// work on them.
pub(crate) const FILES: usize = 64;
/// The walk waits when so many jobs are queued: memory does not grow with the tree.
const QUEUED: usize = 1 << 14;
/// Results are not kept back for longer, be the batch done or not.
const PATIENCE: Duration = Duration::from_millis(50);

/// A job, and its number in the walk's order.
type Numbered<J> = (u64, J);

/// Who does the work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workers {
    /// Threads.
    pub(crate) jobs: NonZeroUsize,
    /// How many jobs are handed over at once, at most: 1 if the walk waits for memory that a job holds.
    pub(crate) batch: usize,
}

struct Queue<J> {
    workers: Workers,
    state: Mutex<State<J>>,
    /// Something was queued, or the walk is over.
    ready: Condvar,
    /// Something was taken.
    taken: Condvar,
}

struct State<J> {
    /// Further jobs of jobs that were taken: they come first.
    follow_ups: VecDeque<Numbered<J>>,
    small: VecDeque<Numbered<J>>,
    /// By size; the number makes the key unique.
    large: BTreeMap<(u64, u64), J>,
    done: bool,
    /// Workers that have jobs, which may be followed by further ones.
    busy: usize,
}

impl<J> Queue<J> {
    fn new(workers: Workers) -> Self {
        let (follow_ups, small, large) = Default::default();
        let busy = workers.jobs.get();
        let state = State { follow_ups, small, large, done: false, busy };
        Self { workers, state: Mutex::new(state), ready: Condvar::new(), taken: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // a worker that panicked ends the run anyway: `scope` passes the panic on
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues jobs with their sizes, and leaves `jobs` empty.
    fn push(&self, jobs: &mut Vec<(u64, Numbered<J>)>, stop: &AtomicBool) {
        let mut state = self.lock();
        while state.small.len() + state.large.len() >= QUEUED && !stop.load(Ordering::Relaxed) {
            state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = jobs.len();
        for (size, (number, job)) in jobs.drain(..) {
            match size {
                LARGE.. => drop(state.large.insert((size, number), job)),
                _ => state.small.push_back((number, job)),
            }
        }
        drop(state);
        match count {
            1 => self.ready.notify_one(),
            _ => self.ready.notify_all(),
        }
    }

    /// Queues a further job of one that was taken; it bears the same number.
    fn follow(&self, job: Numbered<J>) {
        self.lock().follow_ups.push_back(job);
        self.ready.notify_one();
    }

    /// A worker ends.
    fn leave(&self) {
        let mut state = self.lock();
        state.busy -= 1;
        if state.busy == 0 {
            self.ready.notify_all();
        }
    }

    fn finish(&self) {
        self.lock().done = true;
        self.ready.notify_all();
        self.taken.notify_all();
    }

    /// Takes the largest job, or some of the oldest small ones: fewer as the queue runs dry,
    /// so that the workers end together. None when the walk is over, and no job is left that may
    /// be followed by others.
    fn take(&self, jobs: &mut Vec<Numbered<J>>) {
        let mut state = self.lock();
        state.busy -= 1;
        loop {
            if let Some(job) = state.follow_ups.pop_front() {
                jobs.push(job);
            } else if let Some(((_, number), job)) = state.large.pop_last() {
                jobs.push((number, job));
            } else {
                let Workers { jobs: threads, batch } = self.workers;
                let share = (state.small.len() / (2 * threads.get())).clamp(1, batch);
                let share = share.min(state.small.len());
                jobs.extend(state.small.drain(..share));
            }
            if !jobs.is_empty() || (state.done && state.busy == 0) {
                break;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // who takes nothing is counted until it leaves
        state.busy += 1;
        drop(state);
        self.taken.notify_one();
    }
}

/// As [`run_following`], with jobs that are not followed by others.
pub(crate) fn run<J: Send, R: Send, E, W: FnMut(J) -> R>(
    workers: Workers,
    stop: &AtomicBool,
    produce: impl FnOnce(&mut dyn FnMut(J, u64)) + Send,
    start: impl Fn() -> W + Sync,
    consume: &mut dyn FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let start = || {
        let mut worker = start();
        move |job, _: &mut dyn FnMut(J)| Some(worker(job))
    };
    run_following(workers, stop, produce, start, consume)
}

/// Runs `produce` in one thread and workers in others. Results reach `consume`, in the caller's
/// thread, in the order in which their jobs were produced. A worker is given a function that queues
/// further jobs, and one of these gives the result in place of the job that they follow. An error
/// of `consume` sets `stop`, and is returned when the workers have ended.
pub(crate) fn run_following<J, R, E, W>(
    workers: Workers,
    stop: &AtomicBool,
    produce: impl FnOnce(&mut dyn FnMut(J, u64)) + Send,
    start: impl Fn() -> W + Sync,
    consume: &mut dyn FnMut(R) -> Result<(), E>,
) -> Result<(), E>
where
    J: Send,
    R: Send,
    W: FnMut(J, &mut dyn FnMut(J)) -> Option<R>,
{
    let queue = Queue::new(workers);
    let (queue, start) = (&queue, &start);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut number = 0;
            let mut found = Vec::with_capacity(workers.batch);
            produce(&mut |job, size| {
                found.push((size, (number, job)));
                number += 1;
                if found.len() >= workers.batch {
                    queue.push(&mut found, stop);
                }
            });
            queue.push(&mut found, stop);
            queue.finish();
        });
        let (sender, results) = sync_channel(QUEUED / workers.batch);
        for _ in 0..workers.jobs.get() {
            let sender = sender.clone();
            // the channel closes when results are no longer wanted
            scope.spawn(move || {
                let _leaves = Leaves(queue);
                drop(work(queue, start(), stop, &sender));
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for done in results {
            waiting.extend(done);
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

/// A worker, until it ends, be it by a panic.
struct Leaves<'a, J>(&'a Queue<J>);

impl<J> Drop for Leaves<'_, J> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Works until no job is left, and sends the results in batches.
fn work<J, R>(
    queue: &Queue<J>,
    mut worker: impl FnMut(J, &mut dyn FnMut(J)) -> Option<R>,
    stop: &AtomicBool,
    results: &SyncSender<Vec<Numbered<R>>>,
) -> Result<(), SendError<Vec<Numbered<R>>>> {
    let mut taken = Vec::with_capacity(queue.workers.batch);
    loop {
        queue.take(&mut taken);
        if taken.is_empty() {
            return Ok(());
        }
        let mut done = Vec::with_capacity(taken.len());
        let mut since = Instant::now();
        for (number, job) in taken.drain(..) {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let mut follow = |further| queue.follow((number, further));
            done.extend(worker(job, &mut follow).map(|result| (number, result)));
            if since.elapsed() > PATIENCE {
                results.send(std::mem::take(&mut done))?;
                since = Instant::now();
            }
        }
        results.send(done)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicUsize;
    use std::sync::Arc;

    use super::*;

    fn workers(jobs: usize, batch: usize) -> Workers {
        Workers { jobs: NonZeroUsize::new(jobs).unwrap(), batch }
    }

    fn numbers(workers: Workers, count: u64) -> Vec<u64> {
        let mut results = Vec::new();
        let stop = AtomicBool::new(false);
        run(
            workers,
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
        for (jobs, batch) in [(1, 1), (1, FILES), (4, 1), (4, FILES)] {
            assert_eq!(
                numbers(workers(jobs, batch), count),
                (0..count).map(|n| n * 2).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn the_last_of_the_jobs_that_follow_one_gives_its_result() {
        enum Job {
            Whole(u64),
            Part(Arc<(u64, AtomicUsize)>),
        }
        const PARTS: usize = 10;
        for jobs in [1, 4] {
            let mut results = Vec::new();
            let start = || {
                |job: Job, follow: &mut dyn FnMut(Job)| match job {
                    Job::Whole(n) if n % 3 == 0 => Some(n),
                    Job::Whole(n) => {
                        let shared = Arc::new((n, AtomicUsize::new(PARTS)));
                        (0..PARTS).for_each(|_| follow(Job::Part(Arc::clone(&shared))));
                        None
                    }
                    Job::Part(shared) => {
                        let left = shared.1.fetch_sub(1, Ordering::Relaxed);
                        (left == 1).then_some(shared.0)
                    }
                }
            };
            run_following(
                workers(jobs, 1),
                &AtomicBool::new(false),
                |push| (0..500).for_each(|n| push(Job::Whole(n), n)),
                start,
                &mut |result| {
                    results.push(result);
                    io::Result::Ok(())
                },
            )
            .unwrap();
            assert_eq!(results, (0..500).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_of_the_consumer_ends_the_run() {
        let stop = AtomicBool::new(false);
        let result = run(
            workers(2, FILES),
            &stop,
            |push| (0..10 * QUEUED as u64).for_each(|n| push(n, n)),
            || |n: u64| n,
            &mut |_| Err(io::Error::from(io::ErrorKind::BrokenPipe)),
        );
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
