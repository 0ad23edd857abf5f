//! Where do an object's members stand in its text? One pass over JSON that is known to be well-formed.

use memchr::memchr2;

/// A value as it stands in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Raw<'a> {
    pub json: &'a str,
    /// A string in which nothing is escaped.
    pub is_plain: bool,
}

impl<'a> Raw<'a> {
    pub(super) fn new(json: &'a str) -> Self {
        let is_plain = json.starts_with('"') && !json.contains('\\');
        Self { json, is_plain }
    }

    pub(super) fn is_null(self) -> bool {
        self.json == "null"
    }
}

/// Tells `member` each name and value as they stand in `object`, in their order. `false`: it is no object, or a name of it is escaped;
/// `member` may have heard of some of them.
///
/// Of what is no well-formed JSON anything may be told, or nothing.
pub(super) fn members<'a>(object: &'a str, mut member: impl FnMut(&'a str, Raw<'a>)) -> bool {
    members_in_order(object, |_| "", |name, _, value| member(name, value))
}

/// The same, where it is thought which names stand where: `expected` gives the one of a position, or an empty one. `member` hears
/// whether it stands there.
pub(super) fn members_in_order<'a>(
    object: &'a str,
    expected: impl Fn(usize) -> &'static str,
    mut member: impl FnMut(&'a str, bool, Raw<'a>),
) -> bool {
    scan(object, &expected, &mut member).is_some()
}

fn scan<'a>(
    object: &'a str,
    expected: &impl Fn(usize) -> &'static str,
    member: &mut impl FnMut(&'a str, bool, Raw<'a>),
) -> Option<()> {
    let bytes = object.as_bytes();
    let mut position = 0;
    if *bytes.first()? != b'{' {
        return None;
    }
    let mut at = behind_space(bytes, 1);
    if bytes.get(at) == Some(&b'}') {
        return Some(());
    }
    loop {
        if *bytes.get(at)? != b'"' {
            return None;
        }
        let name = at + 1;
        let thought = expected(position);
        let mut end = name + thought.len();
        let is_expected =
            !thought.is_empty() && bytes.get(end) == Some(&b'"') && bytes.get(name..end) == Some(thought.as_bytes());
        if !is_expected {
            end = name + memchr2(b'"', b'\\', bytes.get(name..)?)?;
            if bytes[end] == b'\\' {
                return None;
            }
        }
        position += 1;
        at = behind_space(bytes, end + 1);
        if *bytes.get(at)? != b':' {
            return None;
        }
        let value = behind_space(bytes, at + 1);
        let (value_end, is_plain) = behind_value(bytes, value)?;
        let json = object.get(value..value_end)?;
        member(object.get(name..end)?, is_expected, Raw { json, is_plain });
        at = behind_space(bytes, value_end);
        match bytes.get(at)? {
            b',' => at = behind_space(bytes, at + 1),
            b'}' => return Some(()),
            _ => return None,
        }
    }
}

fn behind_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Also gives whether it is a string in which nothing is escaped.
fn behind_value(bytes: &[u8], start: usize) -> Option<(usize, bool)> {
    match bytes.get(start)? {
        b'"' => behind_string(bytes, start),
        b'{' | b'[' => Some((behind_nested(bytes, start)?, false)),
        _ => {
            // A number, or one of three words.
            let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
            let length = bytes[start..].iter().position(is_end);
            Some((length.map_or(bytes.len(), |length| start + length), false))
        }
    }
}

fn behind_string(bytes: &[u8], start: usize) -> Option<(usize, bool)> {
    let (mut at, mut is_plain) = (start + 1, true);
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some((at + 1, is_plain));
        }
        // What is escaped ends nothing.
        (at, is_plain) = (at + 2, false);
    }
}

