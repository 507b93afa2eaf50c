//! Certificates offered to the keyrings of each kernel, and to
//! [`ima::key::acceptance`], which says beforehand what becomes of them.

mod certificate;
mod generate;

use anyhow::{bail, ensure, Context, Result};
use generate::{Case, World};
use ima::key::acceptance::{Keyring, Keyrings, Refusal, Rules};
use lab::image::Tree;
use lab::kernel::Kernel;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Guest, Machine};
use lab::on_each_kernel;
use lab::protocol::{Action, Bytes, Errno, Output};
use lab::random::{cases, seed};
use lab::scenario::DEFAULT_POLICY;

const AT_A_TIME: usize = 64;

/// The keyrings that programs may add keys to. The secondary one is the last: what it accepts
/// vouches for what comes after.
const OFFERED: [Keyring; 4] =
    [Keyring::Ima, Keyring::Evm, Keyring::ImaBlacklist, Keyring::SecondaryTrusted];

fn rules(kernel: &Kernel) -> Result<Rules> {
    let config = std::fs::read_to_string(kernel.directory().join("config"))?;
    let line = config.lines().find_map(|line| line.strip_prefix("# Linux/x86 "));
    let version = line.context("no version in the configuration")?.parse();
    let version = version.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(Rules::new(version).configured(&config))
}

fn offer(guest: &mut Guest, offers: &[(Keyring, &[u8])]) -> Result<Vec<Option<Errno>>> {
    let mut answers = Vec::new();
    for batch in offers.chunks(AT_A_TIME) {
        let named =
            batch.iter().map(|(keyring, der)| (keyring.name().to_owned(), Bytes(der.to_vec())));
        let observed = guest.request(Action::AddKeys { offers: named.collect() })?;
        match &observed.outcome {
            Ok(Output::Taken(taken)) => answers.extend(taken.iter().copied()),
            _ => bail!("{observed}"),
        }
    }
    Ok(answers)
}

/// What differs between the prediction and the kernel's answer.
fn difference(
    case: &Case,
    predicted: &Result<(), Refusal>,
    answer: Option<Errno>,
) -> Option<String> {
    let agree = match (predicted, answer) {
        (Ok(()), None) => true,
        (Err(refusal), Some(errno)) => !case.is_single || refusal.errors().contains(&errno.0),
        _ => false,
    };
    (!agree).then(|| format!("{}: {predicted:?}, the kernel: {answer:?}", case.name))
}

fn machine(kernel: &Kernel, world: &World) -> Result<(Guest, Keyrings)> {
    let store = KeyStore::create(Algorithm::Rsa2048)?;
    let image = Tree::small_initramfs(&store, DEFAULT_POLICY)?.initramfs()?;
    let mut machine = Machine::new(kernel).append("loglevel=4").initramfs(&image);
    let mut keyrings = Keyrings::new(rules(kernel)?);
    for (_, der) in &world.built_in {
        machine = machine.trusting(der);
        keyrings.add(Keyring::BuiltinTrusted, der)?;
    }
    Ok((machine.boot()?, keyrings))
}

on_each_kernel! {
    fn keyrings_accept_what_is_predicted(kernel) {
        let mut world = World::new(seed(13));
        let (mut guest, mut keyrings) = machine(kernel, &world)?;
        let secondary = world.secondary.1.clone();
        let answers = offer(&mut guest, &[(Keyring::SecondaryTrusted, &secondary)])?;
        ensure!(answers == [None], "{answers:?}");
        keyrings.add(Keyring::SecondaryTrusted, &secondary)?;

        let cases = world.cases(cases(300));
        let mut wrong = Vec::new();
        let (mut accepted, mut refused) = (0, 0);
        for keyring in OFFERED {
            let offers: Vec<_> = cases.iter().map(|case| (keyring, &case.der[..])).collect();
            for (case, answer) in cases.iter().zip(offer(&mut guest, &offers)?) {
                let predicted = keyrings.add(keyring, &case.der);
                let found = difference(case, &predicted, answer);
                wrong.extend(found.map(|found| format!("{keyring}: {found}")));
                *(if answer.is_none() { &mut accepted } else { &mut refused }) += 1;
            }
        }
        println!("{} certificates, {accepted} accepted, {refused} refused", cases.len());
        ensure!(accepted > 100 && refused > 100, "{accepted} accepted, {refused} refused");
        ensure!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    }
}
