//! Idle workers help with the files of a package.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};

/// Files that are taken at a time: enough work to be worth a thread.
const CHUNK: usize = 32;

/// How many threads of a run have nothing to do.
#[derive(Debug)]
pub(super) struct Crew {
    /// Below zero when helpers were hired and a package came.
    idle: AtomicIsize,
}

impl Crew {
    pub(super) fn new(size: usize) -> Self {
        Self { idle: AtomicIsize::new(isize::try_from(size).unwrap_or(isize::MAX)) }
    }

    /// Does a worker's own work.
    pub(super) fn work<R>(&self, work: impl FnOnce() -> R) -> R {
        self.idle.fetch_sub(1, Ordering::Relaxed);
        let result = work();
        self.idle.fetch_add(1, Ordering::Relaxed);
        result
    }

    /// Takes one from the idle, if there is one.
    fn hire(&self) -> bool {
        let less = |idle: isize| (idle > 0).then_some(idle - 1);
        self.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Does something for each of `count` files, in order in the result; with helpers as long
    /// as there are idle ones. `start` makes a thread's means.
    ///
    /// # Errors
    /// The first of `start` or of a file's, whichever thread comes upon it.
    pub(super) fn for_each<R: Send, E: Send, W: FnMut(usize) -> Result<R, E>>(
        &self,
        count: usize,
        start: impl Fn() -> Result<W, E> + Sync,
    ) -> Result<Vec<R>, E> {
        let task = Task {
            count,
            start: &start,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            done: Mutex::new(Vec::new()),
            failed: Mutex::new(None),
        };
        thread::scope(|scope| self.take_part(scope, &task));
        let unpoisoned = PoisonError::into_inner;
        if let Some(error) = task.failed.into_inner().unwrap_or_else(unpoisoned) {
            return Err(error);
        }
        let mut done = task.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(first, _)| *first);
        Ok(done.into_iter().flat_map(|(_, results)| results).collect())
    }

    /// Takes chunks until none is left, and hires others.
    fn take_part<'scope, 'env, R: Send, E: Send, S, W>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        task: &'env Task<'env, R, E, S>,
    ) where
        S: Fn() -> Result<W, E> + Sync,
        W: FnMut(usize) -> Result<R, E>,
    {
        let mut worker = None;
        while let Some(chunk) = task.take() {
            if chunk.end < task.count && self.hire() {
                scope.spawn(move || {
                    self.take_part(scope, task);
                    self.idle.fetch_add(1, Ordering::Relaxed);
                });
            }
            let first = chunk.start;
            let results = match &mut worker {
                Some(worker) => chunk.map(worker).collect::<Result<Vec<R>, E>>(),
                none => match (task.start)() {
                    Ok(started) => chunk.map(none.insert(started)).collect(),
                    Err(error) => Err(error),
                },
            };
            task.put(first, results);
        }
    }
}

/// One package's files.
struct Task<'a, R, E, S> {
    count: usize,
    start: &'a S,
    next: AtomicUsize,
    stop: AtomicBool,
    done: Mutex<Vec<(usize, Vec<R>)>>,
    failed: Mutex<Option<E>>,
}

impl<R, E, S> Task<'_, R, E, S> {
    fn take(&self) -> Option<Range<usize>> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let first = self.next.fetch_add(CHUNK, Ordering::Relaxed);
        (first < self.count).then(|| first..self.count.min(first + CHUNK))
    }

    fn put(&self, first: usize, results: Result<Vec<R>, E>) {
        // a thread that panicked ends the run anyway: `scope` passes the panic on
        match results {
            Ok(results) => {
                self.done.lock().unwrap_or_else(PoisonError::into_inner).push((first, results));
            }
            Err(error) => {
                self.stop.store(true, Ordering::Relaxed);
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_files() {
        for size in [1, 4] {
            let crew = Crew::new(size);
            let double = || Ok::<_, ()>(|number: usize| Ok(2 * number));
            let results = crew.work(|| crew.for_each(1_000, double)).unwrap();
            assert_eq!(results, (0..1_000).map(|number| 2 * number).collect::<Vec<_>>());
            assert_eq!(crew.idle.into_inner(), size as isize);
        }
    }

    #[test]
    fn one_error_ends_all() {
        let crew = Crew::new(4);
        let fail = || Ok(|number: usize| if number == 500 { Err(number) } else { Ok(()) });
        assert_eq!(crew.for_each(1_000, fail), Err(500));
    }
}
