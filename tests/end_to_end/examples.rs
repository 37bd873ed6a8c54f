//! The programs in `examples/`: shops' backends. (Consumers are tested beside the events.)
//!
//! Each shop must do the same in each story, whatever its language.

use std::{fs, path::PathBuf, process::Command};

use serde_json::json;

use crate::support::{
    Client, Database, Folder, Program, Proxy, System, Tools, Traffic, eventually, id, is_installed,
    root,
};

/// A shop's backend in one language.
struct Shop {
    program: PathBuf,
    script: Option<PathBuf>,
    _folder: Folder,
}

impl Shop {
    /// Every shop that this machine can run.
    fn all() -> Vec<Self> {
        [Self::python(), Self::typescript(), Some(Self::rust())]
            .into_iter()
            .flatten()
            .collect()
    }

    fn python() -> Option<Self> {
        is_installed("python3").then(|| Self {
            program: "python3".into(),
            script: Some(root().join("examples/shop.py")),
            _folder: Folder::new(),
        })
    }

    fn typescript() -> Option<Self> {
        let tools = Tools::node()?;
        let folder = Folder::new();
        let source = folder.path().join("shop.ts");
        fs::copy(root().join("examples/shop.ts"), &source).unwrap();
        tools.compile(folder.path(), &[source]);
        Some(Self {
            program: "node".into(),
            script: Some(folder.path().join("shop.js")),
            _folder: folder,
        })
    }

    fn rust() -> Self {
        let mut program = std::env::current_exe().unwrap();
        program.pop();
        program.pop();
        Self {
            program: program.join("examples/shop"),
            script: None,
            _folder: Folder::new(),
        }
    }

    /// Begins an order of this user.
    fn orders(&self, address: &str, product: i64, user: i64) -> Program {
        let mut command = Command::new(&self.program);
        command.args(&self.script);
        command.args([product.to_string(), user.to_string()]);
        command.env("FLASHSALE_URL", format!("http://{address}"));
        command.env_remove("FLASHSALE_API_KEY");
        Program::start(&mut command)
    }
}

async fn reservations(client: &Client, product: i64) -> Vec<serde_json::Value> {
    client.list(&format!("product_id={product}")).await
}

#[tokio::test]
async fn lost_answers_have_no_second_effect() {
    let system = System::start().await;
    let proxy = Proxy::to(system.address()).await;
    for shop in Shop::all() {
        let product = system.create_product(3).await;
        // The request arrives, its answer does not.
        proxy.set(Traffic::Mute);
        let mut order = shop.orders(&proxy.address, product, 42);
        let hold = eventually("the hold", async || {
            reservations(&system, product).await.pop()
        })
        .await;
        proxy.set(Traffic::Refuse);
        order.says("trying again").await;
        proxy.set(Traffic::Pass);
        assert_eq!(order.says("held").await, id(&hold).to_string());
        proxy.set(Traffic::Mute);
        order.enter();
        eventually("the sale", async || {
            (system.product(product).await["sold"] == 1).then_some(())
        })
        .await;
        proxy.set(Traffic::Refuse);
        order.says("trying again").await;
        proxy.set(Traffic::Pass);
        assert_eq!(order.says("sold").await, id(&hold).to_string());
        order.ends().await;
        assert_eq!(reservations(&system, product).await.len(), 1);
    }
}

#[tokio::test]
async fn a_late_payment_gets_free_units_or_is_refunded() {
    let system = System::start().await;
    for shop in Shop::all() {
        let product = system.create_product(1).await;
        let mut order = shop.orders(system.address(), product, 42);
        let expired = order.says("held").await;
        let hold = reservations(&system, product).await.remove(0);
        system.backdate(&hold).await;
        order.enter();
        let sold = order.says("sold").await;
        assert_ne!(sold, expired);
        order.ends().await;

        let product = system.create_product(1).await;
        let mut order = shop.orders(system.address(), product, 42);
        order.says("held").await;
        let hold = reservations(&system, product).await.remove(0);
        system.backdate(&hold).await;
        // It takes the units of the hold that is past its deadline.
        system.reserve(product, 43).await;
        order.enter();
        assert_eq!(order.says("refund").await, "expired_sold_out");
        order.ends().await;
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_another_order_s_hold_is_used() {
    let system = System::start().await;
    for shop in Shop::all() {
        let product = system.create_product(1).await;
        let hold = system.reserve(product, 42).await;
        let mut refused = shop.orders(system.address(), product, 43);
        assert_eq!(refused.says("refused").await, "sold_out");
        refused.ends().await;
        let mut order = shop.orders(system.address(), product, 42);
        assert_eq!(order.says("held").await, id(&hold).to_string());
        order.enter();
        assert_eq!(order.says("sold").await, id(&hold).to_string());
        order.ends().await;
    }
}

#[tokio::test]
async fn an_answer_of_503_is_tried_again() {
    let database = Database::create().await;
    let (proxy, url) = database.behind_proxy().await;
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_ACQUIRE_MILLISECONDS", "500"),
    ];
    let system = System::spawn_on(database, &settings).await;
    for shop in Shop::all() {
        // A slow machine may need more than one attempt.
        let body = json!({ "name": "Lamp", "stock": 1 });
        let product = eventually("a product", async || {
            let created = system.post_json("/products", &body).await;
            created.status.is_success().then(|| id(&created.json()))
        })
        .await;
        proxy.set(Traffic::Refuse);
        let mut order = shop.orders(system.address(), product, 42);
        // Nothing was done, or the outcome is unknown.
        order.says("trying again: o").await;
        proxy.set(Traffic::Pass);
        order.says("held").await;
        order.enter();
        order.says("sold").await;
        order.ends().await;
        let made = "select count(*) from reservations where product_id = $1";
        let made = sqlx::query_scalar(made).bind(product);
        let made: i64 = made.fetch_one(&system.database.pool).await.unwrap();
        assert_eq!(made, 1);
    }
}

#[test]
fn each_example_is_short() {
    let files = fs::read_dir(root().join("examples")).unwrap();
    let mut seen = 0;
    for file in files.map(|file| file.unwrap().path()) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines < 150, "{} has {lines} lines", file.display());
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} examples");
}
