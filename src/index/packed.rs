//! What is remembered of an account's content, in as few bytes as it needs.
//!
//! ```text
//! flags (2 bytes) │ rest (8 bytes) │ amounts │ currency │ due date │ status │ delinquent days
//! ```
//!
//! Only what is there: whole numbers as they need bytes, a text that many accounts have by its number, a day as the days
//! since 1970 where its text is the usual one.

use std::borrow::Cow;

use hashbrown::HashTable;
use twox_hash::XxHash3_64;

use crate::account::{self, AMOUNT_COUNT, Content, Tracked};
use crate::varint;

/// The smallest content: flags and rest.
pub(super) const MIN_SIZE: usize = 10;

const CURRENCY: u16 = 1 << AMOUNT_COUNT;
const DUE_DATE: u16 = CURRENCY << 1;
/// The due date is a day in the usual form.
const IS_DAY: u16 = DUE_DATE << 1;
const STATUS: u16 = IS_DAY << 1;
/// The status is an unmapped code, and its text that code.
const IS_CODE: u16 = STATUS << 1;
const DELINQUENT_DAYS: u16 = IS_CODE << 1;

/// Texts by number; they are too few for anybody to choose ones that collide. Currencies and labels are few; what an upstream invents beyond that stands with its account.
#[derive(Debug, Default)]
pub(super) struct Labels {
    texts: Vec<Box<str>>,
    /// Of each text, by its hash.
    numbers: HashTable<u64>,
}

impl Labels {
    const MOST: usize = 1_000;
    const LONGEST: usize = 64;

    /// Bytes that it takes, about.
    pub(super) fn size(&self) -> usize {
        self.texts.iter().map(|text| text.len() + 32).sum()
    }

    /// The number of `text`, from 1 on; 0: it has none.
    fn number(&mut self, text: &str) -> u64 {
        let hash = |text: &str| XxHash3_64::oneshot(text.as_bytes());
        let texts = &self.texts;
        let text_of = |number: &u64| &*texts[*number as usize - 1];
        if let Some(number) = self.numbers.find(hash(text), |number| text_of(number) == text) {
            return *number;
        }
        if self.texts.len() == Self::MOST || text.len() > Self::LONGEST {
            return 0;
        }
        self.texts.push(text.into());
        let number = self.texts.len() as u64;
        let texts = &self.texts;
        let rehash = |number: &u64| hash(&texts[*number as usize - 1]);
        self.numbers.insert_unique(hash(text), number, rehash);
        number
    }

    fn put(&mut self, text: &str, bytes: &mut Vec<u8>) {
        let number = self.number(text);
        varint::put(number, bytes);
        if number == 0 {
            put_text(text, bytes);
        }
    }

    fn take<'s>(&'s self, bytes: &mut &'s [u8]) -> &'s str {
        match take_number(bytes) {
            0 => take_text(bytes),
            number => &self.texts[number as usize - 1],
        }
    }
}

pub(super) fn pack(content: &Content<'_>, labels: &mut Labels, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    let mut flags = 0;
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&content.rest.to_le_bytes());
    let tracked = &content.tracked;
    for (place, amount) in tracked.amounts().into_iter().enumerate() {
        if let Some(amount) = amount {
            flags |= 1 << place;
            varint::put(varint::zigzag(amount), bytes);
        }
    }
    if let Some(currency) = &tracked.currency {
        flags |= CURRENCY;
        labels.put(currency, bytes);
    }
    if let Some(due_date) = &tracked.due_date {
        flags |= DUE_DATE;
        match tracked.due_date_parsed {
            // There is one text for a day.
            Some(day) => {
                flags |= IS_DAY;
                varint::put(varint::zigzag(day.into()), bytes);
            }
            None => put_text(due_date, bytes),
        }
    }
    if let Some(status) = &tracked.status {
        flags |= STATUS;
        match tracked.status_unmapped_code {
            Some(code) => {
                flags |= IS_CODE;
                varint::put(varint::zigzag(code), bytes);
            }
            None => labels.put(status, bytes),
        }
    }
    if let Some(days) = tracked.delinquent_days_on_submission {
        flags |= DELINQUENT_DAYS;
        varint::put(varint::zigzag(days), bytes);
    }
    bytes[start..start + 2].copy_from_slice(&flags.to_le_bytes());
}

