//! The closed list of reasons (contract §10).

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Why a request ended as it did: the closed list of contract §10.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are the contract's")]
        pub enum Reason { $($(#[$doc])* $variant,)+ }

        impl Reason {
            /// Every reason, in the contract's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in logs and in the `reason` label.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

reasons! {
    Ok = "ok",
    MissingCredentials = "missing_credentials",
    RepeatedCredentials = "repeated_credentials",
    MalformedCredentials = "malformed_credentials",
    UnsupportedScheme = "unsupported_scheme",
    UnknownKey = "unknown_key",
    InactiveKey = "inactive_key",
    SignatureMismatch = "signature_mismatch",
    DateSkewed = "date_skewed",
    BelowFloor = "below_floor",
    SaltReused = "salt_reused",
    RoleInsufficient = "role_insufficient",
    NotCreator = "not_creator",
    SegmentNotFound = "segment_not_found",
    RouteNotFound = "route_not_found",
    MethodNotAllowed = "method_not_allowed",
    MalformedRequest = "malformed_request",
    LoopDetected = "loop_detected",
    TooLarge = "too_large",
    TooSlow = "too_slow",
    PreconditionFailed = "precondition_failed",
    AutomationsLinked = "automations_linked",
    Frozen = "frozen",
    BudgetSpent = "budget_spent",
    Throttled = "throttled",
    Overloaded = "overloaded",
    KeysUnavailable = "keys_unavailable",
    Fenced = "fenced",
    ReplayFull = "replay_full",
    ReplayUnavailable = "replay_unavailable",
    RecordUnavailable = "record_unavailable",
    OwnershipUnavailable = "ownership_unavailable",
    UpstreamUnreachable = "upstream_unreachable",
    UpstreamTimeout = "upstream_timeout",
    OutcomeUnknown = "outcome_unknown",
    ClientGone = "client_gone",
    InternalError = "internal_error",
}
