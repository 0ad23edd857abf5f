//! Does the registry still know the schemas that are written under? Asked again and again.

use std::sync::Arc;

use tokio::sync::watch;

use super::client::Registry;
use crate::backoff::pause_between_looks;
use crate::exit::{Diagnosis, chain};

/// Asks the registry again and again whether the ids that it gave are still those of their schemas; `lost` counts how often it was
/// found that they are not.
pub(crate) async fn watch_ids(registry: Arc<Registry>, lost: watch::Sender<u64>) {
    loop {
        pause_between_looks().await;
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
