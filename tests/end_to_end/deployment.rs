//! `deploy/k8s` and `deploy/k8s-cell`: every file is what Kubernetes knows, and the parts fit together.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use crate::support::{Folder, Tools, is_installed, root, succeeds};

/// A version that many clusters run, and a newer one.
const VERSIONS: [&str; 2] = ["1.34", "1.36"];

const FOLDERS: [&str; 4] = [
    "deploy/k8s",
    "deploy/k8s/ingress",
    "deploy/k8s/monitoring",
    CELL,
];

/// Has no resources of its own: it changes those of `deploy/k8s`.
const CELL: &str = "deploy/k8s-cell";

/// The files of a folder that Kubernetes reads. (Kustomize alone reads its own.)
fn resources(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .filter(|path| !path.ends_with("kustomization.yaml"))
        .collect();
    files.sort();
    files
}

fn validate(tools: &Tools, files: &[PathBuf]) {
    for version in VERSIONS {
        let mut validate = tools.program("kubernetes-validate");
        validate.args(["--strict", "--quiet", "-k", version]);
        succeeds(validate.args(files));
    }
}

#[test]
fn every_file_is_what_kubernetes_knows() {
    let Some(tools) = Tools::python() else { return };
    for folder in FOLDERS {
        let files = resources(folder);
        assert_eq!(files.is_empty(), folder == CELL, "{folder}");
        if !files.is_empty() {
            validate(&tools, &files);
        }
    }
    // A checker that takes everything proves nothing.
    let folder = Folder::new();
    let text = fs::read_to_string(root().join("deploy/k8s/autoscaling.yaml")).unwrap();
    let wrong = folder.path().join("wrong.yaml");
    fs::write(&wrong, text.replace("maxReplicas", "mostReplicas")).unwrap();
    let mut validate = tools.program("kubernetes-validate");
    let checked = validate.arg("--strict").arg(wrong).output().unwrap();
    assert!(!checked.status.success());
}

/// Kustomize puts the files together, and the result is what Kubernetes knows, too.
#[test]
fn kustomize_puts_the_files_together() {
    let Some(tools) = Tools::python() else { return };
    if !is_installed("kubectl") {
        return;
    }
    let folder = Folder::new();
    for (number, of) in FOLDERS.iter().enumerate() {
        let mut kustomize = Command::new("kubectl");
        let text = succeeds(kustomize.args(["kustomize", of]).current_dir(root()));
        for file in resources(of) {
            // The secrets are an example, which is copied.
            if !file.ends_with("secret.example.yaml") {
                let source = fs::read_to_string(&file).unwrap();
                for kind in source.lines().filter(|line| line.starts_with("kind: ")) {
                    assert!(text.contains(kind), "{}: {kind}", file.display());
                }
            }
        }
        for image in text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("image: "))
        {
            assert!(
                image.contains("@sha256:"),
                "{image} is not named by its digest"
            );
        }
        if *of == CELL {
            check_cell(&text);
        }
        let file = folder.path().join(format!("{number}.yaml"));
        fs::write(&file, text).unwrap();
        validate(&tools, &[file]);
    }
}

/// Everything is in the cell's namespace, and what the copies in a cell must not share is the cell's own.
fn check_cell(text: &str) {
    let namespaces = text
        .lines()
        .filter(|line| line.trim().starts_with("namespace: "));
    let namespaces: BTreeSet<&str> = namespaces.map(str::trim).collect();
    assert_eq!(namespaces, BTreeSet::from(["namespace: flashsale-cell-7"]));
    let lines: BTreeSet<&str> = text.lines().map(str::trim).collect();
    assert!(lines.contains("REDIS_KEY_PREFIX: 'cell7:'"), "{text}");
    let migrate = text
        .split("\n---\n")
        .find(|part| part.contains("kind: Job"));
    let migrate = migrate.unwrap();
    assert!(
        migrate.contains("- name: CELL\n          value: \"7\""),
        "{migrate}"
    );
}

/// Each pod has the service account without a token. Each of its ports is one that a policy opens.
#[test]
fn every_pod_is_as_closed_as_the_others() {
    let mut names = BTreeSet::new();
    let mut policies = String::new();
    for file in resources("deploy/k8s") {
        let text = fs::read_to_string(&file).unwrap();
        if file.ends_with("networkpolicy.yaml") {
            policies = text;
            continue;
        }
        for pod in text
            .split("\n---\n")
            .filter(|part| part.contains("containers:"))
        {
            let name = pod.lines().find_map(|line| line.strip_prefix("  name: "));
            let name = name.unwrap().to_owned();
            for wanted in [
                "serviceAccountName: flashsale\n",
                "automountServiceAccountToken: false\n",
                "runAsNonRoot: true\n",
                "allowPrivilegeEscalation: false\n",
                "readOnlyRootFilesystem: true\n",
                "capabilities: {drop: [ALL]}",
                "limits: {memory: ",
            ] {
                assert!(pod.contains(wanted), "{name}: {wanted}");
            }
            if pod.contains("containerPort") {
                names.insert(name);
            }
        }
    }
    assert_eq!(names.len(), 3);
    for name in names {
        assert!(
            policies.contains(&name),
            "no policy opens the port of {name}"
        );
        let monitor = root().join("deploy/k8s/monitoring/podmonitor.yaml");
        let monitor = fs::read_to_string(monitor).unwrap();
        assert!(monitor.contains(&name), "the PodMonitor leaves out {name}");
    }
}