fn behind_nested(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0);
    loop {
        match bytes.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => {
                (at, _) = behind_string(bytes, at)?;
                continue;
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fastrand::Rng;
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::account::member::Members;
    use crate::cases::cases;

    /// As serde_json tells them; `None`: it is no object.
    fn by_serde(json: &str) -> Option<Vec<(String, Raw<'_>)>> {
        let raw: &RawValue = serde_json::from_str(json).expect("JSON");
        let members = Members::by_serde(serde_json::Deserializer::from_str(raw.get()))?;
        Some(
            members
                .into_iter()
                .map(|(name, value)| (name.into_owned(), value))
                .collect(),
        )
    }

    fn scanned(json: &str) -> Option<Vec<(String, Raw<'_>)>> {
        const THOUGHT: [&str; 3] = ["a", "", "{}"];
        let (mut found, mut by_order) = (Vec::new(), Vec::new());
        let is_told = members(json, |name, value| found.push((name.to_owned(), value)));
        let thought = |position: usize| THOUGHT[position % 3];
        let is_told_by_order = members_in_order(json, thought, |name, is_expected, value| {
            let is_it = name == THOUGHT[by_order.len() % 3] && !name.is_empty();
            assert_eq!(is_expected, is_it, "{name} in {json}");
            by_order.push((name.to_owned(), value));
        });
        assert_eq!((is_told, &found), (is_told_by_order, &by_order));
        is_told.then_some(found)
    }

    /// Appends any JSON value to `json`; `depth`: how deep it may be nested.
    fn put_any(rng: &mut Rng, depth: u32, json: &mut String) {
        const PARTS: [&str; 18] = [
            "a", "z", "{", "}", "[", "]", ":", ",", " ", "ä", "😀", "0", r#"\""#, r"\\", r"\/", r"\n", r"\u0041",
            r"\u00e4",
        ];
        const OTHERS: [&str; 14] = [
            "0",
            "-0",
            "7",
            "-120",
            "1.50",
            "-1.5e3",
            "1E-7",
            "1e+2",
            "99999999999999999999",
            "true",
            "false",
            "null",
            "{}",
            "[]",
        ];
        fn put_space(rng: &mut Rng, json: &mut String) {
            const SPACES: [&str; 8] = ["", "", "", "", " ", "\t", "\r\n", "  "];
            json.push_str(SPACES[rng.usize(..SPACES.len())]);
        }
        fn put_text(rng: &mut Rng, json: &mut String) {
            json.push('"');
            // Most have nothing that is escaped.
            let parts = if rng.u8(..4) == 0 { PARTS.len() } else { 12 };
            (0..rng.usize(..40)).for_each(|_| json.push_str(PARTS[rng.usize(..parts)]));
            json.push('"');
        }
        match rng.u8(..8) {
            kind @ 0..4 if depth > 0 => {
                let is_object = kind > 0;
                json.push(if is_object { '{' } else { '[' });
                for place in 0..rng.usize(..6) {
                    if place > 0 {
                        json.push(',');
                    }
                    put_space(rng, json);
                    if is_object {
                        put_text(rng, json);
                        put_space(rng, json);
                        json.push(':');
                        put_space(rng, json);
                    }
                    put_any(rng, depth - 1, json);
                    put_space(rng, json);
                }
                json.push(if is_object { '}' } else { ']' });
            }
            4..6 => put_text(rng, json),
            _ => json.push_str(OTHERS[rng.usize(..OTHERS.len())]),
        }
    }

    #[test]
    fn members_are_those_of_serde_json_and_what_is_not_told_is_escaped_or_no_object() {
        let mut rng = Rng::with_seed(fastrand::u64(..));
        let (mut json, mut told) = (String::new(), 0);
        let count = cases(100_000).cases;
        for _ in 0..count {
            let seed = rng.get_seed();
            json.clear();
            put_any(&mut rng, 4, &mut json);
            match (scanned(&json), by_serde(&json)) {
                (Some(found), expected) => {
                    assert_eq!(Some(found), expected, "seed {seed}: {json}");
                    told += 1;
                }
                (None, None) => {}
                // By serde_json, where a name is escaped.
                (None, Some(_)) => assert!(json.contains('\\'), "seed {seed}: {json}"),
            }
        }
        assert!(told > count / 5, "{told} of {count}");
    }

    /// Where there are so few random cases in CI, each kind of value is there.
    #[test]
    fn what_is_nested_or_escaped_ends_where_it_ends() {
        let json = r#"{ "a" : "}\"," ,"b":[{"c":"]"},[]] , "d":{"e":{}} ,"f":-1.5e3,"g":null }"#;
        let expected = [
            ("a", r#""}\",""#),
            ("b", r#"[{"c":"]"},[]]"#),
            ("d", r#"{"e":{}}"#),
            ("f", "-1.5e3"),
            ("g", "null"),
        ];
        let expected: BTreeMap<_, _> = expected.into_iter().collect();
        let found = scanned(json).expect("an object");
        assert_eq!(
            found
                .iter()
                .map(|(name, value)| (&**name, value.json))
                .collect::<BTreeMap<_, _>>(),
            expected
        );
        assert_eq!(scanned("{ }"), Some(Vec::new()));
        for other in ["[]", "1", "\"a\"", "null", r#"{"\u0061":1}"#, ""] {
            assert_eq!(scanned(other), None, "{other}");
        }
    }

    proptest! {
        #![proptest_config(cases(1_000))]

        #[test]
        fn no_text_makes_it_panic(text in r#"\{?("|\\|[{}\[\]:, a1ä]){0,30}"#) {
            let _ = scanned(&text);
        }
    }
}
