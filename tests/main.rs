//! The one integration binary: librdkafka is linked once. Every other file here is a module of it.

mod changes;
mod check;
mod configuration;
mod crash;
mod cursor;
mod delivery;
mod docker;
mod errors;
mod faults;
mod http;
mod logs;
mod reading;
mod reconcile;
mod refusals;
mod replay;
mod schema;
mod secured;
mod simulator;
mod support;
mod tail;
mod takeover;
mod testbed;
mod tls;
mod upstream;
mod verify;
