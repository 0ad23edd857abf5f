//! How do values become Avro binary? By Avro's specification 1.12, "Binary Encoding"; tests hold what is made of these to apache-avro.

use crate::varint;

/// Appends Avro binary to bytes.
pub(super) trait Binary {
    fn put_long(&mut self, long: i64);
    fn put_text(&mut self, text: &str);

    /// A union of null and a long, or of an int, which has the same bytes.
    fn put_optional_long(&mut self, long: Option<impl Into<i64>>);

    /// A union of null and a string.
    fn put_optional_text(&mut self, text: Option<&str>);
}

/// The places of null and of what may be there instead in a union, as Avro writes a long.
pub(super) const NULL: u8 = 0;
pub(super) const PRESENT: u8 = 2;

impl Binary for Vec<u8> {
    fn put_long(&mut self, long: i64) {
        varint::put(varint::zigzag(long), self);
    }

    fn put_text(&mut self, text: &str) {
        self.put_long(text.len() as i64);
        self.extend_from_slice(text.as_bytes());
    }

    fn put_optional_long(&mut self, long: Option<impl Into<i64>>) {
        match long {
            None => self.push(NULL),
            Some(long) => {
                self.push(PRESENT);
                self.put_long(long.into());
            }
        }
    }

    fn put_optional_text(&mut self, text: Option<&str>) {
        match text {
            None => self.push(NULL),
            Some(text) => {
                self.push(PRESENT);
                self.put_text(text);
            }
        }
    }
}
