//! How a header can violate the grammar.

use super::date::BadDate;

/// How a value violates the header grammar (contract §2). For logs and `explain`, never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedHeader {
    /// Another scheme than `HMAC-SHA256`, or none.
    #[error("the scheme must be HMAC-SHA256, then one space")]
    Scheme,
    /// More than 512 bytes.
    #[error("the header must be at most 512 bytes long")]
    TooLong,
    /// A byte that is neither visible ASCII nor a single space.
    #[error("the header must be visible ASCII with single spaces")]
    NotVisibleAscii,
    /// The scheme without parameters.
    #[error("the scheme must be followed by apiKey, date, salt and signature")]
    NoParameters,
    /// A parameter that is not `name=value`, or an empty one.
    #[error("the parameters must be name=value, separated by a comma and at most one space")]
    Separator,
    /// A parameter with another name.
    #[error("the parameters must be apiKey, date, salt and signature and no other")]
    UnknownParameter,
    /// A parameter that occurs twice.
    #[error("each parameter must be there only once")]
    RepeatedParameter,
    /// The parameter with this name is missing.
    #[error("the parameter {0} must be there")]
    MissingParameter(&'static str),
    /// An `apiKey` with invalid bytes or length.
    #[error("apiKey must be 1 to 64 letters and digits")]
    ApiKey,
    /// A `salt` with invalid bytes or length.
    #[error("salt must be 12 to 64 letters, digits, _ and -")]
    Salt,
    /// A `signature` that is not 64 lower-case hexadecimal digits.
    #[error("signature must be 64 lower-case hexadecimal digits")]
    Signature,
    /// An invalid `date`.
    #[error("date is not readable: {0}")]
    Date(BadDate),
}

impl MalformedHeader {
    /// Whether the client uses another scheme, rather than this one wrongly.
    pub fn is_other_scheme(self) -> bool {
        self == Self::Scheme
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_different_scheme_counts_as_another_scheme() {
        assert!(MalformedHeader::Scheme.is_other_scheme());
        assert!(!MalformedHeader::NoParameters.is_other_scheme());
        assert!(!MalformedHeader::Date(BadDate::Zone).is_other_scheme());
    }

    #[test]
    fn a_message_names_the_faulty_part() {
        assert_eq!(MalformedHeader::MissingParameter("salt").to_string(), "the parameter salt must be there");
        assert!(MalformedHeader::Date(BadDate::Trailing).to_string().ends_with("nothing behind the zone"));
    }
}
