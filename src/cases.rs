//! How many cases does a property test try? As many as it says, or `D02_TEST_CASES` times as many: outside CI, for long.

use proptest::prelude::ProptestConfig;

pub(crate) fn cases(count: u32) -> ProptestConfig {
    let times = std::env::var("D02_TEST_CASES").map_or(1, |times| times.parse().expect("a number"));
    ProptestConfig::with_cases(count.saturating_mul(times))
}
