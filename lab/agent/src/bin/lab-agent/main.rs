//! The lab's agent: `/init` of an initramfs, init of a real root, or a service. It performs
//! the requests that come over the virtio port, one after the other, and powers off when
//! the lab goes away.

mod action;
mod credentials;
mod hearing;
mod machine;

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};

use lab_agent::{Action, Hello, Message, Output, Reply, Request, PORT};

use hearing::Hearing;

fn main() {
    let pid = std::process::id();
    if let Err(error) = serve(pid) {
        eprintln!("lab-agent: {error}");
    }
    if pid == 1 {
        machine::power_off();
    }
}

fn serve(pid: u32) -> io::Result<()> {
    if pid == 1 {
        machine::mount_kernel_file_systems()?;
    }
    let mut hearing = Hearing::open()?;
    hearing.announce();
    let port = open_port()?;
    let mut answers = port.try_clone()?;
    let mut send = |message: &Message| -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        answers.write_all(&line)
    };
    send(&Message::Hello(Hello { pid, heard: hearing.since_boot()? }))?;

    for line in BufReader::new(port).lines() {
        let request: Request = serde_json::from_str(&line?)?;
        hearing.note(&format!("{}: {:?}", request.id, request.action));
        let outcome = match &request.action {
            Action::PowerOff => {
                machine::power_off();
                return Ok(());
            }
            action => action::perform(action, request.credentials.as_ref()),
        };
        send(&Message::Reply(Reply { id: request.id, outcome, heard: hearing.since_last()? }))?;
    }
    Ok(())
}

/// Opens the virtio port by its name; at power-on it may take a moment to be there.
fn open_port() -> io::Result<File> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        for entry in std::fs::read_dir("/sys/class/virtio-ports")?.flatten() {
            let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim_end() == PORT {
                let device = std::path::Path::new("/dev").join(entry.file_name());
                return OpenOptions::new().read(true).write(true).open(device);
            }
        }
        if std::time::Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no virtio port lab.agent"));
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What an action came to.
type Outcome = Result<Output, lab_agent::Failure>;
