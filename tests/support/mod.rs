//! A broker, a registry, an upstream, the process under test, and an independent reader that judges it.

pub(crate) mod acls;
pub(crate) mod authorization;
pub(crate) mod http_proxy;
pub(crate) mod judge;
pub(crate) mod kafka;
pub(crate) mod kafka_proxy;
pub(crate) mod quotas;
pub(crate) mod registry;
pub(crate) mod rows;
pub(crate) mod secrets;
pub(crate) mod secured;
pub(crate) mod shown;
pub(crate) mod source;
pub(crate) mod wire;
pub(crate) mod world;

use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use d02_source::testbed::Testbed;
use tokio::runtime::Runtime;

/// Longer than anything takes that works, on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// The simulators of all tests.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// One broker and one registry for all tests; a topic a test.
pub(crate) fn testbed() -> &'static Testbed {
    static TESTBED: OnceLock<Testbed> = OnceLock::new();
    TESTBED.get_or_init(|| Testbed::start().unwrap_or_else(|error| panic!("{}", d02_source::exit::chain(&error))))
}

/// Lets time pass that is what a test is about: nothing happens meanwhile that could be waited for instead.
pub(crate) fn nothing_happens_for(how_long: Duration) {
    std::thread::sleep(how_long);
}

/// Waits until `condition` gives a value.
pub(crate) fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_for_as_long_as(PATIENCE, what, condition)
}

/// As [`wait_for`], for what takes many steps that each wait for a machine that is busy.
pub(crate) fn wait_for_as_long_as<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        let looked = Instant::now();
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < patience, "waited {patience:?} in vain: {what}");
        // As long as the look took: whoever waits takes no more than half a core from those who work.
        let took = looked.elapsed();
        std::thread::sleep(took.clamp(Duration::from_millis(20), Duration::from_millis(250)));
    }
}
