//! A broker, a registry, an upstream, the process under test, and an independent reader that judges it.

pub mod acls;
pub mod authorization;
pub mod http_proxy;
pub mod judge;
pub mod kafka;
pub mod kafka_proxy;
pub mod registry;
pub mod rows;
pub mod secrets;
pub mod secured;
pub mod shown;
pub mod source;
pub mod world;

use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use d02_source::testbed::Testbed;
use tokio::runtime::Runtime;

/// Longer than anything takes that works, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The simulators of all tests.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// One broker and one registry for all tests; a topic a test.
pub fn testbed() -> &'static Testbed {
    static TESTBED: OnceLock<Testbed> = OnceLock::new();
    TESTBED.get_or_init(|| Testbed::start().unwrap_or_else(|error| panic!("{}", d02_source::exit::chain(&error))))
}

/// Lets time pass that is what a test is about: nothing happens meanwhile that could be waited for instead.
pub fn nothing_happens_for(how_long: Duration) {
    std::thread::sleep(how_long);
}

/// Waits until `condition` gives a value.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        let looked = Instant::now();
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        // As long as the look took: whoever waits takes no more than half a core from those who work.
        let took = looked.elapsed();
        std::thread::sleep(took.clamp(Duration::from_millis(20), Duration::from_millis(250)));
    }
}
