use std::fmt;

use super::date::BadDate;

/// Which clause of the header grammar (contract §2) a value misses. For logs and `explain`, never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Another scheme than `HMAC-SHA256`, or none.
    Scheme,
    /// More than 512 bytes.
    TooLong,
    /// A byte that is neither visible ASCII nor a single space.
    NotVisibleAscii,
    /// The scheme and nothing behind it.
    NoParameters,
    /// A parameter that is not `name=value`, or an empty one.
    Separator,
    /// A parameter of another name.
    UnknownParameter,
    /// A parameter that was there before.
    RepeatedParameter,
    /// No parameter of this name.
    MissingParameter(&'static str),
    /// An `apiKey` of other bytes or another length.
    ApiKey,
    /// A `salt` of other bytes or another length.
    Salt,
    /// A `signature` that is not 64 lower-case hexadecimal digits.
    Signature,
    /// A `date` that is none.
    Date(BadDate),
}

impl Malformed {
    /// Whether the client speaks another scheme, rather than this one badly.
    pub fn is_other_scheme(self) -> bool {
        self == Self::Scheme
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "the scheme must be HMAC-SHA256, then one space",
            Self::TooLong => "the header must be at most 512 bytes long",
            Self::NotVisibleAscii => "the header must be visible ASCII with single spaces",
            Self::NoParameters => "the scheme must be followed by apiKey, date, salt and signature",
            Self::Separator => "the parameters must be name=value, separated by a comma and at most one space",
            Self::UnknownParameter => "the parameters must be apiKey, date, salt and signature and no other",
            Self::RepeatedParameter => "each parameter must be there only once",
            Self::MissingParameter(name) => return write!(f, "the parameter {name} must be there"),
            Self::ApiKey => "apiKey must be 1 to 64 letters and digits",
            Self::Salt => "salt must be 12 to 64 letters, digits, _ and -",
            Self::Signature => "signature must be 64 lower-case hexadecimal digits",
            Self::Date(bad) => return write!(f, "date is not readable: {bad}"),
        })
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_scheme_is_another_scheme() {
        assert!(Malformed::Scheme.is_other_scheme());
        assert!(!Malformed::NoParameters.is_other_scheme());
        assert!(!Malformed::Date(BadDate::Zone).is_other_scheme());
    }

    #[test]
    fn a_sentence_names_the_part() {
        assert_eq!(Malformed::MissingParameter("salt").to_string(), "the parameter salt must be there");
        assert!(Malformed::Date(BadDate::Trailing).to_string().ends_with("nothing behind the zone"));
    }
}
