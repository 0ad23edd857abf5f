//! Why is a row no account?

/// Why a row cannot be an account. The texts name the field, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("the row is not a JSON object")]
    NotAnObject,
    #[error("the row is no UTF-8")]
    NotUtf8,
    #[error("the member `{field}` appears more than once")]
    DuplicateMember { field: String },
    #[error("`public_id` is absent, empty or not a string")]
    NoPublicId,
    #[error("`updated_at` is absent or not an RFC 3339 time with at most 9 fractional digits")]
    NoUpdatedAt,
    #[error("`{field}` is not an exact 64-bit whole number of minor units")]
    InexactAmount { field: &'static str },
    #[error("the value of `{field}` does not fit its type")]
    BadField { field: &'static str },
    #[error("the record takes {size} bytes, the topic `{topic}` at most {limit} (max.message.bytes)")]
    TooLarge { size: usize, limit: usize, topic: String },
}

impl Reason {
    /// The name that stands in `__connect.errors.exception.class.name`.
    pub(crate) fn class_name(&self) -> &'static str {
        match self {
            Self::NotAnObject => "cleargrid.d02.NotAnObject",
            Self::NotUtf8 => "cleargrid.d02.NotUtf8",
            Self::DuplicateMember { .. } => "cleargrid.d02.DuplicateMember",
            Self::NoPublicId => "cleargrid.d02.NoPublicId",
            Self::NoUpdatedAt => "cleargrid.d02.NoUpdatedAt",
            Self::InexactAmount { .. } => "cleargrid.d02.InexactAmount",
            Self::BadField { .. } => "cleargrid.d02.BadField",
            Self::TooLarge { .. } => "cleargrid.d02.TooLarge",
        }
    }

    /// The D02 field at fault, if it is one.
    pub(crate) fn field(&self) -> Option<&str> {
        match self {
            Self::DuplicateMember { field } => Some(field),
            other => other.unfit_field(),
        }
    }

    /// The D02 field whose value did not fit, if that is why.
    pub(crate) fn unfit_field(&self) -> Option<&'static str> {
        match self {
            Self::NoPublicId => Some("public_id"),
            Self::NoUpdatedAt => Some("updated_at"),
            Self::InexactAmount { field } | Self::BadField { field } => Some(field),
            Self::NotAnObject | Self::NotUtf8 | Self::DuplicateMember { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// A row that cannot be an account, with what of it could still be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub reason: Reason,
    pub public_id: Option<String>,
    /// Milliseconds since the epoch.
    pub updated_at: Option<i64>,
}
