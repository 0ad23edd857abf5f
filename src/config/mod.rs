//! What did the operator ask for?
//!
//! [`load`] turns files, variables and `--set` into one typed [`Config`] (`settings`), or into every error at once. `keys`
//! is the table of all keys, with the reason for each, `key` what is known of one; `kinds` says what may stand in one, `lookup` which one a name means,
//! `layers` where a value comes from and which one counts; `values` reads one value from its text and keeps secrets;
//! `validate` holds values against one another; `show` prints the result, `reference` the table.

mod build;
mod error;
mod key;
mod keys;
mod kinds;
mod layers;
mod load;
mod lookup;
mod oauth;
mod reference;
mod settings;
mod show;
#[cfg(test)]
mod tests;
mod toml;
mod validate;
mod values;

pub use error::{ConfigError, ConfigErrors};
pub use layers::{Layers, process_environment};
pub use load::{http_listen, load};
pub use oauth::{OAuth, token_endpoint};
pub use reference::reference;
pub use settings::{
    Avro, BadField, Changes, Config, Encoding, Errors, Http, Kafka, Lender, SchemaRegistry, SubjectStrategy, Tolerance,
    TopicNames, TopicSetting, TopicSettings, Transaction, Upstream,
};
pub(crate) use settings::{Group, GroupMode, GroupProtocol, StandbyMode};
pub use show::{Effective, Loaded};
pub use values::{Property, Proxy, SecretError, SecretSource, hide};
