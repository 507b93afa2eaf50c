//! A pseudoterminal for a program under test.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A program that runs on its own terminal.
pub struct OnTerminal {
    pub child: Child,
    master: File,
    slave: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl OnTerminal {
    /// Runs a command with the terminal as its controlling terminal.
    pub fn run(command: &Command) -> Self {
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize { ws_row: 24, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
        let none = std::ptr::null_mut();
        // SAFETY: both descriptors have room, and the size is a winsize
        let opened =
            unsafe { libc::openpty(&mut master, &mut slave, none, std::ptr::null(), &size) };
        assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: openpty has just opened them, and no one else owns them
        let (master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
        for file in [&master, &slave] {
            // SAFETY: the descriptor is open; the program under test must not inherit it
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        let mut setsid = Command::new("setsid");
        setsid.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        setsid.env_remove("IMACTL_KEYS").env_remove("NO_COLOR");
        for end in [Command::stdin, Command::stdout, Command::stderr] {
            end(&mut setsid, slave.try_clone().unwrap());
        }
        super::with_default_signals(&mut setsid);
        let child = setsid.spawn().expect("setsid");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, seen) = (master.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length) = reader.read(&mut chunk) {
                seen.lock().unwrap().extend_from_slice(&chunk[..length]);
            }
        });
        Self { child, master, slave, shown }
    }

    /// The output so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until the output contains a text.
    #[track_caller]
    pub fn waits_for(&self, text: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.shown().contains(text) {
            assert!(Instant::now() < end, "{text:?} in {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the echo is on or off.
    #[track_caller]
    pub fn waits_for_echo(&self, on: bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.echoes() != on {
            assert!(Instant::now() < end, "echo is still {}", !on);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn echoes(&self) -> bool {
        // SAFETY: all zeros is a valid termios
        let mut settings: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open, and the termios is writable
        assert_eq!(unsafe { libc::tcgetattr(self.slave.as_raw_fd(), &mut settings) }, 0);
        settings.c_lflag & libc::ECHO != 0
    }

    /// Types something.
    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the end of the program.
    pub fn ends(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        // the last output is read after a moment
        std::thread::sleep(Duration::from_millis(50));
        status
    }
}
