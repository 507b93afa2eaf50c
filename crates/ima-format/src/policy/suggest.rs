//! Suggestions for unknown words.

/// The candidate nearest to `word`, if it is near: at most a third of its letters are wrong, missing, added or
/// swapped with their neighbour; case is ignored.
pub(super) fn nearest<'a>(
    word: &[u8],
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let distances = candidates.into_iter().filter_map(|candidate| {
        let limit = (candidate.len() / 3).max(1);
        // a candidate whose length differs more cannot be near: this bounds the work
        if word.len().abs_diff(candidate.len()) > limit {
            return None;
        }
        let distance = distance(word, candidate.as_bytes());
        (distance <= limit).then_some((distance, candidate))
    });
    distances.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// Optimal string alignment over bytes, case ignored.
fn distance(left: &[u8], right: &[u8]) -> usize {
    const WIDTH: usize = 64;
    if right.len() >= WIDTH {
        return usize::MAX;
    }
    let mut above_that = [0_usize; WIDTH];
    let mut above = [0_usize; WIDTH];
    for (column, cell) in above.iter_mut().enumerate() {
        *cell = column;
    }
    let mut previous_left = None;
    for (row, left_byte) in left.iter().enumerate() {
        let mut current = [0_usize; WIDTH];
        let mut beside = row + 1;
        if let Some(cell) = current.first_mut() {
            *cell = beside;
        }
        let mut previous_right = None;
        for (column, right_byte) in right.iter().enumerate() {
            let cell = |cells: &[usize; WIDTH], at: usize| cells.get(at).copied().unwrap_or(WIDTH);
            let wrong = usize::from(!left_byte.eq_ignore_ascii_case(right_byte));
            let mut best =
                (cell(&above, column) + wrong).min(cell(&above, column + 1) + 1).min(beside + 1);
            let same = |one: Option<&u8>, other: &u8| {
                one.is_some_and(|one| one.eq_ignore_ascii_case(other))
            };
            if same(previous_left, right_byte) && same(previous_right, left_byte) {
                best = best.min(cell(&above_that, column.wrapping_sub(1)) + 1);
            }
            if let Some(cell) = current.get_mut(column + 1) {
                *cell = best;
            }
            beside = best;
            previous_right = Some(right_byte);
        }
        above_that = above;
        above = current;
        previous_left = Some(left_byte);
    }
    above.get(right.len()).copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_letters() {
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"fowner", b"FOWNER"), 0);
        assert_eq!(distance(b"fucn", b"func"), 1, "neighbours exchanged");
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"abc", b""), 3);
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let candidates = ["appraise", "dont_appraise", "measure"];
        assert_eq!(nearest(b"apraise", candidates), Some("appraise"));
        assert_eq!(nearest(b"dont-appraise", candidates), Some("dont_appraise"));
        assert_eq!(nearest(b"banana", candidates), None);
    }
}
