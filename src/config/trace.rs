//! Reads `[trace]`.

use toml::de::DeValue;

use super::numbers::integer;
use super::outline::Shape;
use super::section::{Misread, Section};
use super::source::Source;
use super::texts::quoted;
use crate::net::{Authority, AuthorityError};
use crate::trace::{Ratio, TraceEndpoint, TraceSettings, TraceTrust};
use crate::upstream::ServerAddress;

const ENDPOINT: &str = "the URL of a collector that takes OTLP over HTTP, such as \"http://otel:4318\"";
const RATIO: &str = "a number from 0 to 1, such as 0.01 for one trace in a hundred";

/// Where traces go, and whose are continued.
pub(super) fn trace(root: &mut Section<'_>) -> TraceSettings {
    let source = root.source;
    let mut section = root.section("trace");
    let at = section.at("endpoint");
    let text = section.optional_text("endpoint", ENDPOINT);
    let endpoint = text.and_then(|text| match endpoint(&text) {
        Ok(endpoint) => Some(endpoint),
        Err(problem) => {
            // It may contain a password, which must not be shown.
            let shown = if text.contains('@') { "…".into() } else { quoted(&text) };
            source.fault_at(at, "trace.endpoint", format!("{shown} {problem}; expected {ENDPOINT}"));
            None
        }
    });
    let ratio = ratio(&mut section);
    let words = [("never", TraceTrust::Never), ("trusted_proxies", TraceTrust::TrustedProxies)];
    let trust = section.word("trust", &words, TraceSettings::TRUST);
    section.finish();
    TraceSettings { endpoint, ratio, trust }
}

fn ratio(section: &mut Section<'_>) -> Ratio {
    let read = |_: &Source<'_>, _, _: &str, value| {
        let number = match &value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            value => integer(value).map(|number| number as f64),
        };
        let number: f64 = number.ok_or(Misread::OtherKind)?;
        let ratio = Ratio::new(number).ok_or_else(|| Misread::Wrong(format!("is {number}")))?;
        Ok((ratio, number.to_string()))
    };
    let default = TraceSettings::RATIO;
    let written = (default, default.part().to_string());
    section.setting("ratio", || Shape::Fraction, Some(written), RATIO, read).unwrap_or(default)
}

/// Why this is not the URL of a collector.
#[derive(Debug, thiserror::Error)]
enum EndpointError {
    #[error("does not begin with http:// or https://")]
    Scheme,
    #[error("has a user; no user is sent to a collector")]
    User,
    #[error("has a path that is not plain text without a query")]
    Path,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// The path of OTLP is added to the one of the URL, as the exporters of OpenTelemetry do it.
fn endpoint(text: &str) -> Result<TraceEndpoint, EndpointError> {
    let (tls, rest) = match text.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        _ => return Err(EndpointError::Scheme),
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if authority.contains('@') {
        return Err(EndpointError::User);
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#')) {
        return Err(EndpointError::Path);
    }
    // A port is required: 4318 is usual, and the default of URLs would be 80.
    let at = Authority::parse(authority, None)?;
    let server = ServerAddress::Network { at, tls };
    Ok(TraceEndpoint { server, path: format!("{}/v1/traces", path.trim_end_matches('/')) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_with_a_port_and_perhaps_a_path() {
        for (text, shown) in [
            ("http://otel:4318", "http://otel:4318/v1/traces"),
            ("http://otel:4318/", "http://otel:4318/v1/traces"),
            ("https://[::1]:4318/otlp/", "https://[::1]:4318/otlp/v1/traces"),
        ] {
            assert_eq!(endpoint(text).unwrap().to_string(), shown);
        }
        for (text, problem) in [
            ("otel:4318", "does not begin with http"),
            ("unix:/run/otel.sock", "does not begin with http"),
            ("grpc://otel:4317", "does not begin with http"),
            ("http://otel", "names no port"),
            ("http://user:word@otel:4318", "has a user"),
            ("http://otel:4318/a b", "has a path"),
            ("http://otel:4318/?token=1", "has a path"),
            ("http://:4318", "names no host"),
        ] {
            let error = endpoint(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
