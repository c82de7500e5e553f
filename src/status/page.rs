//! The status page: one document, whose sections are in `tables`.

use std::fmt::{self, Write};

use super::text::{Text, span};
use super::{Status, StatusVerdict, tables};
use crate::clock::rfc3339;

/// The style sheet, inline.
const STYLE: &str = include_str!("style.css");

/// Nothing is loaded, run, framed or sent. The style sheet is allowed by its hash, which a test compares.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'sha256-216QXpyJLmUxDttYoIaM/uAIZqsw/UJYhMcW1sbeOM4='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Status {
    /// The page. `refresh` is how often it loads itself again, in seconds, for the link that ends that.
    pub(crate) fn page(&self, refresh: Option<u32>) -> String {
        let mut page = String::with_capacity(16 << 10);
        // Writing to a String cannot fail.
        let _ = self.write(&mut page, refresh);
        page
    }

    fn write(&self, page: &mut String, refresh: Option<u32>) -> fmt::Result {
        let title = self.verdict.title();
        write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title} – Saltgate</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <header><h1>Saltgate {version}</h1><p>up {up}</p><p><time datetime=\"{now}\">{now}</time></p><p>{again}</p></header>\n\
             <main>\n",
            version = env!("CARGO_PKG_VERSION"),
            up = span(self.up),
            now = rfc3339(self.now),
            again = match refresh {
                Some(seconds) => format!("every {seconds} s: <a href=\"/status\">stop</a>"),
                None => "<a href=\"/status?refresh=5\">refresh every 5 s</a>".to_owned(),
            },
        )?;
        self.verdict_section(page)?;
        page.write_str("<div class=\"grid\">\n")?;
        tables::sections(self, page)?;
        page.write_str(
            "</div>\n</main>\n<footer><p><a href=\"/status.json\">status.json</a></p><p><a href=\"/ready\">ready</a></p>\
             <p><a href=\"/metrics\">metrics</a></p></footer>\n</body>\n</html>\n",
        )
    }

    fn verdict_section(&self, page: &mut String) -> fmt::Result {
        writeln!(
            page,
            "<section class=\"verdict {}\" aria-labelledby=\"verdict\"><h2 id=\"verdict\">{}</h2>",
            self.verdict.as_str(),
            self.verdict.title()
        )?;
        match self.verdict {
            StatusVerdict::Fenced(until) => {
                let left = until.duration_since(self.now).unwrap_or_default();
                writeln!(
                    page,
                    "<p>until <time datetime=\"{at}\">{at}</time>, {left} from now: what may have been spent before is refused</p>",
                    at = rfc3339(until),
                    left = span(left)
                )?;
            }
            StatusVerdict::Ready if self.remarks.is_empty() => page.write_str("<p>All is well.</p>\n")?,
            _ => {}
        }
        if !self.troubles.is_empty() || !self.remarks.is_empty() {
            page.write_str("<ul>\n")?;
            for (part, why) in &self.troubles {
                writeln!(page, "<li><strong>{part}</strong>: {}</li>", Text(why))?;
            }
            for remark in &self.remarks {
                writeln!(page, "<li>{}</li>", Text(remark))?;
            }
            page.write_str("</ul>\n")?;
        }
        page.write_str("</section>\n")
    }
}

impl StatusVerdict {
    fn title(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Degraded => "Ready, but degraded",
            Self::Fenced(_) => "Fenced",
            Self::Draining => "Draining",
            Self::NotReady => "Not ready",
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
            for digit in 0..4 {
                let value = bits >> (18 - 6 * digit) & 63;
                text.push(if digit > three.len() { '=' } else { char::from(DIGITS[value as usize]) });
            }
        }
        text
    }

    #[test]
    fn the_policy_allows_this_style_sheet_and_no_other() {
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
        let hash = base64(&Sha256::digest(STYLE));
        assert!(CONTENT_SECURITY_POLICY.contains(&format!("style-src 'sha256-{hash}';")), "the hash is {hash}");
        assert!(!STYLE.contains('<') && !STYLE.contains("url("));
    }
}
