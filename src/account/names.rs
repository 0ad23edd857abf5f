//! How do names of fields stand in the text of a header?

/// Names with commas between them, which none has. Connect's header converter takes that for text; of a JSON array it would make an
/// array, and of an empty one an array whose elements have no schema, at which sinks end.
pub(crate) fn list(names: impl IntoIterator<Item = &'static str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(",")
}

/// The names in such a text, or in a JSON array, which 0.1 wrote.
pub(crate) fn listed(text: &str) -> Vec<String> {
    if text.starts_with('[') {
        serde_json::from_str(text).unwrap_or_default()
    } else {
        text.split(',').map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_read_and_so_is_what_0_1_wrote() {
        let names = ["due_date", "balance_amount", "*"];
        assert_eq!(list(names), "due_date,balance_amount,*");
        assert_eq!(listed(&list(names)), names);
        assert_eq!(listed(r#"["due_date","balance_amount","*"]"#), names);
        assert_eq!(listed("*"), ["*"]);
        for none in ["[]", "[", "[1]"] {
            assert!(listed(none).is_empty(), "{none}");
        }
    }
}
