//! Which accounts are written once more as they are held, because nobody can read what stands there?

use std::collections::BTreeSet;

use crate::avro::WriterSchema;
use crate::index::{Held, Index};

/// What a person asks to have written once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Republish {
    /// Of the registry; empty: every schema but today's.
    pub ids: BTreeSet<u32>,
}

impl Republish {
    /// Whether accounts under `schema` are to be written once more; `own`: today's.
    pub(crate) fn is_of(&self, schema: WriterSchema, own: WriterSchema) -> bool {
        match schema {
            WriterSchema::Id(id) if !self.ids.is_empty() => self.ids.contains(&id),
            _ => self.ids.is_empty() && schema != own,
        }
    }

    /// Whether it is still to be written: what came since the start stands under today's schema, whatever its id.
    pub(super) fn is_left(&self, held: &Held, own: WriterSchema) -> bool {
        held.received == 0 && self.is_of(held.schema, own)
    }

    /// How many accounts of `index` there are; `own`: today's schema.
    pub(crate) fn count(&self, index: &Index, own: WriterSchema) -> u64 {
        let schemas = index.schemas().into_iter();
        schemas
            .filter(|(schema, _)| self.is_of(*schema, own))
            .map(|(_, count)| count)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_written_once_more_or_all_but_what_stands_under_todays_schema() {
        use WriterSchema::{Fingerprint, Id, Unknown};
        let is_of = |ids: &[u32], schema| {
            let ids = ids.iter().copied().collect();
            Republish { ids }.is_of(schema, Id(3))
        };
        for (schema, without, with) in [
            (Id(1), true, true),
            (Id(2), true, false),
            (Id(3), false, true),
            (Fingerprint([1; 8]), true, false),
            (Unknown, true, false),
        ] {
            assert_eq!(is_of(&[], schema), without, "{schema}");
            assert_eq!(is_of(&[1, 3], schema), with, "{schema}");
        }
    }
}
