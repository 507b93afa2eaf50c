//! Certificates are offered to the keyrings of each kernel; [`ima::key::acceptance`] must predict the
//! results.

mod certificate;
mod generate;

use anyhow::{bail, ensure, Context, Result};
use generate::{Case, World};
use ima::key::acceptance::{Keyring, Keyrings, Refusal, Rules};
use ima_format::kernel_config::KernelConfig;
use lab::image::Tree;
use lab::kernel::Kernel;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Guest, Machine};
use lab::on_each_kernel;
use lab::protocol::{Action, Bytes, Errno, Output};
use lab::random::{cases, seed};
use lab::scenario::DEFAULT_POLICY;

const AT_A_TIME: usize = 64;

/// The space that the kernels reserve for certificates, and the size of the largest one here.
const AREA: usize = 8192;
const LARGEST: usize = 1024;

/// The keyrings that programs may add keys to. The secondary one is last, because a key that it accepts
/// can sign certificates that are offered later.
const OFFERED: [Keyring; 4] =
    [Keyring::Ima, Keyring::Evm, Keyring::ImaBlacklist, Keyring::SecondaryTrusted];

fn rules(kernel: &Kernel) -> Result<Rules> {
    let text = std::fs::read_to_string(kernel.directory().join("config"))?;
    let config = KernelConfig::parse(&text).context("no configuration")?;
    let version = config.version().context("no version in the configuration")?;
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

/// The difference between the prediction and the kernel's answer.
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

/// The kernel's result for each of its compiled-in certificates, in their order.
fn built_in(guest: &Guest) -> Vec<Option<Errno>> {
    let messages = guest.boot_messages().iter().map(|message| message.text.as_str());
    messages
        .skip_while(|text| !text.contains("Loading compiled-in X.509 certificates"))
        .take_while(|text| !text.contains("Loading compiled-in module X.509 certificates"))
        .filter_map(|text| {
            let problem = text.strip_prefix("Problem loading in-kernel X.509 certificate (-");
            let errno = problem.and_then(|rest| rest.strip_suffix(')')?.parse().ok());
            match errno {
                Some(errno) => Some(Some(Errno(errno))),
                None => text.starts_with("Loaded X.509 cert").then_some(None),
            }
        })
        .collect()
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
    fn certificates_are_built_in_as_predicted(kernel) {
        let mut world = World::new(seed(14));
        let keyrings = Keyrings::new(rules(kernel)?);
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let image = Tree::small_initramfs(&store, DEFAULT_POLICY)?.initramfs()?;
        // the kernel cannot find the certificate after one with a wrong length
        let is_whole = |case: &Case| {
            let length = |high: u8, low: u8| 4 + usize::from(high) * 0x100 + usize::from(low);
            matches!(case.der[..], [0x30, 0x82, high, low, ..] if length(high, low) == case.der.len())
        };
        let cases: Vec<_> = world.cases(0).into_iter().filter(is_whole).collect();
        let (mut wrong, mut refused) = (Vec::new(), 0);
        for batch in cases.chunks(AREA / LARGEST) {
            let mut machine = Machine::new(kernel).append("loglevel=4").initramfs(&image);
            for case in batch {
                machine = machine.trusting(&case.der);
            }
            let guest = machine.boot()?;
            let answers = built_in(&guest);
            let ours = answers.len().checked_sub(batch.len()).context("answers are missing")?;
            for (case, answer) in batch.iter().zip(&answers[ours..]) {
                let predicted = keyrings.accept(Keyring::BuiltinTrusted, &case.der);
                wrong.extend(difference(case, &predicted, *answer));
                refused += usize::from(answer.is_some());
            }
        }
        println!("{} certificates, {refused} refused", cases.len());
        ensure!(refused > 10 && refused < cases.len(), "{refused} refused");
        ensure!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    }
}
