//! The end of a machine, as shown on the serial console.

/// The message of a kernel panic, if there was one.
pub(super) fn panic(console: &str) -> Option<String> {
    const WORDS: &str = "Kernel panic - not syncing: ";
    let start = console.find(WORDS)? + WORDS.len();
    Some(console[start..].lines().next().unwrap_or_default().trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_panic() {
        let console = "[    1.2] Run /init as init process\r\n[    1.3] Kernel panic - not \
                       syncing: Attempted to kill init! exitcode=0x00000100\r\n[    1.3] CPU: 0\r\n";
        assert_eq!(panic(console).unwrap(), "Attempted to kill init! exitcode=0x00000100");
        assert_eq!(panic("no more"), None);
    }
}
