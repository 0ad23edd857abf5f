//! Which schemas does this version write? As they stand in the files under `avro/`, and what tells them from others.

use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::rabin::Rabin;

/// The values of `accounts`.
pub(crate) static ACCOUNT: Definition =
    Definition::new("cleargrid.d02.Account", include_str!("../../avro/account.avsc"), || {
        Parsed::of(ACCOUNT.text)
    });

/// The values of `changes`.
pub(crate) static CHANGE: Definition = Definition::new(
    "cleargrid.d02.AccountChange",
    include_str!("../../avro/account_change.avsc"),
    || Parsed::of(CHANGE.text),
);

/// A schema of this version, as it stands in a file under `avro/`.
pub(crate) struct Definition {
    /// The full name of the record, for subjects and single-object readers.
    pub name: &'static str,
    pub text: &'static str,
    parsed: LazyLock<Parsed>,
}

struct Parsed {
    schema: Schema,
    /// By its Parsing Canonical Form. apache-avro leaves `{"type":"int"}` of a logical type where Avro's specification, and
    /// so every Java reader, has `"int"`.
    canonical: Schema,
}

impl Parsed {
    fn of(text: &str) -> Self {
        let schema = Schema::parse_str(text).expect("a unit test parses the schema files");
        let simple = ["int", "long"].iter().fold(schema.canonical_form(), |form, primitive| {
            form.replace(&format!(r#"{{"type":"{primitive}"}}"#), &format!(r#""{primitive}""#))
        });
        let canonical = Schema::parse_str(&simple).expect("a canonical form is a schema");
        Self { schema, canonical }
    }
}

impl Definition {
    const fn new(name: &'static str, text: &'static str, parse: fn() -> Parsed) -> Self {
        Self {
            name,
            text,
            parsed: LazyLock::new(parse),
        }
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.parsed.schema
    }

    /// Avro's Parsing Canonical Form, over which fingerprints are made.
    pub(crate) fn canonical_form(&self) -> String {
        self.parsed.canonical.canonical_form()
    }

    /// The CRC-64-AVRO (Rabin) fingerprint, its bytes as they stand in a single object: little-endian.
    pub(crate) fn fingerprint(&self) -> [u8; 8] {
        let bytes = self.parsed.canonical.fingerprint::<Rabin>().bytes;
        bytes.try_into().expect("a CRC-64 has eight bytes")
    }
}

/// Whether values of both schemas are the same bytes: their canonical forms are.
pub(crate) fn is_laid_out_as(schema: &str, other: &str) -> bool {
    let [schema, other] = [schema, other].map(Schema::parse_str);
    matches!((schema, other), (Ok(schema), Ok(other)) if schema.canonical_form() == other.canonical_form())
}

/// The full name of the record that a schema describes; `None`: it describes none.
pub(crate) fn record_name(schema: &str) -> Option<String> {
    match Schema::parse_str(schema) {
        Ok(Schema::Record(record)) => Some(record.name.fullname(None)),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;

    #[test]
    fn every_field_of_the_schema_has_a_doc_and_a_default_but_three() {
        let schema: serde_json::Value = serde_json::from_str(ACCOUNT.text).expect("JSON");
        assert_eq!(
            format!(
                "{}.{}",
                schema["namespace"].as_str().unwrap(),
                schema["name"].as_str().unwrap()
            ),
            ACCOUNT.name
        );
        for field in schema["fields"].as_array().expect("fields") {
            let name = field["name"].as_str().expect("a name");
            assert!(
                field["doc"].as_str().is_some_and(|doc| doc.len() > 20),
                "{name} has no doc"
            );
            let required = ["public_id", "lender_public_id", "updated_at"].contains(&name);
            assert_eq!(field.get("default").is_none(), required, "{name}");
            assert_eq!(field["type"].is_array(), !required, "{name}");
        }
    }

    #[test]
    fn a_record_has_its_full_name_however_it_is_written() {
        assert_eq!(record_name(ACCOUNT.text).as_deref(), Some(ACCOUNT.name));
        let named = |json: &str| record_name(&format!(r#"{{"type":"record",{json},"fields":[]}}"#));
        assert_eq!(named(r#""name":"B","namespace":"a""#).as_deref(), Some("a.B"));
        assert_eq!(named(r#""name":"a.B","namespace":"c""#).as_deref(), Some("a.B"));
        assert_eq!(named(r#""name":"B""#).as_deref(), Some("B"));
        assert_eq!(record_name(r#""string""#), None);
        assert_eq!(record_name("rubbish"), None);
    }

    #[test]
    fn the_struct_has_the_fields_of_the_schema_in_its_order() {
        let schema: serde_json::Value = serde_json::from_str(ACCOUNT.text).expect("JSON");
        let in_schema: Vec<_> = schema["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["name"].clone())
            .collect();
        let account = serde_json::to_string(&Account::default()).expect("JSON");
        let positions: Vec<_> = in_schema
            .iter()
            .map(|name| {
                account
                    .find(&format!("{name}:"))
                    .unwrap_or_else(|| panic!("{name} is not in the struct"))
            })
            .collect();
        assert!(positions.is_sorted(), "another order: {in_schema:?} {account}");
        assert_eq!(in_schema.len(), account.matches("\":").count());
    }
}
