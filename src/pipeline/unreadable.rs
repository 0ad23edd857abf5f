//! Which accounts can nobody read who asks the registry? Those under schemas that it lost, or gave out anew.

use std::sync::Arc;

use crate::avro::{ACCOUNT, Frame, WriterSchema};
use crate::exit::Diagnosis;
use crate::metrics::LenderMetrics;
use crate::registry::Registry;

/// Says so of the accounts of a lender that has started, beside it; a registry that gives no answer says nothing. `own`: what is
/// written before accounts by now, which was just found; `schemas`: how many accounts stand under which.
pub(crate) async fn say_unreadable(
    registry: Arc<Registry>,
    lender: String,
    metrics: LenderMetrics,
    own: Frame,
    schemas: Vec<(WriterSchema, u64)>,
) {
    let own = WriterSchema::of(own, &ACCOUNT);
    let mut unreadable = 0;
    for (schema, count) in schemas.into_iter().filter(|(schema, _)| *schema != own) {
        let WriterSchema::Id(id) = schema else { continue };
        let Err(error) = registry.schema_of(id, ACCOUNT.name).await else {
            continue;
        };
        if error.is_lost_id() {
            unreadable += count;
            let (code, advice) = (error.code(), error.advice());
            tracing::error!(lender, %code, advice, "{count} accounts stand under schema {id}, but {error}");
        }
    }
    metrics
        .lost_schema_accounts
        .set(i64::try_from(unreadable).unwrap_or(i64::MAX));
}
