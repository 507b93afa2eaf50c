//! The page around the parts: one file without external resources. Its Content Security Policy (level 2)
//! allows its style and its script by their digests, and nothing else.

use ima::digest::{DigestError, Hasher};
use ima::HashAlgorithm;
use ima_format::base64;

use super::html::{number, text, Answered};
use super::list::List;
use super::root::Root;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page on a root, a list, or both.
pub(super) fn page(root: Option<&Root>, list: Option<&List>) -> Result<String, DigestError> {
    let mut page = head()?;
    let answers = root.map(Root::answer).into_iter().chain(list.map(List::answer));
    page += "<div class=\"answers\">\n";
    for Answered { question, tone, word, said } in answers {
        let (class, said) = (tone.class(), text(said));
        page += &format!(
            "<section class=\"answer {class}\"><h2>{question}</h2><p class=\"word\">{word}</p><p>{said}</p></section>\n"
        );
    }
    page += "</div>\n<dl class=\"figures\">\n";
    let figures = root.map(Root::figures).into_iter().chain(list.map(List::figures)).flatten();
    for (value, label) in figures {
        page += &format!("<div><dt>{label}</dt><dd>{}</dd></div>\n", number(value));
    }
    page += "</dl>\n<nav aria-label=\"Sections\"><ul>\n";
    if root.is_some() {
        page += "<li><a href=\"#coverage\">Coverage of the root</a></li>\n";
    }
    if list.is_some() {
        page += "<li><a href=\"#agreement\">List and PCRs</a></li>\n\
                 <li><a href=\"#findings\">Findings</a></li>\n\
                 <li><a href=\"#timeline\">Timeline</a></li>\n";
    }
    page += "</ul></nav>\n";
    if let Some(root) = root {
        root.write(&mut page);
    }
    if let Some(list) = list {
        list.write(&mut page);
    }
    let version = env!("CARGO_PKG_VERSION");
    page += &format!(
        "<footer><p>Made by imactl {version}. Names are shown with \\xNN for bytes that could mislead.</p></footer>\n\
         </main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    );
    Ok(page)
}

fn head() -> Result<String, DigestError> {
    let (style, script) = (source(STYLE)?, source(SCRIPT)?);
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src {style}; \
         script-src {script}; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Integrity report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header><h1>Integrity report</h1></header>\n"
    ))
}

/// The source expression of the Content Security Policy for an element with this content.
fn source(content: &str) -> Result<String, DigestError> {
    let digest = Hasher::new(HashAlgorithm::Sha256)?.digest(content.as_bytes())?;
    Ok(format!("'sha256-{}'", base64::encode(digest.as_bytes())))
}
