//! What no output may have, searched in everything that a test's process prints.

/// The beginnings of all passwords of the tests, and what stands before a token.
const BEGINNINGS: [&str; 4] = ["secret-", "hunter2", "planted-", "Bearer "];

/// The first line of `text` that has a secret.
pub(crate) fn first_in(text: &str) -> Option<&str> {
    let has_password = |line: &str| BEGINNINGS.iter().any(|beginning| line.contains(beginning));
    text.lines().find(|line| has_password(line) || has_token(line))
}

/// A JSON object in base64url with more parts behind a dot: a JWT.
fn has_token(line: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    line.match_indices("eyJ").any(|(at, _)| {
        let mut after = line.bytes().skip(at).skip_while(|byte| is_base64url(*byte));
        after.next() == Some(b'.')
    })
}

#[track_caller]
pub(crate) fn none_in(text: &str) {
    assert_eq!(first_in(text), None, "a secret is printed");
}
