//! A Kafka broker and a schema registry to try consumers with. They end with standard input: at Ctrl-D, or when the process
//! that holds its other end does.
//!
//! ```console
//! $ cargo run --example testbed
//! BOOTSTRAP_SERVERS=127.0.0.1:24393
//! SCHEMA_REGISTRY_URL=http://127.0.0.1:25392/apis/ccompat/v7
//! ```

use std::io;

use anyhow::Context;
use d02_source::testbed::Testbed;

fn main() -> anyhow::Result<()> {
    let testbed = Testbed::start().context("starting the testbed")?;
    println!("BOOTSTRAP_SERVERS={}", testbed.bootstrap_servers());
    println!("SCHEMA_REGISTRY_URL={}", testbed.schema_registry_url());
    io::copy(&mut io::stdin(), &mut io::sink()).context("waiting for the end of standard input")?;
    Ok(())
}
