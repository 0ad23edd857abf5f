//! Does the registry still know the schemas that are written under? Asked again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::client::Registry;
use crate::exit::{Diagnosis, chain};
use crate::failpoint;

/// How often it is asked.
const INTERVAL: Duration = Duration::from_secs(600);

/// Asks the registry again and again whether the ids that it gave are still those of their schemas; `lost` counts how often it was
/// found that they are not.
pub(crate) async fn watch_ids(registry: Arc<Registry>, lost: watch::Sender<u64>) {
    let interval = failpoint::shortened("D02_TEST_LOOK_INTERVAL", INTERVAL);
    loop {
        tokio::time::sleep(interval.mul_f64(0.9 + 0.1 * fastrand::f64())).await;
        match registry.lost_ids().await {
            Ok(found) => {
                for (subject, why) in &found {
                    tracing::error!(
                        subject,
                        code = %why.code(),
                        advice = why.advice(),
                        "{why}; nothing is written until it is registered again"
                    );
                }
                if !found.is_empty() {
                    lost.send_modify(|count| *count += 1);
                }
            }
            // It is asked again, and whoever has read such a record before goes on reading them.
            Err(error) => tracing::warn!(
                code = %error.code(),
                advice = error.advice(),
                "the schema registry does not say whether its ids stand: {}",
                chain(&error)
            ),
        }
    }
}
