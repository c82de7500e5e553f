//! Common mistakes in signing that the signature reveals.

use super::Explainer;
use super::report::{NOTHING, Report};
use crate::credential::{Credentials, Secret, SigningKey};

/// Reports which known mistake produced this signature, if one did.
pub(super) fn look_for(explainer: &Explainer<'_>, credentials: &Credentials<'_>, report: &mut Report) {
    let claimed = credentials.api_key();
    for (api_key, secrets) in explainer.secrets {
        for (what, secret, swapped) in secrets.iter().flat_map(variants) {
            if !made_by(&secret, credentials, swapped) {
                continue;
            }
            return near_miss(claimed, api_key, what, report);
        }
    }
    for other in explainer.rules.directory.callers() {
        if other.signed(credentials).into() {
            return near_miss(claimed, &other.api_key, None, report);
        }
        if other.signed_swapped(credentials).into() {
            return near_miss(claimed, &other.api_key, Some(SWAPPED), report);
        }
    }
}

/// What went wrong, in both languages.
type Mistake = (&'static str, &'static str);
const SWAPPED: Mistake = ("salt and date were swapped before signing", "서명할 때 salt와 date의 순서를 바꾸었습니다");
const LINE_END: Mistake =
    ("with a line end after it: a trailing newline in the client's secret", "비밀키 끝에 줄바꿈이 붙어 있습니다");
const TRIMMED: Mistake = (
    "without the white space around it that our configuration holds",
    "우리 설정에 있는 비밀키 앞뒤의 공백 없이 서명했습니다",
);

fn near_miss(claimed: &str, api_key: &str, what: Option<Mistake>, report: &mut Report) {
    let (english, korean) = match (api_key == claimed, what) {
        (true, None) => return,
        (true, Some((english, korean))) => (
            format!("it was made with the key's secret, but {english}"),
            format!("이 키의 비밀키로 서명했으나 {korean}"),
        ),
        (false, what) => {
            let (and, korean) = what.map_or_else(Default::default, |(english, korean)| {
                (format!(", and {english}"), format!(". 또한 {korean}"))
            });
            (
                format!("it was made with the secret of {api_key}{and}"),
                format!("{api_key}의 비밀키로 서명했습니다{korean}"),
            )
        }
    };
    report.note(NOTHING, &format!("near miss: {english}"), &format!("가까운 실수: {korean}"));
}

/// The variants of a secret that mistakes produce: what went wrong, the bytes, and whether date and salt were
/// swapped.
fn variants(secret: &Secret) -> Vec<(Option<Mistake>, Vec<u8>, bool)> {
    let bytes = secret.expose();
    let trimmed = bytes.trim_ascii();
    let mut variants = vec![
        (None, bytes.to_vec(), false),
        (Some(SWAPPED), bytes.to_vec(), true),
        (Some(LINE_END), [bytes, b"\n"].concat(), false),
        (Some(LINE_END), [bytes, b"\r\n"].concat(), false),
    ];
    if trimmed.len() < bytes.len() {
        variants.push((Some(TRIMMED), trimmed.to_vec(), false));
    }
    variants
}

fn made_by(secret: &[u8], credentials: &Credentials<'_>, swapped: bool) -> bool {
    let Ok(secret) = Secret::new(secret) else { return false };
    let key = SigningKey::new(&secret);
    let (date, salt, signature) = (credentials.date(), credentials.salt(), credentials.signature());
    let made = if swapped { key.verify_swapped(&date, salt, signature) } else { key.verify(&date, salt, signature) };
    made.into()
}
