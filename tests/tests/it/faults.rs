//! A short run of the fault harness; `cargo run --bin faults` is the long one.

use std::time::Duration;

use sluice_tests::faults::{Plan, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_is_lost_and_none_counts_twice() {
    let plan = Plan {
        seed: 11,
        duration: Duration::from_secs(25),
        pause: Duration::from_secs(2),
        outage: Duration::from_secs(4),
        rate: 100,
    };
    let outcome = run(&plan).await.unwrap();
    println!("{outcome}");
    assert!(outcome.is_good(), "{outcome}");
    assert!(outcome.faults.len() > 3, "{outcome}");
}
