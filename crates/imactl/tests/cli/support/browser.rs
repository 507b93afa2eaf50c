//! Headless Chromium, controlled through the pipe of its DevTools protocol.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{json, Value};

use super::tool;

/// A browser with one page.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    number: u64,
    /// Events that were not yet processed.
    events: VecDeque<Value>,
    _profile: tempfile::TempDir,
}

/// Whether the page's own scripts run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scripts {
    Run,
    Off,
}

impl Browser {
    /// `None`, with a message, if there is no Chromium.
    pub fn new() -> Option<Self> {
        tool("chromium")?;
        let profile = super::directory();
        // it reads from descriptor 3 and writes to 4
        let script = "exec chromium --headless --no-sandbox --disable-gpu --remote-debugging-pipe \
                      --user-data-dir=\"$0\" 3<&0 4>&1 >/dev/null 2>&1 </dev/null";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).arg(profile.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut browser = Self {
            child,
            input,
            output: BufReader::new(output),
            session: None,
            number: 0,
            events: VecDeque::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Network", "Log", "Runtime"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method of the protocol.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let read = self.read();
            if read["id"] == self.number {
                assert!(read["error"].is_null(), "{method}: {read}");
                return read["result"].clone();
            }
            self.events.push_back(read);
        }
    }

    fn read(&mut self) -> Value {
        let mut message = Vec::new();
        self.output.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "Chromium has ended");
        serde_json::from_slice(&message).unwrap()
    }

    /// Loads a file; returns the requested addresses, and the logged errors.
    pub fn load(&mut self, page: &Path, scripts: Scripts) -> (Vec<String>, Vec<Value>) {
        self.events.clear();
        self.call(
            "Emulation.setScriptExecutionDisabled",
            json!({"value": scripts == Scripts::Off}),
        );
        self.call("Page.navigate", json!({"url": format!("file://{}", page.display())}));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let read = self.read();
            self.events.push_back(read);
        }
        // all errors have been logged
        self.call("Runtime.evaluate", json!({"expression": "1"}));
        let of = |method: &'static str| {
            self.events.iter().filter(move |event| event["method"] == method)
        };
        let requests = of("Network.requestWillBeSent")
            .map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned());
        (requests.collect(), of("Log.entryAdded").cloned().collect())
    }

    /// The value of an expression evaluated in the page, outside of its scripts.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true});
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Uses the colours for `light` or `dark`.
    pub fn prefer(&mut self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // it may have exited already
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
