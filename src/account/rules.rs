//! What may the operator decide about rows?

use std::collections::BTreeSet;

use super::number::AmountTolerance;

/// What the operator may decide about rows; by default what stands in docs/records.md.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rules {
    pub amount_tolerance: AmountTolerance,
    /// Whether a value that does not fit makes its row a dead letter, also where it is no amount.
    pub rejects_bad_fields: bool,
    pub extra: Extra,
    /// Members that are no content: what differs in them alone is the same version.
    pub content_ignore: BTreeSet<String>,
}

/// Which members pass into `extra`: unknown ones, and those whose value did not fit.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Extra {
    #[default]
    All,
    None,
    Only(BTreeSet<String>),
}

impl Extra {
    pub fn passes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(names) => names.contains(name),
        }
    }
}