pub(super) fn unpack<'s>(mut bytes: &'s [u8], labels: &'s Labels) -> Content<'s> {
    let left = &mut bytes;
    let flags = u16::from_le_bytes(take_chunk(left));
    let rest = u64::from_le_bytes(take_chunk(left));
    let has = |flag: u16| flags & flag != 0;
    let signed = |left: &mut &[u8]| varint::unzigzag(take_number(left));
    let mut amounts = [None; AMOUNT_COUNT];
    for (place, amount) in amounts.iter_mut().enumerate() {
        *amount = has(1 << place).then(|| signed(left));
    }
    let currency = has(CURRENCY).then(|| Cow::Borrowed(labels.take(left)));
    let (due_date, due_date_parsed) = match (has(DUE_DATE), has(IS_DAY)) {
        (false, _) => (None, None),
        (true, false) => (Some(Cow::Borrowed(take_text(left))), None),
        (true, true) => {
            let day = i32::try_from(signed(left)).expect(PACKED_HERE);
            (Some(Cow::Owned(account::day_text(day))), Some(day))
        }
    };
    let (status, status_unmapped_code) = match (has(STATUS), has(IS_CODE)) {
        (false, _) => (None, None),
        (true, false) => (Some(Cow::Borrowed(labels.take(left))), None),
        (true, true) => {
            let code = signed(left);
            (Some(Cow::Owned(code.to_string())), Some(code))
        }
    };
    let mut tracked = Tracked {
        currency,
        due_date,
        due_date_parsed,
        status,
        status_unmapped_code,
        delinquent_days_on_submission: has(DELINQUENT_DAYS).then(|| signed(left)),
        ..Tracked::default()
    };
    tracked.set_amounts(amounts);
    Content { tracked, rest }
}

const PACKED_HERE: &str = "what was packed can be unpacked";

fn put_text(text: &str, bytes: &mut Vec<u8>) {
    varint::put(text.len() as u64, bytes);
    bytes.extend_from_slice(text.as_bytes());
}

fn take_number(bytes: &mut &[u8]) -> u64 {
    varint::take(bytes).expect(PACKED_HERE)
}

fn take_text<'s>(bytes: &mut &'s [u8]) -> &'s str {
    let size = take_number(bytes) as usize;
    let (text, rest) = bytes.split_at(size);
    *bytes = rest;
    std::str::from_utf8(text).expect(PACKED_HERE)
}

fn take_chunk<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (chunk, rest) = bytes.split_first_chunk().expect(PACKED_HERE);
    *bytes = rest;
    *chunk
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::account::contents;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(content in contents(), behind in prop::collection::vec(any::<u8>(), 0..4)) {
            let (mut labels, mut bytes) = (Labels::default(), vec![]);
            pack(&content, &mut labels, &mut bytes);
            prop_assert!(bytes.len() >= MIN_SIZE);
            bytes.extend(behind);
            prop_assert_eq!(unpack(&bytes, &labels), content);
        }
    }

    #[test]
    fn an_upstream_that_invents_labels_is_given_no_memory_but_its_accounts() {
        let mut labels = Labels::default();
        let mut packed = Vec::new();
        for number in 0..5_000 {
            let tracked = Tracked {
                status: Some(format!("LABEL {number}").into()),
                ..Tracked::default()
            };
            let mut bytes = Vec::new();
            pack(&Content { tracked, rest: 0 }, &mut labels, &mut bytes);
            packed.push(bytes);
        }
        assert_eq!((labels.texts.len(), labels.numbers.len()), (Labels::MOST, Labels::MOST));
        for (number, bytes) in packed.iter().enumerate() {
            let status = unpack(bytes, &labels).tracked.status;
            assert_eq!(status.as_deref(), Some(&*format!("LABEL {number}")));
        }
    }
}
