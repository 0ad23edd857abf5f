//! What is wanted of a lender? A record of its own beside the cursor's, as Connect keeps a connector's target state.

use serde::{Deserialize, Serialize};

/// What is wanted of a lender, in Connect's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum TargetState {
    /// It is read.
    #[default]
    Started,
    /// Nothing is read, and nobody else takes it.
    Paused,
    /// Nobody runs it.
    Stopped,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetKey {
    target: Kind,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    State,
}

#[derive(Serialize, Deserialize)]
struct TargetValue {
    state: TargetState,
}

impl TargetState {
    /// The key of the record that says what is wanted of `connector`, `<name>-<lender>`.
    pub(crate) fn key(connector: &str) -> String {
        let key = TargetKey { target: Kind::State };
        serde_json::to_string(&(connector, key)).expect("a key is always JSON")
    }

    /// The connector, where it is the key of such a record.
    pub(crate) fn connector(key: &[u8]) -> Option<String> {
        let (connector, TargetKey { target: Kind::State }) = serde_json::from_slice(key).ok()?;
        Some(connector)
    }

    pub(crate) fn to_json(self) -> String {
        serde_json::to_string(&TargetValue { state: self }).expect("a state is always JSON")
    }

    /// `None`: of a version that this one does not know.
    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        let TargetValue { state } = serde_json::from_slice(json).ok()?;
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_this_text() {
        let key = TargetState::key("d02-source-acme");
        assert_eq!(key, r#"["d02-source-acme",{"target":"state"}]"#);
        assert_eq!(
            TargetState::connector(key.as_bytes()).as_deref(),
            Some("d02-source-acme")
        );
        for (state, text) in [
            (TargetState::Started, r#"{"state":"STARTED"}"#),
            (TargetState::Paused, r#"{"state":"PAUSED"}"#),
            (TargetState::Stopped, r#"{"state":"STOPPED"}"#),
        ] {
            assert_eq!(state.to_json(), text);
            assert_eq!(TargetState::from_json(text.as_bytes()), Some(state));
        }
        assert_eq!(TargetState::from_json(br#"{"state":"ASLEEP"}"#), None);
        for other in [
            r#"["d02-source-acme",{"dataset":"D02","lender":"5f0c"}]"#,
            r#"["a",{"target":"other"}]"#,
            "a",
        ] {
            assert_eq!(TargetState::connector(other.as_bytes()), None, "{other}");
        }
    }
}
