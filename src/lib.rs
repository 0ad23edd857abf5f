//! Streams ClearGrid D02 borrower accounts into a compacted Kafka topic, exactly once.
