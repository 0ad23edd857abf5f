//! Streams ClearGrid D02 borrower accounts into a compacted Kafka topic, exactly once.

pub mod account;
pub mod avro;
pub mod index;
pub mod progress;
