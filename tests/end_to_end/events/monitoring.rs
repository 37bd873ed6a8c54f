//! The alerts and the dashboard use metrics that exist.

use std::{collections::BTreeSet, process::Command};

use super::stage::{Broker, comes_to, sell};
use crate::support::{Peer, System, is_installed, root, succeeds};

fn file(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of our metrics in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| {
            ["flashsale_", "http_", "process_"]
                .iter()
                .any(|of| word.starts_with(of))
        })
        .collect()
}

#[tokio::test]
async fn alerts_and_dashboard_ask_for_metrics_that_the_processes_show() {
    let broker = Broker::shared().await;
    // The real program: a test that runs the API inside has no metrics of a process.
    let system = System::spawn(&[]).await;
    let relay = Peer::relay(&system, &broker.url, &[]).await;
    let expirer = Peer::expirer(&system, &[]).await;
    let product = system.create_product(9).await;
    sell(&system, product, 1).await;
    comes_to(&system, 1, "published_at is not null").await;

    let mut shown = String::new();
    for process in [&*system, &*relay, &expirer] {
        shown += &process.get("/metrics").await.text;
    }
    // Lines of HELP and TYPE are not series.
    let series: String = shown
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| [line, "\n"])
        .collect();
    let series = metrics(&series);
    for path in [
        "deploy/prometheus/alerts.yml",
        "deploy/grafana/flashsale.json",
    ] {
        let text = file(path);
        let used = metrics(&text);
        assert!(used.len() > 5, "{path} uses only {used:?}");
        let unknown: Vec<_> = used.difference(&series).collect();
        assert!(unknown.is_empty(), "{path} uses {unknown:?}");
    }
}

#[test]
fn each_alert_leads_to_its_part_of_the_runbook() {
    let runbook = file("RUNBOOK.md");
    let headings: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let alerts = file("deploy/prometheus/alerts.yml");
    let of = |field: &str| -> Vec<String> {
        let lines = alerts
            .lines()
            .map(|line| line.trim().trim_start_matches("- "));
        let values = lines.filter_map(|line| line.strip_prefix(field));
        values.map(|value| value.trim().to_owned()).collect()
    };
    let names = of("alert:");
    let runbooks = of("runbook_url: https://runbooks.example.com/flashsale/RUNBOOK.md#");
    assert!(names.len() > 5);
    assert_eq!(names.len(), runbooks.len());
    // People do or notice these: no alert leads to them.
    let acts = [
        "a-line-does-not-move",
        "postgresql-has-failed-over",
        "the-database-was-restored-to-an-earlier-moment",
        "a-move-of-a-product-was-interrupted",
    ];
    for heading in headings
        .iter()
        .filter(|heading| !acts.contains(&&***heading))
    {
        assert!(runbooks.contains(heading), "no alert leads to {heading}");
    }
    for runbook in &runbooks {
        assert!(
            headings.contains(runbook),
            "{runbook} is not in the runbook"
        );
    }
}

/// Each alert fires in one of the tests of the rules, and each test passes.
#[test]
fn the_alerts_fire_when_they_should() {
    let tests = file("deploy/prometheus/alerts.test.yml");
    let alerts = file("deploy/prometheus/alerts.yml");
    let lines = alerts.lines().map(str::trim);
    for name in lines.filter_map(|line| line.strip_prefix("- alert: ")) {
        let cases: Vec<&str> = tests
            .split("- eval_time: ")
            .filter(|case| case.contains(&format!("alertname: {name}\n")))
            .collect();
        let fires = cases.iter().any(|case| case.contains("exp_labels"));
        assert!(fires, "{name} has no test in which it fires");
    }
    if !is_installed("promtool") {
        return;
    }
    let folder = root().join("deploy/prometheus");
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts.test.yml"],
    ] {
        succeeds(
            Command::new("promtool")
                .args(arguments)
                .current_dir(&folder),
        );
    }
}
