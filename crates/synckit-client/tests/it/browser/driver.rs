//! A Chromium of one test, driven by WebDriver (W3C). Written here because the clients of that protocol for Rust rest on a
//! crate whose licence this project does not take.

use std::{
    io::{BufRead, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The key of an element in an answer.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// How long the driver looks for an element, in milliseconds.
const PATIENCE_MS: u32 = 60_000;

/// How the browser is set.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    pub(super) is_dark: bool,
    pub(super) is_phone: bool,
    pub(super) has_no_scripts: bool,
}

/// A browser, which ends with the test.
pub(super) struct Browser {
    http: reqwest::Client,
    session: String,
    look: Look,
    driver: Child,
    _profile: TempDir,
}

/// A driver, what it prints, and its port; `None` if it ended at once.
fn drive() -> Option<(Child, BufReader<ChildStdout>, String)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver: `cargo xtask test` installs it");
    let mut output = BufReader::new(driver.stdout.take().unwrap());
    if let Some(port) = port_of(&mut output) {
        return Some((driver, output, port));
    }
    driver.wait().unwrap();
    None
}

/// The port that a driver takes; `None` if it ends before it has one.
fn port_of(output: &mut impl BufRead) -> Option<String> {
    let mut lines = output.lines().map(Result::unwrap);
    lines.find_map(|line| {
        let (_, port) = line.trim_end().split_once("successfully on port ")?;
        Some(port.trim_end_matches('.').to_owned())
    })
}

impl Browser {
    pub(super) async fn start(look: Look) -> Self {
        // A driver takes a free port in two steps, and ends if another took it in between.
        let (driver, mut output, port) = (0..3).find_map(|_| drive()).expect("a driver that starts");
        // What it prints later is read, so that it never waits for a reader.
        thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let profile = tempfile::tempdir().unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let base = format!("http://127.0.0.1:{port}/session");
        let answer = call(&http, &base, Some(&capabilities(look, profile.path()))).await;
        let session = format!("{base}/{}", answer["sessionId"].as_str().unwrap());
        Self {
            http,
            session,
            look,
            driver,
            _profile: profile,
        }
    }

    async fn ask(&self, command: &str, body: &Value) -> Value {
        call(&self.http, &format!("{}/{command}", self.session), Some(body)).await
    }

    pub(super) async fn open(&self, url: &str) {
        self.ask("url", &json!({ "url": url })).await;
    }

    /// An element, once the page has it.
    async fn find(&self, xpath: &str) -> String {
        let found = self.ask("element", &json!({ "using": "xpath", "value": xpath })).await;
        found[ELEMENT]
            .as_str()
            .unwrap_or_else(|| panic!("no {xpath}: {found}"))
            .to_owned()
    }

    /// Waits for an element, and returns the text that a person sees of it.
    pub(super) async fn text(&self, xpath: &str) -> String {
        let element = self.find(xpath).await;
        let answer = call(&self.http, &format!("{}/element/{element}/text", self.session), None).await;
        answer.as_str().unwrap().to_owned()
    }

    pub(super) async fn click(&self, xpath: &str) {
        let element = self.find(xpath).await;
        let answer = self.ask(&format!("element/{element}/click"), &json!({})).await;
        assert!(answer.is_null(), "{xpath}: {answer}");
    }

    pub(super) async fn write(&self, xpath: &str, text: &str) {
        let element = self.find(xpath).await;
        let answer = self
            .ask(&format!("element/{element}/value"), &json!({ "text": text }))
            .await;
        assert!(answer.is_null(), "{xpath}: {answer}");
    }

