//! Upstream's rows, spoiled and mended.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use d02_source::simulator::StoredRow;
use serde_json::value::RawValue;

use super::world::World;

/// The row's JSON with other values, as JSON, for some of its members.
pub(crate) fn with(json: &str, values: &[(&str, &str)]) -> String {
    let mut members: BTreeMap<&str, Box<RawValue>> = serde_json::from_str(json).expect("an object");
    for (name, value) in values {
        members.insert(name, RawValue::from_string((*value).to_owned()).expect("JSON"));
    }
    serde_json::to_string(&members).expect("JSON")
}

/// Upstream's row is so from now on, at the time that it had.
pub(crate) fn spoil(world: &World, row: &StoredRow, values: &[(&str, &str)]) {
    let json = with(&row.json, values);
    world.simulator.upsert_json(0, row.updated_at_ms, &row.id, &json);
}

/// Upstream's row is as it was, changed now.
pub(crate) fn mend(world: &World, row: &StoredRow) {
    change(world, row, &[]);
}

/// Upstream's row has other values, changed now.
pub(crate) fn change(world: &World, row: &StoredRow, values: &[(&str, &str)]) {
    let now = world.simulator.now_ms();
    let time = DateTime::from_timestamp_millis(now).expect("a time");
    let time = format!("\"{}\"", time.to_rfc3339_opts(SecondsFormat::Millis, true));
    let json = with(&with(&row.json, values), &[("updated_at", &time)]);
    world.simulator.upsert_json(0, now, &row.id, &json);
}
