//! A progress bar for people: files, bytes, rate, time left.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use ima::container::Progress;
use indicatif::{DecimalBytes, HumanCount, HumanDuration};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::output::{Level, Output};

/// The cost of a file in bytes, in addition to its size: a signature, some system calls.
const FILE_COST: u64 = 1 << 16;

use crate::printable::Printable;

/// A progress bar on stderr, or hidden counters.
pub(crate) struct Bar {
    bar: ProgressBar,
    counts: Arc<Counts>,
    notes: Notes,
}

/// Which files that pass through temporary files are reported.
enum Notes {
    None,
    /// Only the first; set once it was reported.
    First(AtomicBool),
    All,
}

#[derive(Default)]
struct Counts {
    found: AtomicU64,
    found_bytes: AtomicU64,
    finished: AtomicU64,
    finished_bytes: AtomicU64,
    read: AtomicU64,
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

impl Counts {
    /// The amount of work found, and the amount done. Bytes move the bar, so that it advances within a large
    /// file; [`FILE_COST`] counts files of which nothing is read.
    fn work(&self) -> (u64, u64) {
        let bytes = get(&self.read).max(get(&self.finished_bytes));
        let found_bytes = get(&self.found_bytes);
        let done = bytes.min(found_bytes) + FILE_COST * get(&self.finished);
        (found_bytes + FILE_COST * get(&self.found), done)
    }

    fn describe(&self, noun: &str, state: &ProgressState) -> String {
        let (files, read) = (get(&self.finished), get(&self.read));
        let elapsed = state.elapsed().as_secs_f64().max(0.001);
        let rate = DecimalBytes((read as f64 / elapsed) as u64);
        let mut line = format!(
            "{}/{} {noun}, {} of {}, {rate}/s",
            HumanCount(files),
            HumanCount(get(&self.found)),
            DecimalBytes(read),
            DecimalBytes(get(&self.found_bytes)),
        );
        let (found, done) = self.work();
        if done > 0 {
            let left = elapsed * found.saturating_sub(done) as f64 / done as f64;
            let left = HumanDuration(Duration::from_secs_f64(left.min(1e9)));
            // writing to a string does not fail
            write!(line, ", {left:#} left").ok();
        }
        line
    }
}

impl Bar {
    /// A bar, visible only on a terminal.
    pub(crate) fn new(verb: &'static str, output: &Output) -> Self {
        Self::of("files", verb, output)
    }

    /// A bar that counts other objects than files.
    pub(crate) fn of(noun: &'static str, verb: &'static str, output: &Output) -> Self {
        let visible = output.shows_progress();
        let counts = Arc::new(Counts::default());
        let shown = Arc::clone(&counts);
        let describe = move |state: &ProgressState, line: &mut dyn std::fmt::Write| {
            // an error is ignored: the line is redrawn in a moment
            line.write_str(&shown.describe(noun, state)).ok();
        };
        let style = ProgressStyle::with_template("{msg} [{bar:24}] {described}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("described", describe)
            .progress_chars("=> ");
        let target = match visible {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        // no length until something is found: 0 of 0 would show as complete
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        bar.set_message(verb);
        if visible {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let notes = match (output.shows(Level::Normal), output.shows(Level::Verbose)) {
            (false, _) => Notes::None,
            (true, false) => Notes::First(AtomicBool::new(false)),
            (true, true) => Notes::All,
        };
        Self { bar, counts, notes }
    }

    /// Hides the bar while `print` prints above it.
    pub(crate) fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }

    fn say(&self, word: &str, text: &str) {
        // without stderr, the message is lost
        let text = Printable::new(text);
        self.bar.suspend(|| drop(writeln!(std::io::stderr(), "{word}: {text}")));
    }

    /// Removes the bar, and returns the bytes read and the seconds passed.
    pub(crate) fn finish(&self) -> (u64, f64) {
        let seconds = self.bar.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        (get(&self.counts.read), seconds)
    }

    /// Sets the position of the bar.
    fn advance(&self) {
        if !self.bar.is_hidden() {
            self.bar.set_position(self.counts.work().1);
        }
    }
}

impl Progress for Bar {
    fn found(&self, bytes: u64) {
        self.counts.found.fetch_add(1, Ordering::Relaxed);
        self.counts.found_bytes.fetch_add(bytes, Ordering::Relaxed);
        if !self.bar.is_hidden() {
            self.bar.set_length(self.counts.work().0);
        }
    }

    fn read(&self, bytes: u64) {
        self.counts.read.fetch_add(bytes, Ordering::Relaxed);
        self.advance();
    }

    fn finished(&self, bytes: u64) {
        self.counts.finished.fetch_add(1, Ordering::Relaxed);
        self.counts.finished_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.advance();
    }

    fn spooled(&self, path: &Path, bytes: u64, directory: &Path) {
        let wanted = match &self.notes {
            Notes::None => false,
            Notes::First(done) => !done.swap(true, Ordering::Relaxed),
            Notes::All => true,
        };
        if wanted {
            let (path, size, directory) =
                (path.display(), DecimalBytes(bytes), directory.display());
            self.say("note", &format!("{path} ({size}) passes through {directory}"));
        }
    }

    fn left_out(&self, path: &Path) {
        let path = path.display();
        self.say("warning", &format!("{path}: not signed: named like a temporary of imactl"));
    }
}
