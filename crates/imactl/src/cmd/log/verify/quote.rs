//! A quote: options and output.

use std::path::PathBuf;

use clap::Args;
use ima::attest::quote::{AttestationKey, Checked, QuoteFault, SignedQuote};
use ima_format::hex;
use ima_format::measure::PcrValues;

use crate::error::{Context, Result};
use crate::output::{Level, Output, Style};
use crate::Outcome;

/// A quote
#[derive(Debug, Args)]
#[command(next_help_heading = "Quote")]
pub(crate) struct QuoteArgs {
    /// A TPM's quote over the PCR values (tpm2_quote --message)
    #[arg(long, value_name = "FILE", requires_all = ["signature", "ak"])]
    quote: Option<PathBuf>,
    /// The quote's signature (tpm2_quote --signature; RSASSA, RSAPSS or ECDSA)
    #[arg(long, value_name = "FILE", requires = "quote")]
    signature: Option<PathBuf>,
    /// The attestation key that signed it: PEM, DER or TPM2B_PUBLIC (tpm2_createak --public)
    #[arg(long, value_name = "FILE", requires = "quote")]
    ak: Option<PathBuf>,
    /// The nonce that the quote was asked with (tpm2_quote --qualification), in hexadecimal
    /// [default: the quote must have none]
    #[arg(long, value_name = "HEX", requires = "quote", value_parser = nonce)]
    nonce: Option<Nonce>,
}

#[derive(Debug, Clone)]
struct Nonce(Vec<u8>);

fn nonce(text: &str) -> Result<Nonce, String> {
    hex::decode(text.as_bytes())
        .map(Nonce)
        .map_err(|_| "expected hexadecimal digits in pairs".into())
}

impl QuoteArgs {
    /// Verifies the quote, if there is one, and returns the values that it proves.
    pub(in crate::cmd::log) fn check(
        &self,
        given: PcrValues,
        output: &mut Output,
    ) -> Result<(PcrValues, Outcome)> {
        let Some(checked) = self.verify(&given)? else { return Ok((given, Outcome::Good)) };
        print(&checked, output)?;
        let outcome = match checked.faults.is_empty() {
            true => Outcome::Good,
            false => Outcome::Finding,
        };
        Ok((checked.values, outcome))
    }

    /// Verifies the quote, if there is one.
    pub(crate) fn verify(&self, given: &PcrValues) -> Result<Option<Checked>> {
        let (Some(quote), Some(signature), Some(ak)) = (&self.quote, &self.signature, &self.ak)
        else {
            return Ok(None);
        };
        let key = AttestationKey::read(ak).context("--ak")?;
        let nonce = self.nonce.as_ref().map_or(&[][..], |nonce| &nonce.0);
        Ok(Some(SignedQuote::read(quote, signature)?.check(&key, nonce, given)?))
    }
}

fn print(checked: &Checked, output: &mut Output) -> std::io::Result<()> {
    let Checked { algorithm, resets, restarts, clock, .. } = *checked;
    output
        .object("quote")
        .field("good", checked.faults.is_empty())
        .field("faults", checked.faults.iter().map(QuoteFault::word).collect::<Vec<_>>())
        .field("hash", algorithm.name())
        .field("resets", resets)
        .field("restarts", restarts)
        .field("clock", clock)
        .end()?;
    let head = output.paint(Style::Bold, "quote");
    for fault in &checked.faults {
        let text = output.paint(Style::Bad, &fault.to_string());
        output.line(Level::Quiet, format_args!("{head}: {text}"))?;
    }
    if !checked.faults.is_empty() {
        return Ok(());
    }
    let good = output.paint(Style::Good, "signed by the key over the given values");
    output.line(Level::Normal, format_args!("{head}: {good}"))
}
