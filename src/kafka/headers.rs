//! Which headers has a record? Read so that no name of one can end the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers};

/// The name of a header is not UTF-8.
#[derive(Debug)]
pub(crate) struct NotText;

/// What `read` takes from a record's headers; `None` where there are none.
///
/// rdkafka 0.39 panics at a name that is no UTF-8, which anybody who may write to a topic can send.
pub(crate) fn headers<'m, T>(
    message: &'m BorrowedMessage<'_>,
    read: impl FnOnce(&'m BorrowedHeaders) -> T,
) -> Result<Option<T>, NotText> {
    let Some(headers) = message.headers() else {
        return Ok(None);
    };
    catch_unwind(AssertUnwindSafe(|| read(headers)))
        .map(Some)
        .map_err(|_| NotText)
}

/// The texts of the headers `names`, of the first one of each; `None` where there is none, or it is no text.
pub(crate) fn header_texts<'m, const N: usize>(
    message: &'m BorrowedMessage<'_>,
    names: [&str; N],
) -> Result<[Option<&'m str>; N], NotText> {
    let found = headers(message, |headers| {
        let mut found = [None; N];
        for header in headers.iter() {
            if let Some(place) = names.iter().position(|name| *name == header.key) {
                found[place].get_or_insert(header.value);
            }
        }
        found
    })?;
    let text = |value: Option<Option<&'m [u8]>>| std::str::from_utf8(value??).ok();
    Ok(found.unwrap_or([None; N]).map(text))
}
