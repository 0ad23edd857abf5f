//! How is a counter named? Like its samples.

use std::ops::Deref;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric, counter};

/// What only grows. Its family is named like its samples; that of prometheus-client's own lacks the `_total`, as OpenMetrics
/// wants it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(pub(crate) counter::Counter);

impl Deref for Counter {
    type Target = counter::Counter;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl TypedMetric for Counter {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Counter {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
