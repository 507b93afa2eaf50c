//! A list of any length as a row of bars, in bounded memory: each bar has the same number of entries, which doubles
//! when there would be too many bars.

use super::html::{number, Tone};

/// The maximum number of bars.
const BARS: usize = 128;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bar {
    entries: u64,
    signed: u64,
    bad: u64,
}

impl Bar {
    fn merged(&self, other: &Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            signed: self.signed + other.signed,
            bad: self.bad + other.bad,
        }
    }
}

/// The entries of a list in their order, counted per bar.
#[derive(Debug)]
pub(super) struct Strip {
    width: u64,
    bars: Vec<Bar>,
}

impl Default for Strip {
    fn default() -> Self {
        Self { width: 1, bars: Vec::new() }
    }
}

impl Strip {
    /// Counts an entry.
    pub(super) fn add(&mut self, index: u64, is_signed: bool, is_bad: bool) {
        while index / self.width >= BARS as u64 {
            self.width *= 2;
            let merge = |pair: &[Bar]| pair.iter().fold(Bar::default(), |sum, bar| sum.merged(bar));
            self.bars = self.bars.chunks(2).map(merge).collect();
        }
        // the index is below BARS
        let at = (index / self.width) as usize;
        if self.bars.len() <= at {
            self.bars.resize(at + 1, Bar::default());
        }
        let bar = &mut self.bars[at];
        bar.entries += 1;
        bar.signed += u64::from(is_signed && !is_bad);
        bar.bad += u64::from(is_bad);
    }

    /// Draws the bars; a line is drawn at each entry in `marks`.
    pub(super) fn write(&self, marks: &[u64], page: &mut String) {
        const HEIGHT: f64 = 24.0;
        let width = self.bars.len();
        *page += &format!(
            "<svg class=\"strip\" viewBox=\"0 0 {width} 24\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"The entries of the list in order, {} in each bar\">",
            number(self.width)
        );
        for (at, bar) in self.bars.iter().enumerate().filter(|(_, bar)| bar.entries > 0) {
            let share = |count: u64| count as f64 * HEIGHT / bar.entries as f64;
            // one of many must still be visible
            let bad = if bar.bad == 0 { 0.0 } else { share(bar.bad).max(2.0) };
            let signed = share(bar.signed).min(HEIGHT - bad);
            let rest = HEIGHT - bad - signed;
            let parts = [(Tone::Good, signed), (Tone::Neutral, rest), (Tone::Bad, bad)];
            let mut bottom = HEIGHT;
            for (tone, height) in parts.into_iter().filter(|(_, height)| *height > 0.0) {
                bottom -= height;
                *page += &format!(
                    "<rect class=\"{}\" x=\"{at}\" y=\"{bottom:.2}\" width=\"0.86\" height=\"{height:.2}\"/>",
                    tone.class()
                );
            }
        }
        for mark in marks {
            let at = *mark as f64 / self.width as f64;
            *page += &format!(
                "<rect class=\"mark\" x=\"{at:.2}\" y=\"0\" width=\"0.3\" height=\"24\"/>"
            );
        }
        let each = match self.width {
            1 => "Each bar is an entry".to_owned(),
            width => format!("Each bar is {} entries", number(width)),
        };
        *page += &format!(
            "</svg>\n<p class=\"note\">{each}, in the order of the list. Findings are drawn larger than \
             their share; a dark line is the start of a kernel.</p>\n"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_counted_once_whatever_their_number() {
        for entries in [1, 127, 128, 129, 1000, 100_000] {
            let mut strip = Strip::default();
            (0..entries).for_each(|index| strip.add(index, index % 2 == 0, index % 10 == 0));
            assert!(strip.bars.len() <= BARS, "{entries}");
            let all = strip.bars.iter().fold(Bar::default(), |sum, bar| sum.merged(bar));
            assert_eq!(all.entries, entries);
            assert_eq!(all.bad, entries.div_ceil(10));
            assert_eq!(all.signed, entries.div_ceil(2) - entries.div_ceil(10));
        }
    }
}
