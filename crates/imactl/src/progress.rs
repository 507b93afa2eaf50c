//! A progress bar for people: files, bytes, rate, time left.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use ima::target::Progress;
use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Shows a run's progress on stderr, or counts in silence.
pub(crate) struct Bar {
    bar: ProgressBar,
    bytes: Arc<Bytes>,
}

#[derive(Default)]
struct Bytes {
    found: AtomicU64,
    read: AtomicU64,
}

impl Bar {
    /// A bar; `visible` only on a terminal.
    pub(crate) fn new(verb: &'static str, visible: bool) -> Self {
        Self::of("files", verb, visible)
    }

    /// A bar that counts something else than files.
    pub(crate) fn of(noun: &str, verb: &'static str, visible: bool) -> Self {
        let bytes = Arc::new(Bytes::default());
        let shown = Arc::clone(&bytes);
        let describe = move |state: &ProgressState, line: &mut dyn std::fmt::Write| {
            let read = shown.read.load(Ordering::Relaxed);
            let seconds = state.elapsed().as_secs_f64().max(0.001);
            let found = shown.found.load(Ordering::Relaxed);
            let rate = DecimalBytes((read as f64 / seconds) as u64);
            // writing to a string does not fail, and the line is redrawn in a moment
            write!(line, "{} of {}, {rate}/s", DecimalBytes(read), DecimalBytes(found)).ok();
        };
        let template = format!(
            "{{msg}} [{{bar:24}}] {{human_pos}}/{{human_len}} {noun}, {{bytes_read}}, {{eta}} left"
        );
        let style = ProgressStyle::with_template(&template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("bytes_read", describe)
            .progress_chars("=> ");
        let target = match visible {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target).with_style(style);
        bar.set_message(verb);
        if visible {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, bytes }
    }

    /// Takes the bar off the screen to print something above it.
    pub(crate) fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }

    /// Says something on standard error, from any thread.
    pub(crate) fn note(&self, text: &str) {
        // without stderr there is nobody to tell
        self.bar.suspend(|| drop(writeln!(std::io::stderr(), "note: {text}")));
    }

    /// Takes the bar away and tells the bytes read and the seconds passed.
    pub(crate) fn finish(&self) -> (u64, f64) {
        let seconds = self.bar.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        (self.bytes.read.load(Ordering::Relaxed), seconds)
    }
}

impl Progress for Bar {
    fn found(&self, bytes: u64) {
        self.bytes.found.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc_length(1);
    }

    fn read(&self, bytes: u64) {
        self.bytes.read.fetch_add(bytes, Ordering::Relaxed);
    }

    fn finished(&self) {
        self.bar.inc(1);
    }
}
