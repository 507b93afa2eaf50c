//! Kernel configurations: merging fragments, and checking that the result has their options.

use std::collections::BTreeMap;

/// Options by name (without `CONFIG_`); `None` is "is not set".
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Config(BTreeMap<String, Option<String>>);

impl Config {
    /// Parses `CONFIG_NAME=value` and `# CONFIG_NAME is not set`; the last line of an option counts.
    pub(crate) fn parse(text: &str) -> Self {
        let mut config = Self::default();
        config.merge(text);
        config
    }

    /// Parses further lines, which override earlier ones.
    pub(crate) fn merge(&mut self, text: &str) {
        for line in text.lines() {
            let unset = line.strip_prefix("# CONFIG_").and_then(|l| l.strip_suffix(" is not set"));
            if let Some(name) = unset {
                self.0.insert(name.to_owned(), None);
            } else if let Some((name, value)) =
                line.strip_prefix("CONFIG_").and_then(|line| line.split_once('='))
            {
                self.0.insert(name.to_owned(), Some(value.to_owned()));
            }
        }
    }

    /// Disables an option.
    pub(crate) fn switch_off(&mut self, name: &str) {
        self.0.insert(name.to_owned(), None);
    }

    /// Removes all options with this prefix.
    pub(crate) fn forget(&mut self, beginning: &str) {
        self.0.retain(|name, _| !name.starts_with(beginning));
    }

    /// The lines that `result` does not have.
    pub(crate) fn missing_from(&self, result: &Self) -> Vec<String> {
        self.0
            .iter()
            .filter(|(name, value)| result.0.get(*name).unwrap_or(&None) != *value)
            .map(|(name, value)| line(name, value))
            .collect()
    }

    /// The text of a file for `KCONFIG_ALLCONFIG`.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|(name, value)| line(name, value) + "\n").collect()
    }
}

fn line(name: &str, value: &Option<String>) -> String {
    match value {
        Some(value) => format!("CONFIG_{name}={value}"),
        None => format!("# CONFIG_{name} is not set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAGMENT: &str = "# a comment\nCONFIG_IMA=y\nCONFIG_IMA_X509_PATH=\"/etc/x=y\"\n\
                            # CONFIG_EVM is not set\n";

    #[test]
    fn finds_what_does_not_stand_in_the_result() {
        let fragment = Config::parse(FRAGMENT);
        let good = "CONFIG_OTHER=y\nCONFIG_IMA=y\nCONFIG_IMA_X509_PATH=\"/etc/x=y\"\n";
        assert_eq!(fragment.missing_from(&Config::parse(good)), [""; 0]);
        let bad = "CONFIG_IMA=m\nCONFIG_EVM=y\n";
        assert_eq!(
            fragment.missing_from(&Config::parse(bad)),
            ["# CONFIG_EVM is not set", "CONFIG_IMA=y", "CONFIG_IMA_X509_PATH=\"/etc/x=y\""]
        );
    }

    #[test]
    fn the_last_word_counts() {
        let mut config = Config::parse(FRAGMENT);
        config.switch_off("IMA");
        config.forget("IMA_");
        assert_eq!(config.text(), "# CONFIG_EVM is not set\n# CONFIG_IMA is not set\n");
    }
}
