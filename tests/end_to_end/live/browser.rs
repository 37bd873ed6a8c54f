//! Chromium, driven through ChromeDriver, with the live page.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use serde_json::{Value, json};
use thirtyfour::{
    By, ChromiumLikeCapabilities as _, DesiredCapabilities, LoggingPrefsLogLevel, WebDriver,
    WebElement,
};

use crate::support::{Client, Tools, eventually, skipped_without};

/// URL of the ChromeDriver that `deploy/local/test.sh` starts, if this machine has one.
const DRIVER: &str = "TEST_WEBDRIVER_URL";

/// What the page reads, and reads again after a 503 (`read.js`), as the browser's messages name it.
const READS: [&str; 4] = [
    "/reservations",
    "/waitlist?",
    "/stock?",
    "/admin/outbox/dead -",
];

pub(super) struct Browser(WebDriver);

impl Browser {
    /// Opens the live page of this API. `None` without Chromium: the test then ends.
    pub(super) async fn open(api: &Client) -> Option<Self> {
        Self::open_at(api, "/").await
    }

    /// Opens the page of this API at this path.
    pub(super) async fn open_at(api: &Client, path: &str) -> Option<Self> {
        let Ok(driver) = std::env::var(DRIVER) else {
            skipped_without("Chromium");
            return None;
        };
        let mut chromium = DesiredCapabilities::chrome();
        let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        let arguments = [
            "--headless",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1400,2000",
        ];
        // Chromium has no sandbox for root.
        for argument in arguments.into_iter().chain(root.then_some("--no-sandbox")) {
            chromium.add_arg(argument).unwrap();
        }
        chromium
            .set_browser_log_level(LoggingPrefsLogLevel::All)
            .unwrap();
        let driver = WebDriver::new(driver, chromium).await.unwrap();
        let browser = Self(driver);
        browser.goto(api, path).await;
        Some(browser)
    }

    async fn goto(&self, api: &Client, path: &str) {
        let url = format!("{}{path}", api.base());
        self.0.goto(url).await.unwrap();
    }

    /// Runs a script in the page. Returns its result.
    pub(super) async fn run(&self, script: &str) -> Value {
        let result = self.0.execute(script, Vec::new()).await.unwrap();
        result.json().clone()
    }

    /// Runs a script whose last argument is called with its result.
    pub(super) async fn run_async(&self, script: &str) -> Value {
        let result = self.0.execute_async(script, Vec::new()).await.unwrap();
        result.json().clone()
    }

    /// Shows the page as a device with a screen of this size does, in light or dark colours.
    pub(super) async fn looks_like(&self, (width, height): (u32, u32), colours: &str) {
        let tools = self.0.cdp();
        for (command, parameters) in [
            (
                "Emulation.setDeviceMetricsOverride",
                json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
            ),
            (
                "Emulation.setEmulatedMedia",
                json!({ "features": [{ "name": "prefers-color-scheme", "value": colours }] }),
            ),
        ] {
            tools.send_raw(command, parameters).await.unwrap();
        }
    }

    pub(super) async fn reload(&self) {
        self.0.refresh().await.unwrap();
    }

    /// Waits until the element exists. Returns it.
    pub(super) async fn find(&self, css: &str) -> WebElement {
        eventually(&format!("{css} on the page"), async || {
            self.0.find(By::Css(css)).await.ok()
        })
        .await
    }

    /// Waits until the element is visible and its text contains these words.
    pub(super) async fn shows(&self, css: &str, words: &str) {
        eventually(&format!("{words:?} in {css}"), async || {
            let element = self.0.find(By::Css(css)).await.ok()?;
            let shown =
                element.is_displayed().await.ok()? && element.text().await.ok()?.contains(words);
            shown.then_some(())
        })
        .await;
    }

    /// Waits until the element is not visible.
    pub(super) async fn hides(&self, css: &str) {
        eventually(&format!("no {css}"), async || {
            match self.0.find(By::Css(css)).await {
                Ok(element) => (!element.is_displayed().await.ok()?).then_some(()),
                Err(_) => Some(()),
            }
        })
        .await;
    }

