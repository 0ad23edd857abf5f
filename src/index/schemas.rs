//! Which schema does an account stand under? A number, small enough to stand beside each.

use crate::avro::WriterSchema;

/// The bits of a number.
pub(super) const BITS: u32 = 4;
const MOST: usize = 1 << BITS;

/// The schemas that accounts stand under, by number, and how many do. There are as many as there were versions of the program;
/// more than [`BITS`] can name are not told apart.
#[derive(Debug)]
pub(super) struct Schemas(Vec<(WriterSchema, u64)>);

impl Default for Schemas {
    fn default() -> Self {
        Self(vec![(WriterSchema::Unknown, 0)])
    }
}

impl Schemas {
    /// Of one account more; gives the schema's number.
    pub(super) fn add(&mut self, schema: WriterSchema) -> u8 {
        let number = match self.0.iter().position(|(known, _)| *known == schema) {
            Some(number) => number,
            None if self.0.len() < MOST => {
                self.0.push((schema, 0));
                self.0.len() - 1
            }
            None => 0,
        };
        self.0[number].1 += 1;
        number as u8
    }

    pub(super) fn remove(&mut self, schema: WriterSchema) {
        if let Some((_, count)) = self.0.iter_mut().find(|(known, _)| *known == schema) {
            *count -= 1;
        }
    }

    pub(super) fn get(&self, number: u8) -> WriterSchema {
        self.0[usize::from(number)].0
    }

    pub(super) fn counted(&self) -> Vec<(WriterSchema, u64)> {
        self.0.iter().copied().filter(|(_, count)| *count > 0).collect()
    }
}
