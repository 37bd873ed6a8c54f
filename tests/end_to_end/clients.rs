//! What shops make of the documents: clients that code generators write, used against the running service, and the
//! verdict of linters.

use std::{fs, path::Path, process::Command};

use crate::support::{Client, Folder, System, Tools, is_installed, root, succeeds};

const OPENAPI: &str = "docs/openapi.json";

/// Runs a client in this folder, with the address of a service and a product of two units.
async fn runs(client: &mut Command, folder: &Folder) {
    let system = System::start().await;
    let product = system.create_product(2).await;
    client.args([system.base(), &product.to_string()]);
    succeeds(
        client
            .current_dir(folder.path())
            .env("PYTHONPATH", folder.path()),
    );
    // The connection of before may have been idle for too long.
    let system = Client::new(system.base().to_owned(), None);
    assert_eq!(system.product(product).await["held"], 2);
    system.assert_clean_audit().await;
}

fn client(name: &str) -> std::path::PathBuf {
    root()
        .join("tests/clients")
        .join(name)
        .canonicalize()
        .unwrap()
}

#[tokio::test]
async fn the_client_of_openapi_python_client_works() {
    let Some(tools) = Tools::python() else { return };
    let folder = Folder::new();
    let package = folder.path().join("flashsale");
    let mut generator = tools.program("openapi-python-client");
    generator.args(["generate", "--meta", "none", "--fail-on-warning"]);
    generator.arg("--path").arg(root().join(OPENAPI));
    succeeds(generator.arg("--output-path").arg(package));
    let mut python = tools.program("python");
    runs(python.arg(client("python_client.py")), &folder).await;
}

#[tokio::test]
async fn the_client_of_openapi_generator_works() {
    let Some(tools) = Tools::python() else { return };
    if !is_installed("java") {
        return;
    }
    let folder = Folder::new();
    let mut generator = tools.program("openapi-generator-cli");
    generator.args(["generate", "-g", "python", "--package-name", "flashsale"]);
    generator.arg("-i").arg(root().join(OPENAPI));
    succeeds(generator.arg("-o").arg(folder.path()));
    let mut python = tools.program("python");
    runs(python.arg(client("generator_client.py")), &folder).await;
}

#[tokio::test]
async fn the_types_of_openapi_typescript_work() {
    let Some(tools) = Tools::node() else { return };
    let folder = Folder::new();
    let types = folder.path().join("flashsale.d.ts");
    let mut generator = tools.package_program("openapi-typescript");
    generator.arg(root().join(OPENAPI).canonicalize().unwrap());
    succeeds(generator.arg("-o").arg(types).current_dir(folder.path()));
    let source = folder.path().join("client.ts");
    fs::copy(client("client.ts"), &source).unwrap();
    tools.compile(folder.path(), &[source]);
    runs(Command::new("node").arg("client.js"), &folder).await;
}

#[test]
fn the_linters_find_no_error() {
    let Some(tools) = Tools::node() else { return };
    let mut spectral = tools.package_program("spectral");
    spectral.args(["lint", "--fail-severity", "error", "--ruleset"]);
    spectral.arg(client("spectral.yaml"));
    succeeds(
        spectral
            .args([OPENAPI, "docs/asyncapi.json"])
            .current_dir(root()),
    );
    let mut redocly = tools.package_program("redocly");
    // Nothing is sent to its makers, and no newer version is looked for.
    redocly.envs([
        ("REDOCLY_TELEMETRY", "off"),
        ("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true"),
    ]);
    succeeds(redocly.args(["lint", OPENAPI]).current_dir(root()));
}

/// A linter that finds nothing in any document proves nothing.
#[test]
fn the_linters_find_an_error() {
    let Some(tools) = Tools::node() else { return };
    let folder = Folder::new();
    let broken = fs::read_to_string(root().join(OPENAPI)).unwrap();
    let broken = broken.replace(
        "#/components/schemas/Reservation\"",
        "#/components/schemas/Lost\"",
    );
    fs::write(folder.path().join("openapi.json"), broken).unwrap();
    let finds = |command: &mut Command, at: &Path| {
        let found = command.current_dir(at).output().unwrap();
        assert!(!found.status.success(), "{command:?}");
    };
    let mut spectral = tools.package_program("spectral");
    spectral.args(["lint", "openapi.json", "--ruleset"]);
    finds(spectral.arg(client("spectral.yaml")), folder.path());
    let mut redocly = tools.package_program("redocly");
    redocly.env("REDOCLY_TELEMETRY", "off");
    finds(redocly.args(["lint", "openapi.json"]), folder.path());
}