    /// Clicks once the element can be clicked.
    pub(super) async fn click(&self, css: &str) {
        eventually(&format!("a click on {css}"), async || {
            self.0.find(By::Css(css)).await.ok()?.click().await.ok()
        })
        .await;
    }

    pub(super) async fn fill(&self, css: &str, text: &str) {
        eventually(&format!("{text:?} into {css}"), async || {
            let field = self.0.find(By::Css(css)).await.ok()?;
            field.clear().await.ok()?;
            field.send_keys(text).await.ok()
        })
        .await;
    }

    /// Presses keys on the focused element.
    pub(super) async fn press(&self, keys: &str) {
        let active = self.0.active_element().await.unwrap();
        active.send_keys(keys).await.unwrap();
    }

    /// The id of the focused element.
    pub(super) async fn focused(&self) -> String {
        let active = self.0.active_element().await.unwrap();
        active.attr("id").await.unwrap().unwrap_or_default()
    }

    /// The alert is shown with all its text, in red or amber by its severity, and so is the page's status.
    pub(super) async fn shows_alert(&self, alert: &Value) {
        let css = format!(r#"[data-alert="{}"]"#, alert["code"].as_str().unwrap());
        // (A count in the title may go on.)
        for field in ["meaning", "action"] {
            self.shows(&css, alert[field].as_str().unwrap()).await;
        }
        self.shows(&format!("{css} [data-title]"), "").await;
        let title = self.find(&format!("{css} [data-title]")).await;
        let colour = title.css_value("color").await.unwrap();
        let mut parts = colour
            .split(|character: char| !character.is_ascii_digit())
            .filter_map(|part| part.parse::<u32>().ok());
        let [red, green, blue] = [(); 3].map(|()| parts.next().unwrap());
        // There may be a critical alert beside a warning.
        let status = if alert["severity"] == "critical" {
            assert!(red > 2 * green.max(blue), "{css} is not red: {colour}");
            r#"#health[data-health="critical"]"#
        } else {
            let is_amber = red > green && green > 2 * blue;
            assert!(is_amber, "{css} is not amber: {colour}");
            r#"#health:is([data-health="warning"], [data-health="critical"])"#
        };
        self.find(status).await;
    }

    /// Lets the browser save files in this folder.
    pub(super) async fn saves_files_in(&self, folder: &Path) {
        let parameters = json!({ "behavior": "allow", "downloadPath": folder });
        let tools = self.0.cdp();
        let set = tools.send_raw("Browser.setDownloadBehavior", parameters);
        set.await.unwrap();
    }

    /// Nothing on the page is wider than the screen, and axe finds no fault.
    pub(super) async fn is_accessible(&self, tools: &Tools, state: &str) {
        let wide =
            "const page = document.documentElement; return page.scrollWidth - page.clientWidth";
        assert_eq!(self.run(wide).await, 0, "{state}");
        let axe = tools.packages().join("axe-core/axe.min.js");
        self.run(&std::fs::read_to_string(axe).unwrap()).await;
        let check = "const done = arguments[arguments.length - 1];
            axe.run().then(({ violations, passes }) => done({ violations: violations.map(({ id, nodes }) =>
                [id, nodes.slice(0, 3).map(({ html }) => html)]), passes: passes.length }));";
        let found = self.run_async(check).await;
        assert_eq!(found["violations"], json!([]), "{state}");
        assert!(found["passes"].as_u64() > Some(20), "{found}");
    }

    /// The console must be empty: no errors, no violations of the Content-Security-Policy, no other messages. Closes
    /// the browser.
    pub(super) async fn ends_clean(self) {
        self.ends_with(&[]).await;
    }

    /// The same, except for the browser's own messages about these answers, and about reads that took longer than the API
    /// allows them, which happens on a busy machine. Closes the browser.
    pub(super) async fn ends_with(self, expected: &[&str]) {
        let log = self.0.browser_log().await.unwrap();
        for entry in &log {
            let has = |words: &&str| entry.message.contains(words);
            let is_slow_read = has(&"503 (Service Unavailable)") && READS.iter().any(has);
            assert!(is_slow_read || expected.iter().any(has), "{entry:?}");
        }
        self.0.quit().await.unwrap();
    }
}
