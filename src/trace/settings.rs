//! `[trace]` (contract §9).

use std::fmt;

use crate::upstream::ServerAddress;

/// Where spans go, how many of them, and whose context is believed.
#[derive(Clone, Debug)]
pub(crate) struct TraceSettings {
    /// The collector; without one no span is made.
    pub(crate) endpoint: Option<TraceEndpoint>,
    /// Which part of the new traces is sampled.
    pub(crate) ratio: Ratio,
    /// Whose `traceparent` is believed.
    pub(crate) trust: TraceTrust,
}

impl TraceSettings {
    /// Default of [`TraceSettings::ratio`].
    pub(crate) const RATIO: Ratio = Ratio(0.01);
    /// Default of [`TraceSettings::trust`].
    pub(crate) const TRUST: TraceTrust = TraceTrust::Never;
}

/// The address of a collector that takes OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceEndpoint {
    /// The server.
    pub(crate) server: ServerAddress,
    /// The path of the requests.
    pub(crate) path: String,
}

/// A collector is never a Unix socket, so its address is that of a URL.
impl fmt::Display for TraceEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.server, self.path)
    }
}

/// A part of all traces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio(f64);

impl Ratio {
    /// `None` unless it is between 0 and 1.
    pub(crate) fn new(part: f64) -> Option<Self> {
        (0.0..=1.0).contains(&part).then_some(Self(part))
    }

    /// The ratio as a number.
    pub(crate) fn part(self) -> f64 {
        self.0
    }
}

/// Whose `traceparent` is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceTrust {
    /// Nobody's.
    Never,
    /// That of a message that one of `trusted_proxies` sent.
    TrustedProxies,
}
