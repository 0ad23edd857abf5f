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

/// The text of the header `name`; `None` where there is none, or it is no text.
pub(crate) fn header<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Result<Option<&'m str>, NotText> {
    let value = headers(message, |headers| {
        headers
            .iter()
            .find(|header| header.key == name)
            .map(|header| header.value)
    })?;
    let value = value.flatten().flatten();
    Ok(value.and_then(|value| std::str::from_utf8(value).ok()))
}