    /// Runs a function in the page, and returns what it returns, also later.
    pub(super) async fn run(&self, script: &str, arguments: &[Value]) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; (async () => {{ {script} }})().then(done, (e) => done(`failed: ${{e}}`));"
        );
        self.ask("execute/async", &json!({ "script": script, "args": arguments }))
            .await
    }

    /// What the browser complained about: refused by a policy, or a script that failed.
    pub(super) async fn complaints(&self) -> Vec<String> {
        let entries = self.ask("se/log", &json!({ "type": "browser" })).await;
        let entries = entries.as_array().unwrap().iter();
        entries
            .filter(|entry| entry["source"] != "network")
            .map(|entry| entry["message"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What keeps people from using the page: rules of WCAG 2.2, levels A and AA, and good practice, with the elements that
    /// break them.
    pub(super) async fn barriers(&self) -> Vec<String> {
        let axe =
            std::env::var_os("SYNCKIT_TEST_AXE").expect("run the tests through `cargo xtask test`, which installs axe");
        let axe = std::fs::read_to_string(axe).unwrap();
        let script = "
            // Axe would judge colours that a transition has not brought to their end.
            for (const animation of document.getAnimations()) {
                if (animation.effect.getComputedTiming().endTime !== Infinity) animation.finish();
            }
            const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
            const { violations } = await axe.run(document, { runOnly: tags, resultTypes: ['violations'] });
            return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`));
        ";
        let found = self.run(&format!("{axe};{script}"), &[]).await;
        let found = found.as_array().unwrap_or_else(|| panic!("{found}")).iter();
        found.map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    /// Judges the page as it is now, by axe-core; and takes a picture of it, into the folder that `SYNCKIT_SCREENSHOTS` names.
    pub(super) async fn seen(&self, name: &str) {
        // Without scripts nothing can look into a page.
        if !self.look.has_no_scripts {
            let found = self.barriers().await;
            assert!(found.is_empty(), "{name}: {found:#?}");
        }
        let Some(folder) = std::env::var_os("SYNCKIT_SCREENSHOTS") else {
            return;
        };
        let picture = call(&self.http, &format!("{}/screenshot", self.session), None).await;
        let bytes = STANDARD.decode(picture.as_str().unwrap()).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
    }
}

impl Drop for Browser {
    /// Ends the browser, then its driver, also when a test fails.
    fn drop(&mut self) {
        let address = self
            .session
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'));
        if let Some((host, path)) = address
            && let Ok(mut connection) = TcpStream::connect(host)
        {
            let request = format!("DELETE /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let _ = connection.write_all(request.as_bytes());
            // Once the session has ended, it answers, and may keep the connection.
            let _ = connection.read(&mut [0; 1024]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn capabilities(look: Look, profile: &Path) -> Value {
    let mut arguments = vec![
        "--headless=new".to_owned(),
        // Root has no sandbox.
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-quic".to_owned(),
        "--no-first-run".to_owned(),
        // A page that moves has other colours meanwhile.
        "--force-prefers-reduced-motion".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        "--window-size=1280,900".to_owned(),
        format!("--user-data-dir={}", profile.display()),
    ];
    if look.is_dark {
        arguments.push("--force-dark-mode".to_owned());
        arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
    }
    let scripts = if look.has_no_scripts { 2 } else { 1 };
    let mut options = json!({
        "args": arguments,
        "prefs": { "profile.managed_default_content_settings.javascript": scripts },
    });
    if look.is_phone {
        let metrics = json!({ "width": 390, "height": 844, "pixelRatio": 1.0 });
        options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
    }
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "timeouts": { "implicit": PATIENCE_MS, "script": PATIENCE_MS, "pageLoad": PATIENCE_MS },
        "goog:loggingPrefs": { "browser": "ALL" },
        "goog:chromeOptions": options,
    } } })
}

async fn call(http: &reqwest::Client, url: &str, body: Option<&Value>) -> Value {
    let request = match body {
        Some(body) => http
            .post(url)
            .header("content-type", "application/json")
            .body(body.to_string()),
        None => http.get(url),
    };
    let text = request.send().await.unwrap().text().await.unwrap();
    let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{url}: {text}"));
    answer["value"].take()
}
